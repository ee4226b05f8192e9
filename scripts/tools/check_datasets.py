#!/usr/bin/env python3
"""List which data sets are complete, and the targets blocked by missing ones.

    python scripts/tools/check_datasets.py
    python scripts/tools/check_datasets.py --configfile config/mini.yaml

Reads the splits and folders of the configuration, and config/datasets.yaml for where data comes from.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attnseg import datasets
from attnseg.config import read_config
from attnseg.datasets import completeness
from attnseg.errors import run

REPOSITORY = Path(__file__).resolve().parents[2]
HEAD = ("data set", "split", "list", "photos", "masks", "state", "blocks")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[],
        help="configuration files over config/config.yaml, later ones over earlier ones",
    )
    parser.add_argument("--registry", type=Path, default=completeness.REGISTRY)
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 where something configured is missing"
    )
    args = parser.parse_args(argv)
    base = REPOSITORY / "config" / "config.yaml"
    files = [base, *(file for file in args.configfile if file.resolve() != base)]
    config = read_config(*files)
    rows, advice = survey(config, completeness.read_registry(args.registry))
    print(table([HEAD, *rows]))
    for line in advice:
        print(line)
    configured = [row for row in rows if row[5] != "not configured"]
    return int(args.strict and any(row[5] != "complete" for row in configured))


def survey(config: dict, entries: dict) -> tuple[list[tuple[str, ...]], list[str]]:
    """The table's rows, and one line per incomplete data set about what to do."""
    rows, advice = [], []
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
    """Targets that need a split: those of its part or, by default, of the data set."""
    parts = completeness.parts_of(entry, [split]) if entry else {}
    blocked = [part["blocks"] for part in parts.values() if "blocks" in part]
    return blocked[0] if blocked else shortened(entry.get("needed_for", [])) or "whatever uses it"


def shortened(targets: list[str], shown: int = 2) -> str:
    """The first targets, and the number of further ones."""
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


def table(rows: list[tuple[str, ...]]) -> str:
    """Format rows as text, with aligned columns and numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if 2 <= i <= 4 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(main))
