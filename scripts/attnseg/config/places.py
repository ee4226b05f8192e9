"""Where a configuration's files say something, for its errors."""

import os
from pathlib import Path

import yaml

from attnseg.errors import UserError
from attnseg.settings.base import Keys, dotted


def wrong(keys: Keys, files: list, reason: str) -> UserError:
    """The error that says where in `files` the key `keys` is, and what is wrong with it."""
    return UserError(f"{where(keys, files)}: `{dotted(keys)}`: {reason}")


def where(keys: Keys, files: list, value: object = None) -> str:
    """``file:line`` of the last file that sets `keys`, or ``config`` if none does.

    If `value` is given, only files with that value there count: --config may have overridden it.
    """
    for file in reversed(files):
        line, found = line_of(file, keys)
        if line is not None and value in (None, found):
            name = os.path.relpath(file)
            return f"{file if name.startswith('..') else name}:{line}"
    return "config"


def line_of(file: str | Path, keys: Keys) -> tuple[int | None, object]:
    """(line of `keys` in a YAML file, counted from 1; its value), or (None, None) if absent."""
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
