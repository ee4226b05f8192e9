"""Read the configuration from its files, check it, and set defaults.

Errors are one line with the file, its line, the key, and the nearest valid key or value. The keys are
defined in attnseg.settings.
"""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from attnseg.config.places import where
from attnseg.config.references import check_references
from attnseg.config.resolved import merge, resolve_segmentor
from attnseg.errors import UserError
from attnseg.settings import Config
from attnseg.settings.base import Keys, dotted, explain, nearest_or_all, unknown_keys


def read_config(*files: str | Path) -> dict:
    """Read a configuration from `files`, later ones overriding earlier ones; check it, set defaults."""
    config: dict = {}
    for file in files:
        try:
            content = yaml.safe_load(Path(file).read_text())
        except OSError as error:
            raise UserError(
                f"{file}: {error.strerror}; name an existing configuration file"
            ) from None
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or getattr(error, "reason", error)
            line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
            raise UserError(f"{file}:{line}: not valid YAML: {problem}") from None
        except (ValueError, RecursionError) as error:  # no text, a date that is none, depth
            raise UserError(f"{file}: not valid YAML: {str(error)[:200]}") from None
        if not isinstance(content, dict):
            raise UserError(f"{file}: empty or not a mapping; write `key: value` lines")
        config = merge(config, content)
    return prepare(config, files)


def prepare(config: dict, files: Iterable[str | Path] = ()) -> dict:
    """Return a copy of `config`, checked, with inheritance resolved and defaults set.

    `files` are the files it was read from, for error messages.
    """
    files = list(files)
    config = copy.deepcopy(dict(config))
    for keys, valid in unknown_keys(Config, config):
        raise UserError(
            f"{where(keys, files)}: unknown key `{dotted(keys)}`{nearest_or_all(keys, valid)}"
        )
    given = config.get("segmentors") or {}
    # else it is said below
    if isinstance(given, Mapping) and all(isinstance(s or {}, Mapping) for s in given.values()):
        config["segmentors"] = {name: resolve_segmentor(config, name) for name in given}
    try:
        checked = Config.model_validate(config).dump()
    except ValidationError as error:
        keys, reason = explain(error, Config, config)
        place = f"`{dotted(keys)}`" if keys else "the configuration"
        raise UserError(
            f"{where(keys, files, _value_at(config, keys))}: {place}: {reason}"
        ) from None
    check_references(checked, files)
    return checked


def _value_at(config: Any, keys: Keys) -> object:
    """The value at `keys`, None where there is none."""
    for key in keys:
        try:
            config = config[key]
        except (KeyError, IndexError, TypeError):
            return None
    return config
