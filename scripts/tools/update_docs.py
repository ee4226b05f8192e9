#!/usr/bin/env python3
"""Copy tables and the ledger of a run into README.md and docs/*.md.

    make mini-all && python scripts/tools/update_docs.py

What stands between <!-- results TARGET ... --> and <!-- end --> is replaced by these tables as the
terminal shows them; `claims` is the ledger, `summary` its one line with the revision of its code. A
target that the run does not have is left as it is, and named.
"""

import argparse
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attnseg.errors import UserError, run
from attnseg.io.files import write_atomically
from attnseg.results import ledger, render

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(<!-- results (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
WIDTH = 110


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", type=Path, nargs="?", default=REPOSITORY / "results" / "mini", help="of a run"
    )
    args = parser.parse_args(argv)
    if not args.results.is_dir():
        raise UserError(f"{args.results}: no such folder of results; run make mini-all")
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))):
        before = path.read_text()
        after = updated(before, args.results)
        if after != before:
            with write_atomically(path) as partial:
                partial.write_text(after)
            print(f"{path.relative_to(REPOSITORY)} has the values of {args.results}")
    return 0


def updated(text: str, results: Path) -> str:
    """Fill the blocks of a document from a folder of results."""

    def filled(block: re.Match) -> str:
        names = block[2].split()
        parts = [part for name in names if (part := part_of(name, results)) is not None]
        if len(parts) < len(names):
            print(f"left as it is, for {results} has not all: {' '.join(names)}", file=sys.stderr)
            return block[0]
        return f"{block[1]}{''.join(parts)}{block[3]}"

    return BLOCK.sub(filled, text)


def part_of(name: str, results: Path) -> str | None:
    """A table, the ledger or its summary, as Markdown; None if it was not made."""
    path = results / f"{'claims' if name == 'summary' else name}.csv"
    if not path.is_file():
        return None
    if name == "summary":
        rows = ledger.read_ledger(path)
        return f"{ledger.summary(rows)} (revision {revision(path)}).\n"
    text = ledger.text(path, WIDTH) if name == "claims" else render.text(path, WIDTH)
    return f"```\n{text.rstrip()}\n```\n"


def revision(path: Path) -> str:
    """The revision of the code that made a result, from its provenance, marked if it was dirty."""
    git = json.loads(path.with_suffix(".provenance.json").read_text())["git"]
    return git["revision"][:7] + (", changed" if git["dirty"] else "")


if __name__ == "__main__":
    sys.exit(run(main))
