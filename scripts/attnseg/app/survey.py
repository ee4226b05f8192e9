"""Which data sets are here, complete or missing, and what each missing thing blocks."""

from pathlib import Path

from attnseg import datasets
from attnseg.datasets import completeness


def survey(config: dict, entries: dict) -> tuple[list[tuple[str, ...]], list[str]]:
    """The table's rows, and what to do about what is not complete, a line each."""
    rows: list[tuple[str, ...]] = []
    advice: list[str] = []
    for name, settings in config["datasets"].items():
        dataset, root = datasets.load(name, settings), Path(settings["root"])
        entry = completeness.entry_of(dataset, entries)
        if not root.is_dir():
            advice.append(f"{name}: no folder {root}; {remedy(name, settings, entry)}")
        for split, wanted in settings["splits"].items():
            masks = wanted["truth"] and split not in entry.get("splits_without_masks", [])
            state = completeness.split_state(dataset, root, split, wanted["images"], masks=masks)
            count = wanted["images"]
            name_and_counts = (
                name,
                split,
                f"{state.listed:,}",
                f"{state.photos:,}/{count:,}",
                f"{state.masks:,}/{count:,}" if masks else "-",
            )
            if not state.problem:
                rows.append((*name_and_counts, "complete", ""))
                continue
            kind = "incomplete" if state.listed else "missing"
            blocks = blocked_by(entry, split) if settings["source"] != "mini_world" else "all"
            rows.append((*name_and_counts, kind, blocks))
            if root.is_dir():
                advice.append(f"{name} {split}: {state.problem}; {remedy(name, settings, entry)}")
    for name, entry in entries.items():
        if name not in config["datasets"]:
            rows.append(
                (name, "-", "-", "-", "-", "not configured", shortened(entry["needed_for"]))
            )
    return rows, advice


def blocked_by(entry: dict, split: str) -> str:
    """The results that need a split: as its part says, otherwise the targets made from the data set."""
    parts = completeness.parts_of(entry, [split]) if entry else {}
    told = [part["blocks"] for part in parts.values() if "blocks" in part]
    return told[0] if told else shortened(entry.get("needed_for", [])) or "whatever uses it"


def shortened(targets: list[str], shown: int = 2) -> str:
    """The first targets, and how many more."""
    more = f" and {len(targets) - shown} more" if len(targets) > shown else ""
    return ", ".join(targets[:shown]) + more


def remedy(name: str, settings: dict, entry: dict) -> str:
    if settings["source"] == "mini_world":
        return "run: make mini (rule build_mini_world)"
    if settings["source"] == "folder" or not entry:
        layout = f" (its layout: {entry['layout']})" if "layout" in entry else ""
        return f"put it in {settings['root']}, or set datasets.{name}.root{layout}"
    if entry.get("account"):
        return f"{entry['how']} {entry['site']}; or set datasets.{name}.root to where it lies"
    return (
        f"the rule download_dataset gets it ({entry['site']}), or set datasets.{name}.root to "
        "where it lies"
    )
