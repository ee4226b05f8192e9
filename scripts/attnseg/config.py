"""The workflow's configuration: reading, checking, and what a named variant or segmentor means.

A mistake in a configuration file is one line that names the file, the line in it, the key, and the
nearest valid key or the value that would do.
"""

import copy
import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from attnseg.errors import UserError

Keys = tuple[str | int, ...]  # the way to a value: ("datasets", "voc", "splits", "val")


def read_config(*files: str | Path, schema: str | Path) -> dict:
    """The configuration in `files`, later ones over earlier ones, checked, with every default set."""
    config: dict = {}
    for file in files:
        try:
            content = yaml.safe_load(Path(file).read_text())
        except OSError as error:
            raise UserError(
                f"{file}: {error.strerror}; name an existing configuration file"
            ) from None
        except yaml.YAMLError as error:
            line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
            raise UserError(f"{file}:{line}: not valid YAML: {error.problem}") from None
        if not isinstance(content, dict):
            raise UserError(f"{file}: empty or not a mapping; write `key: value` lines")
        config = merge(config, content)
    return prepare(config, schema, files)


def prepare(config: dict, schema: str | Path, files: Iterable[str | Path] = ()) -> dict:
    """`config` checked against `schema`, inheritance resolved, defaults set. Changes nothing in place.

    `files` are the files it was read from, for the messages.
    """
    files = list(files)
    rules = yaml.safe_load(Path(schema).read_text())
    config = copy.deepcopy(dict(config))
    _reject_unknown_keys(config, rules, files)
    config["segmentors"] = {
        name: resolve_segmentor(config, name) for name in config.get("segmentors") or {}
    }
    config = _validated(config, rules, files)
    _check_references(config, files)
    return config


def merge(base: Mapping, over: Mapping) -> dict:
    """`base` with the values of `over` in place of its own, mapping by mapping."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def resolve_variant(config: Mapping, name: str) -> dict:
    """All settings of the extraction under the variant `name`.

    The keys of `extraction`, and with them `seed`, `profile`, `cross_blocks` and `self_block`, which
    a variant may override as well.
    """
    variants = config["variants"]
    if name not in variants:
        raise UserError(
            f"unknown variant {name!r}{_nearest(name, variants)}; a variant is an entry of "
            f"`variants` in the configuration ({', '.join(variants)})"
        )
    base = {
        **config["extraction"],
        "seed": config["seed"],
        "profile": config["profile"],
        "cross_blocks": config["model"]["cross_blocks"],
        "self_block": config["model"]["self_block"],
    }
    return merge(base, variants[name] or {})


def resolve_segmentor(config: Mapping, name: str) -> dict:
    """The settings of a segmentor, those that it `extends` filled in."""
    seen: list[str] = []
    chain: list[Mapping] = []
    segmentors = config["segmentors"]
    while name is not None:
        if name in seen:
            raise UserError(f"segmentors {', '.join(seen)} extend each other; remove one `extends`")
        if name not in segmentors:
            where = f"segmentors.{seen[-1]}.extends: " if seen else ""
            raise UserError(
                f"{where}no segmentor {name!r}{_nearest(name, segmentors)}; "
                f"configured are {', '.join(segmentors)}"
            )
        seen.append(name)
        chain.append(segmentors[name] or {})
        name = chain[-1].get("extends")
    resolved: dict = {}
    for settings in reversed(chain):
        resolved = merge(resolved, settings)
    resolved.pop("extends", None)
    return resolved


# -- checks


def _reject_unknown_keys(config: dict, rules: dict, files: list) -> None:
    for keys, valid in _unknown(config, rules, rules, ()):
        *above, key = keys
        hint = _nearest(str(key), valid, above) or f"; valid are {', '.join(sorted(valid))}"
        raise UserError(f"{_where(keys, files)}: unknown key `{_dotted(keys)}`{hint}")


def _unknown(value: object, schema: dict, root: dict, at: Keys) -> Iterator[tuple[Keys, list[str]]]:
    """Each key of `value` that `schema` does not know, and the keys valid in its place."""
    branches = list(_branches(schema, root))
    if isinstance(value, list):
        items = next((branch["items"] for branch in branches if "items" in branch), {})
        for i, item in enumerate(value):
            yield from _unknown(item, items, root, (*at, i))
    if not isinstance(value, Mapping):
        return
    mappings = [
        branch for branch in branches if "properties" in branch or "object" in _types(branch)
    ]
    properties: dict = {}
    others: object = True if not mappings else False
    for branch in mappings:
        properties |= branch.get("properties", {})
        others = branch.get("additionalProperties", others)
    for key, item in value.items():
        if key in properties:
            yield from _unknown(item, properties[key], root, (*at, key))
        elif isinstance(others, dict):
            yield from _unknown(item, others, root, (*at, key))
        elif not others:
            yield (*at, key), list(properties)


def _branches(schema: dict, root: dict) -> Iterator[dict]:
    """`schema` itself, what it refers to and its alternatives."""
    if "$ref" in schema:
        yield from _branches(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    for option in schema.get("anyOf", []) + schema.get("oneOf", []):
        yield from _branches(option, root)
    yield schema


def _types(schema: dict) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else types


def _validated(config: dict, rules: dict, files: list) -> dict:
    # imported here, so that a program that only resolves variants needs no jsonschema
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from jsonschema.validators import extend

    check_properties = Draft202012Validator.VALIDATORS["properties"]

    def set_defaults(validator, properties, instance, schema):
        if isinstance(instance, dict):
            for key, value in properties.items():
                if "default" in value:
                    instance.setdefault(key, copy.deepcopy(value["default"]))
        yield from check_properties(validator, properties, instance, schema)

    validator = extend(Draft202012Validator, {"properties": set_defaults})(rules)
    error = best_match(validator.iter_errors(config))
    if error is not None:
        keys = tuple(error.absolute_path)
        place = f"`{_dotted(keys)}`" if keys else "the configuration"
        raise UserError(f"{_where(keys, files, error.instance)}: {place}: {_reason(error)}")
    return config


def _reason(error) -> str:
    """A schema violation in words."""
    value = repr(error.instance) if len(repr(error.instance)) < 60 else "this value"
    match error.validator:
        case "enum":
            near = _nearest(str(error.instance), map(str, error.validator_value))
            return f"{value} is none of {', '.join(map(str, error.validator_value))}{near}"
        case "type":
            types = error.validator_value
            names = [types] if isinstance(types, str) else types
            return f"{value} is no {' or '.join(names)}"
        case "exclusiveMinimum":
            return f"{value} is too small; more than {error.validator_value}"
        case "minimum":
            return f"{value} is too small; at least {error.validator_value}"
        case "maximum":
            return f"{value} is too large; at most {error.validator_value}"
        case "anyOf" if list(error.absolute_path) == ["targets"]:
            return f"{value}: write `all` or a list (--config targets='[voc_table1]')"
    return error.message


def _check_references(config: dict, files: list) -> None:
    """Names that point at another part of the configuration exist there."""
    uses = {("pictures", name): shown for name, shown in config["pictures"].items()}
    uses["figures", "voc_figure_d9"] = config["figures"]["voc_figure_d9"]
    for name in config["leave_out"]:
        _require(name, config["segmentors"], ("leave_out", name), files)
    for name, segmentor in config["segmentors"].items():
        uses["segmentors", name, "train"] = segmentor["train"]
    for at, train in uses.items():
        _require(train["dataset"], config["datasets"], (*at, "dataset"), files)
        if train.get("synthesis") is not None:
            _check_synthetic(config, train, at, files)
            continue
        splits = config["datasets"][train["dataset"]]["splits"]
        _require(train["split"], splits, (*at, "split"), files)
        if train["masks"] != "truth":
            variant, _, refinement = train["masks"].partition("/")
            inverted = variant in config["inversions"]
            known = config["labellings" if inverted else "refinements"]
            names = [*config["variants"], *config["inversions"]]
            _require(variant, dict.fromkeys(names), (*at, "masks"), files)
            _require(refinement, known, (*at, "masks"), files)
    _check_figures(config, files)
    for name, synthesis in config["synthesis"].items():
        _require(synthesis["dataset"], config["datasets"], ("synthesis", name, "dataset"), files)
        if synthesis["lora"] is not None:
            _require(synthesis["lora"], config["loras"], ("synthesis", name, "lora"), files)
    for name, lora in config["loras"].items():
        _require(lora["dataset"], config["datasets"], ("loras", name, "dataset"), files)
        splits = config["datasets"][lora["dataset"]]["splits"]
        _require(lora["split"], splits, ("loras", name, "split"), files)
    features = config["personalised"]["features"]
    if features is not None:
        _require(features, config["segmentors"], ("personalised", "features"), files)
    for name in config["inversions"]:
        if name in config["variants"]:
            raise UserError(
                f"{_where(('inversions', name), files)}: `inversions.{name}` is the name of a variant, "
                "too, and their masks would share a folder; rename one"
            )


def _check_figures(config: dict, files: list) -> None:
    """The masks that the figures are drawn from can be made."""
    shown, keys = config["figures"]["voc_figure_2"], ("figures", "voc_figure_2")
    _require(shown["dataset"], config["datasets"], (*keys, "dataset"), files)
    splits = config["datasets"][shown["dataset"]]["splits"]
    _require(shown["split"], splits, (*keys, "split"), files)
    _require(shown["variant"], config["variants"], (*keys, "variant"), files)
    at = ("figures", "voc_figure_b8")
    figure = config["figures"]["voc_figure_b8"]
    for curve, points in figure["curves"].items():
        _require(figure["dataset"], config["datasets"], (*at, "dataset"), files)
        splits = config["datasets"][figure["dataset"]]["splits"]
        _require(figure["split"], splits, (*at, "split"), files)
        for i, point in enumerate(points):
            variant, _, refinement = point["masks"].partition("/")
            keys = (*at, "curves", curve, i, "masks")
            _require(variant, config["variants"], keys, files)
            _require(refinement, config["refinements"], keys, files)


def _check_synthetic(config: dict, train: dict, at: Keys, files: list) -> None:
    """What a segmentor of generated images names exists, and enough of it."""
    _require(train["synthesis"], config["synthesis"], (*at, "synthesis"), files)
    _require(train["masks"], config["labellings"], (*at, "masks"), files)
    synthesis = config["synthesis"][train["synthesis"]]
    keys = (*at, "images")
    if train["split"] is not None:
        raise UserError(
            f"{_where((*at, 'split'), files)}: `{_dotted((*at, 'split'))}`: generated images have no "
            "split; set it to null, or `synthesis`"
        )
    if synthesis["dataset"] != train["dataset"]:
        raise UserError(
            f"{_where((*at, 'dataset'), files)}: `{_dotted((*at, 'dataset'))}`: "
            f"synthesis.{train['synthesis']} has the classes of {synthesis['dataset']}; name that"
        )
    if (train["images"] or 1) > synthesis["count"]:
        raise UserError(
            f"{_where(keys, files)}: `{_dotted(keys)}`: {train['images']} of the {synthesis['count']} "
            f"images of synthesis.{train['synthesis']}; raise its count"
        )


def _require(name: str, known: Mapping, keys: Keys, files: list) -> None:
    if name not in known:
        raise UserError(
            f"{_where(keys, files)}: `{_dotted(keys)}`: {name!r} is not configured"
            f"{_nearest(name, known)}; configured are {', '.join(known)}"
        )


def _nearest(name: str, valid: Iterable[str], above: Iterable[str | int] = ()) -> str:
    """'; did you mean ...' where something similar is valid, else ''. `above` is put before it."""
    names = [str(key) for key in valid]
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean `{_dotted((*above, match[0]))}`?" if match else ""


def _dotted(keys: Keys) -> str:
    return ".".join(map(str, keys))


def _where(keys: Keys, files: list, value: object = None) -> str:
    """The file and line that set the value at `keys`, the last file first; `config` where none did.

    With a `value`, only a file that has this value there counts: --config may have set another.
    """
    for file in reversed(files):
        line, found = line_of(file, keys)
        if line is not None and value in (None, found):
            name = os.path.relpath(file)
            return f"{file if name.startswith('..') else name}:{line}"
    return "config"


def line_of(file: str | Path, keys: Keys) -> tuple[int | None, object]:
    """(the line, from 1, at which `keys` stands in a YAML file, its value); (None, None) without."""
    try:
        text = Path(file).read_text()
        node, value = yaml.compose(text), yaml.safe_load(text)
    except (OSError, yaml.YAMLError):
        return None, None
    line = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(key)]
            if not found or key not in value:
                return None, None
            line = found[0][0].start_mark.line + 1
            node = found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            return None, None
        value = value[key]
    return line, value
