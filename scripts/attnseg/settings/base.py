"""The base class of settings: checks, one-line errors, and the identity that decides on reruns."""

import difflib
import functools
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    model_serializer,
)
from pydantic.fields import FieldInfo

from attnseg.errors import UserError
from attnseg.settings.code import STAGES, changed

Stage = TypeVar("Stage", bound="Settings")
Keys = tuple[str | int, ...]  # the way to a value: ("datasets", "voc", "splits", "val")

Natural = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Timestep = Annotated[int, Field(ge=0, le=999)]
# where blocks are: a share of the latent's grid, a part of a U-Net, or both, as in "1/2 decoder"
PLACE = r"^(1/\d+( (encoder|middle|decoder))?|encoder|middle|decoder)$"
Place = Annotated[str, Field(pattern=PLACE)]
Blocks = Annotated[list[Place | Natural], Field(min_length=1)]
SelfBlocks = Place | Natural | Blocks
Usual = Literal["usual"]
Scales = Annotated[list[Positive], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^\w+$")]
Folder = Annotated[str, Field(pattern=r"^[^{}]+$")]  # braces would be wildcards of Snakemake
# of these commands hold paths as they are
OutputFolder = Annotated[str, Field(pattern=r"^[\w./][\w./@%+=:,-]*$")]
MaskPath = Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]


def key(default: Any, meaning: str, *, papers: str = "", speed: bool = False, **bounds: Any) -> Any:
    """A key with its default (... where it must be given) and its meaning in one sentence.

    `papers`: values in the papers. `speed`: true if the key cannot change a result, so that changing
    it reruns nothing.
    """
    if isinstance(default, list | dict):
        bounds["default_factory"] = functools.partial(type(default), default)
    else:
        bounds["default"] = default
    notes: dict[str, Any] = ({"x-papers": papers} if papers else {}) | (
        {"x-speed": True} if speed else {}
    )
    return Field(description=meaning, json_schema_extra=notes or None, **bounds)


def part(cls: type["Settings"], meaning: str | None = None) -> Any:
    """Define a key that is a mapping; its meaning is by default the docstring of its class."""
    return Field(default_factory=cls, description=meaning or cls.__doc__)


def same_as(cls: type["Settings"], name: str) -> Any:
    """A key of another class, here as well."""
    return cls.model_fields[name]


def notes(field: FieldInfo) -> dict:
    """`x-papers` and `x-speed` of a field, where it has them."""
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


class Settings(BaseModel):
    """Settings of a stage; a subclass is the only definition of its keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    # to be raised whenever a default, or code that affects the stage's results, changes
    version: ClassVar[int] = 1

    def dump(self) -> dict:
        """All keys, as plain values."""
        return self.model_dump()

    def identity(self) -> dict:
        """The settings on which a result depends; if they change, it is made again.

        These are the stage's version, and the keys that differ from their defaults and can change a
        result. `read_settings` is the inverse.
        """
        return {"version": self.version} | differing(self, speed=False)

    def record(self) -> dict:
        """The identity that programs keep with what they make: also of the code, where it was edited
        since somebody decided on its version (attnseg.settings.code)."""
        stages = [cls.__name__ for cls in type(self).__mro__ if cls.__name__ in STAGES.values()]
        edited = changed(stages[0])
        return self.identity() | ({"code": edited} if edited else {})

    @classmethod
    def defaults(cls) -> dict:
        """The defaults of the keys that can change a result, as text."""
        return {
            name: repr(field.get_default(call_default_factory=True))
            for name, field in cls.model_fields.items()
            if not notes(field).get("x-speed")
        }

    def speed(self) -> dict:
        """Keys that differ from their defaults and cannot change a result."""
        return differing(self, speed=True)

    def but(self, **values: Any) -> Self:
        """The same with other values, checked."""
        return read_settings(type(self), self.dump() | values, type(self).__name__.lower())


def differing(settings: Settings, speed: bool) -> dict:
    """Keys that differ from their defaults: with `speed` those that cannot change a result."""
    found = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        default = field.get_default(call_default_factory=True)
        if isinstance(value, Settings):
            inner = differing(value, speed)
            if inner or not (speed or isinstance(default, Settings)):
                found[name] = inner
        elif value != default and bool(notes(field).get("x-speed")) == speed:
            found[name] = value
    return found


def overrides_of(
    name: str,
    cls: type[Settings],
    where: Mapping[str, str],
    at: str,
    more: Mapping[str, tuple[Any, Any]] | None = None,
) -> type:
    """Create the class `name` with the keys of `cls`, all optional; it dumps only those given.

    `where`: the overridden key of each key; by default `at` followed by the key. `more`: further keys, with
    the type and the field of each.
    """
    fields: dict[str, Any] = dict(more or {})
    for key_, field in cls.model_fields.items():
        overridden = where.get(key_, f"{at}.{key_}")
        annotation: Any = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Settings):
            inner = overrides_of(f"{name}{annotation.__name__}", annotation, {}, overridden)
            fields[key_] = inner, part(inner)
            continue
        for bound in field.metadata:
            annotation = Annotated[annotation, bound]
        about: dict[str, Any] = {
            "description": f"Overrides {overridden}.",
            "json_schema_extra": {"x-override": True},
        }
        fields[key_] = annotation, Field(None, **about)
    made = create_model(name, __base__=Overrides, **fields)
    made.__doc__ = f"Overrides of {at}; absent keys have its values."
    return made


class Overrides(Settings):
    """Overrides of another class's keys; only the given ones are dumped."""

    @model_serializer(mode="wrap")
    def only_given(self, dump: SerializerFunctionWrapHandler) -> dict:
        return {name: value for name, value in dump(self).items() if name in self.model_fields_set}


# -- one-line errors


def read_settings(cls: type[Stage], values: object, where: str = "") -> Stage:
    """`cls` of a plain mapping, such as an identity or a record, checked.

    Raises:
        UserError: if a key or value is invalid; the message starts with `where`, and names the key
            and valid values.
    """
    at = f"{where}." if where else ""
    if not isinstance(values, Mapping):
        raise UserError(f"{where or 'settings'}: must be a mapping, not {values!r}")
    values = dict(values)
    values.pop("code", None)  # of a record
    made_for = values.pop("version", cls.version)
    if made_for != cls.version:
        raise UserError(
            f"{at}version: made for version {made_for} of these settings, this is {cls.version}; "
            "make them again with this release"
        )
    for keys, valid in unknown_keys(cls, values):
        raise UserError(f"{at}{dotted(keys)}: no such key{nearest_or_all(keys, valid)}")
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        keys, reason = explain(error, cls, values)
        name = f"{at}{dotted(keys)}" if keys else where or "settings"
        raise UserError(f"{name}: {reason}") from None


def unknown_keys(annotation: object, value: object, at: Keys = ()) -> Iterator[tuple[Keys, list]]:
    """Yield each unknown key of `value` and the keys valid in its place."""
    for option in options_of(annotation):
        origin, arguments = typing.get_origin(option), typing.get_args(option)
        if isinstance(option, type) and issubclass(option, Settings) and isinstance(value, Mapping):
            for name, item in value.items():
                if name not in option.model_fields:
                    yield (*at, name), list(option.model_fields)
                else:
                    inner = option.model_fields[name].annotation
                    yield from unknown_keys(inner, item, (*at, name))
        elif origin is dict and isinstance(value, Mapping):
            for name, item in value.items():
                yield from unknown_keys(arguments[1], item, (*at, name))
        elif origin is list and isinstance(value, list):
            for i, item in enumerate(value):
                yield from unknown_keys(arguments[0], item, (*at, i))


def options_of(annotation: object) -> list:
    """The alternatives of a union, without Annotated."""
    while typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return [o for option in typing.get_args(annotation) for o in options_of(option)]
    return [annotation]


def words(annotation: object) -> str:
    """Describe the types of a key: "integer or null"."""
    plain = {
        int: "integer",
        float: "number",
        bool: "true or false",
        str: "text",
        types.NoneType: "null",
        object: "value",
    }
    names = []
    for option in options_of(annotation):
        origin, arguments = typing.get_origin(option), typing.get_args(option)
        if origin is list:
            names.append(f"list of {words(arguments[0])}")
        elif origin is Literal:
            names.append(" or ".join(map(str, arguments)))
        else:
            names.append(plain.get(option, "mapping"))
    return " or ".join(names)


def annotation_at(annotation: object, keys: Keys) -> object:
    """The type of the value at `keys` below a class."""
    for name in keys:
        for option in options_of(annotation):
            if isinstance(option, type) and issubclass(option, Settings):
                field = option.model_fields.get(str(name))
                annotation = field.annotation if field else object
            elif typing.get_origin(option) in (dict, list):
                annotation = typing.get_args(option)[-1]
    return annotation


def explain(error: ValidationError, cls: type[Settings], values: object) -> tuple[Keys, str]:
    """The keys of the first invalid value, and the reason."""
    errors = error.errors(include_url=False)  # a union's: of each of its types
    first = next((each for each in errors if not each["type"].endswith("_type")), errors[0])
    kind, value, bounds = first["type"], first["input"], first.get("ctx", {})
    keys: Keys = ()
    at: Any = values
    for name in first["loc"]:  # the rest, where there is one, names an option of a union
        inside = name in at if isinstance(at, Mapping) else isinstance(name, int)
        if not inside:
            break
        keys, at = (*keys, name), at[name]
    shown = repr(value) if len(repr(value)) < 60 else "this value"
    if first["loc"] and first["loc"][-1] == "[key]":
        pattern = bounds.get("pattern", "")
        return keys, f"{keys[-1]!r} cannot be a name; write letters, digits and _ ({pattern})"
    match kind:
        case "missing":
            return keys, f"`{first['loc'][-1]}` is missing; set it"
        case "literal_error":
            choices = re.findall(r"'([^']*)'|(\d+)", bounds["expected"])
            choices = [text or number for text, number in choices]
            return keys, f"{shown} is not one of {', '.join(choices)}{nearest(str(value), choices)}"
        case "greater_than":
            return keys, f"{shown} is too small; must be more than {plain_number(bounds['gt'])}"
        case "greater_than_equal":
            return keys, f"{shown} is too small; must be at least {plain_number(bounds['ge'])}"
        case "less_than_equal":
            return keys, f"{shown} is too large; must be at most {plain_number(bounds['le'])}"
        case "too_short":
            return keys, f"{shown} is too short; must have at least {bounds['min_length']}"
        case "value_error":
            return (*keys, *bounds["error"].args[1:]), str(bounds["error"].args[0])
        case "string_pattern_mismatch":
            return keys, f"{shown} does not match {bounds['pattern']}"
    if keys == ("targets",):
        return keys, f"{shown}: write `all` or a list (--config targets='[voc_table1]')"
    if kind.endswith("_type") or kind == "int_from_float":
        return keys, f"expected {words(annotation_at(cls, keys))}, not {shown}"
    return keys, f"{shown}: {first['msg']}"


def plain_number(value: float) -> str:
    """Format a number, 0.0 as 0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def nearest(name: str, valid: Iterable[str], above: Iterable[str | int] = ()) -> str:
    """'; did you mean ...' if a similar name is valid, else ''; `above` is prepended to it."""
    names = [str(key) for key in valid]
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean `{dotted((*above, match[0]))}`?" if match else ""


def nearest_or_all(keys: Keys, valid: list[str]) -> str:
    """A hint with the nearest valid key, or with all if none is similar."""
    *above, name = keys
    return nearest(str(name), valid, above) or f"; valid are {', '.join(sorted(valid))}"


def dotted(keys: Iterable[str | int]) -> str:
    return ".".join(map(str, keys))
