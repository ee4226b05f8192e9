"""The options --settings and --set, by which programs get the settings of their stage.

Rules pass an identity (see `Settings.identity`) with --settings, and with --set the keys that cannot
change a result. Users write --set key=value.
"""

import argparse
import json
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from attnseg.errors import UserError
from attnseg.settings.base import Settings, Stage, differing, options_of, read_settings, words


def add_settings(parser: argparse.ArgumentParser, cls: type[Settings]) -> None:
    """Add both options to a parser, and list the keys of `cls` in its help."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--settings",
        metavar="JSON",
        help="keys that differ from the defaults below: a JSON file, or JSON itself",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="keys that override --settings; values are JSON or plain text",
    )
    parser.epilog = "settings, each with its default:\n" + "\n".join(described(cls))


def described(cls: type[Settings], above: str = "") -> Iterator[str]:
    """Yield lines of help for the keys of a class."""
    for name, field in cls.model_fields.items():
        options = options_of(field.annotation)
        nested = [o for o in options if isinstance(o, type) and issubclass(o, Settings)]
        if not nested or len(options) > 1:
            default = field.get_default(call_default_factory=True)
            shown = json.dumps(default, default=lambda value: differing(value, speed=False))
            about = f"{field.description} {words(field.annotation)}, default {shown}"
            yield f"  {above}{name}"
            yield textwrap.fill(about, 96, initial_indent=" " * 6, subsequent_indent=" " * 6)
        for cls_below in nested:
            yield from described(cls_below, f"{above}{name}.")


def given_settings(args: argparse.Namespace, cls: type[Stage], where: str = "settings") -> Stage:
    """Read the settings from the command line and check them.

    Raises:
        UserError: for invalid JSON, an unknown key or an invalid value.
    """
    return read_settings(cls, given_values(args), where)


def given_values(args: argparse.Namespace) -> dict:
    """The mapping of --settings, overridden by --set."""
    values: dict = {}
    if args.settings is not None:
        literal = args.settings.lstrip().startswith("{")
        name = "--settings" if literal else f"--settings {args.settings}"
        try:
            values = json.loads(args.settings if literal else Path(args.settings).read_text())
        except OSError as problem:
            raise UserError(f"{name}: {problem.strerror}; name a JSON file") from None
        except (ValueError, RecursionError) as problem:
            raise UserError(f"{name}: not JSON ({problem}); correct it") from None
        if not isinstance(values, dict):
            raise UserError(f'{name}: must be a mapping; write {{"key": value}}')
    return assigned(args.set, values)


def assigned(assignments: Iterable[str], values: dict | None = None) -> dict:
    """The mapping `values`, with those of "key=value" in it."""
    values = {} if values is None else values
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: write KEY=VALUE")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        at = values
        *above, key = path.split(".")
        for name in above:
            if not isinstance(at.get(name), dict):
                at[name] = {}
            at = at[name]
        at[key] = value
    return values
