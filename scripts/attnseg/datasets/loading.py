"""Load a data set by its name, or from its entry of `datasets` in the configuration.

An entry describes a data set of your own, changes one of this package's, or names a Python file that
exports a `DATASET`.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnseg.datasets.dataset import SHIPPED, Dataset, shipped
from attnseg.errors import WRONG, UserError, readable
from attnseg.io.files import parsed
from attnseg.io.modules import load_module

HELP = "name of a data set of this package, or JSON of one of your own (its entry in the configuration, and `key`)"
# keys of an entry of `datasets` in the configuration that describe the data set itself
FACTS = (
    "layout", "file", "classes", "background", "palette", "photos", "masks", "mask_values", "lists",
    "annotations", "synonyms", "background_words", "prompt", "exif",
)  # fmt: skip


def load(name: str, settings: Mapping | None = None) -> Dataset:
    """Load a data set.

    Args:
        name: of this package's data sets or, with `settings`, any name. Or an entry as JSON with the
            name in `key`, as made by `argument`; or a configuration file with one data set.
        settings: its entry in the configuration.

    Raises:
        UserError: if the name is unknown, or the settings are invalid or contradictory.
    """
    if name.lstrip().startswith("{"):
        try:
            entry = parsed(name)
            name, settings = str(entry.pop("key")), entry
        except (ValueError, KeyError) as problem:
            raise UserError(f"--dataset {name[:300]}: not JSON with a `key` ({problem})") from None
    elif name.endswith((".yaml", ".yml")):
        name, settings = _of_configuration(Path(name))
    facts = {key: value for key, value in (settings or {}).items() if value is not None}
    where = f"datasets.{name}"
    if "file" in facts:
        dataset, layout = _of_file(Path(facts["file"]), where), ""
    elif facts.get("layout", name) in SHIPPED:
        layout = facts.get("layout", name)
        dataset = shipped(layout)
    elif "layout" in facts or "classes" not in facts:
        close = difflib.get_close_matches(facts.get("layout", name), SHIPPED, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        raise UserError(
            f"{where}: no such data set; give it `classes`, or a `layout`: {', '.join(SHIPPED)}{hint}"
        )
    else:
        dataset, layout = Dataset(name, exif="turn"), ""
    own: dict[str, Any] = {key: _frozen(facts[key]) for key in FACTS[2:] if key in facts}
    if "background" in own and "background_words" not in own:
        own["background_words"] = None
    with readable(where, "correct the entry"):
        dataset = replace(dataset, name=name, layout=layout, **own)
        _check(dataset, where)
    source = facts.get("labels")
    if source is not None:
        if source not in dataset.label_sources:
            known = ", ".join(dataset.label_sources)
            raise UserError(f"{where}.labels: {source!r}: choose one of {known or 'none'}")
        others = tuple(other for other in dataset.label_sources if other != source)
        dataset = replace(dataset, label_sources=(source, *others))
    return dataset


def argument(name: str, settings: Mapping) -> str | dict:
    """The `--dataset` argument of a program: a name or, if that is not enough, a mapping for `load`."""
    own = {key: settings[key] for key in FACTS if settings.get(key) is not None}
    return {"key": name, **own} if own else name


def _of_configuration(path: Path) -> tuple[str, dict]:
    """The name and the entry of the one data set of a configuration file."""
    import yaml  # not at the top: `attnseg predict` does without it

    try:
        ((name, entry),) = yaml.safe_load(path.read_text())["datasets"].items()
        return str(name), dict(entry)
    except OSError as problem:
        raise UserError(f"--dataset {path}: {problem.strerror}; correct the path") from None
    except (yaml.YAMLError, *WRONG):
        raise UserError(f"--dataset {path}: not a configuration of one data set") from None


def _of_file(path: Path, where: str) -> Dataset:
    wrong = f"{where}.file: {path}: no such Python file"
    module = load_module(path, "attnseg_dataset", wrong)
    dataset = getattr(module, "DATASET", None)
    if not isinstance(dataset, Dataset):
        raise UserError(f"{where}.file: {path}: does not define DATASET, a Dataset")
    return dataset


def _check(dataset: Dataset, where: str) -> None:
    classes = dataset.classes
    if len(set(classes)) < len(classes) or len(classes) + dataset.background > dataset.ignored:
        raise UserError(f"{where}.classes: give at most 254 names, without repeats")
    values = dataset.mask_values
    if values and (len(values) != len(classes) or len(set(values)) < len(values)):
        raise UserError(f"{where}.mask_values: give one number per class, without repeats")
    for key in ("photos", "masks", "annotations"):
        pattern = getattr(dataset, key)
        if key == "annotations" and (pattern or "").endswith(".json") and "{" not in pattern:
            continue  # one COCO file
        if pattern is not None and set(re.findall(r"\{(.*?)\}", pattern)) - {"split"} != {"id"}:
            raise UserError(
                f"{where}.{key}: {pattern}: the pattern must contain {{id}}, and may contain {{split}} "
                "but no other braces"
            )
    if "{}" not in dataset.prompt:
        raise UserError(f"{where}.prompt: {dataset.prompt}: write {{}} in place of the class")
    unknown = [name for name in dataset.synonyms if classes and name not in classes]
    if unknown and not dataset.layout:
        raise UserError(f"{where}.synonyms: {unknown[0]!r} is not one of its classes")


def _frozen(value: object) -> object:
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value
