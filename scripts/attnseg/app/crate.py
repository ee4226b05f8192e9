"""How results were made, in a form that others can check: a Provenance Run Crate.

    attnseg crate results/voc_table1.csv --output table1.zip
    attnseg crate results/mini

The archive has the results, the workflow, the programs that were run and all small files between them, and
ro-crate-metadata.json, which says of each job what it read and wrote, with SHA-256, its command and what it
cost, of the whole its packages, machine, licences and papers. Photos, models, attention and masks are not
in it, but named with their SHA-256. Give the command where Snakemake ran, while its folder `work` is there.
`rocrate-validator validate ARCHIVE` (pip install roc-validator) checks it.
"""

import argparse
import json
import zipfile
from pathlib import Path
from urllib.parse import unquote

from attnseg.app.options import clone
from attnseg.errors import UserError
from attnseg.io.files import write_atomically

PROVENANCE = ".provenance.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULT",
        help="results/<target>.csv, or the folder of results for all, with pictures and report",
    )
    parser.add_argument(
        "--output", type=Path, help="the archive (default: crate.zip beside the first result)"
    )


def provenance_of(result: Path) -> Path:
    """The record beside a result."""
    path = result.parent / f"{result.name.split('.')[0]}{PROVENANCE}"
    if not result.is_file() or not path.is_file():
        raise UserError(f"{result}: not a result of the workflow with its {path.name} beside it")
    return path


def main(args: argparse.Namespace) -> int:
    from attnseg.results.crate import crate

    first = args.results[0]
    output = args.output or (first if first.is_dir() else first.parent) / "crate.zip"
    if output.suffix != ".zip":
        raise UserError(f"--output {output}: a zip archive; name it ....zip")
    targets: list[Path] = []
    pictures: list[Path] = []
    for path in args.results:
        found = sorted(path.glob(f"*{PROVENANCE}")) if path.is_dir() else [provenance_of(path)]
        if not found:
            raise UserError(f"{path}: no result of the workflow (<target>{PROVENANCE}) is there")
        targets += [one for one in found if one not in targets]
        pictures += sorted(path.iterdir()) if path.is_dir() else []
    content, files = crate(clone("attnseg crate"), targets, pictures)
    with (
        write_atomically(output) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.writestr("ro-crate-metadata.json", json.dumps(content, indent=1) + "\n")
        for name, path in files.items():
            archive.write(path, unquote(name))
    jobs = sum(entity["@type"] == "ControlAction" for entity in content["@graph"])
    print(f"{output}: {jobs} jobs, {len(files)} files")
    return 0
