#!/usr/bin/env python3
"""Put tables, captions, provenance and a figure into one zip that opens in a browser."""

import argparse
import html
import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path

from attnseg.datasets.layouts import LAYOUTS
from attnseg.errors import run
from attnseg.evaluation.pictures import chosen, figure
from attnseg.files import write_atomically
from attnseg.shards import read_shards
from attnseg.tables import TABLES, render

PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>attnseg</title><style>{render.STYLE}
body {{ margin: 2em auto; max-width: 76em; padding: 0 1em; }} img {{ max-width: 100%; }}
section {{ border-top: 1px solid #ccc; margin-top: 2em; overflow-x: auto; }}
</style></head><body>
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="results/*.csv")
    parser.add_argument("--captions", type=Path, nargs="*", default=[], help="<target>.rst")
    parser.add_argument("--references", type=Path, nargs="*", default=[], help="metrics.json files")
    parser.add_argument("--pictures", type=int, default=6, help="photos in the figure")
    parser.add_argument("--dataset", choices=LAYOUTS, default="voc")
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="split of the photos")
    parser.add_argument("--attention", type=Path, required=True, help="folder of its shards")
    parser.add_argument("--masks", type=Path, required=True, help="folder of its masks")
    parser.add_argument("--output", type=Path, required=True, help="report.zip")
    args = parser.parse_args(argv)
    captions = {path.stem: plain(path.read_text()) for path in args.captions}
    with tempfile.TemporaryDirectory() as scratch, write_atomically(args.output) as partial:
        picture = Path(scratch) / "attention.png"
        items = chosen(list(read_shards(args.attention)), args.pictures)
        figure(LAYOUTS[args.dataset], args.root, items, args.masks, picture)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("index.html", index(args.tables, captions, args.references))
            archive.write(picture, "figures/attention.png")
            for table in args.tables:
                archive.write(table, f"tables/{table.name}")
                archive.writestr(f"tables/{table.stem}.html", render.html(table))
                provenance = table.with_suffix(".provenance.json")
                if provenance.exists():
                    archive.write(provenance, f"tables/{provenance.name}")
    print(f"{len(args.tables)} tables and a figure of {len(items)} photos in {args.output}")
    return 0


def plain(text: str) -> str:
    """A one-paragraph reStructuredText caption as HTML: escaped, ** ** as <b>."""
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(" ".join(text.split())))


def index(tables: list[Path], captions: dict[str, str], references: list[Path]) -> str:
    """The page that holds everything else."""
    parts = [PAGE, "<h1>attnseg</h1>", "<p>Each cell: published | ours.</p>"]
    for table in tables:
        body = re.search(r"<body>(.*)</body>", render.html(table), re.DOTALL)
        title = TABLES[table.stem].number if table.stem in TABLES else table.stem
        parts.append(f'<section id="{table.stem}"><p>{captions.get(table.stem, title)}</p>')
        parts.append(re.sub(r"<h1.*?</h1>", "", body[1] if body else "", flags=re.DOTALL))
        parts.append(
            f'<p><a href="tables/{table.name}">CSV</a> '
            f'<a href="tables/{table.stem}.provenance.json">provenance</a></p></section>'
        )
    if references:
        parts.append(
            "<section><h2>References</h2><p>What a mean IoU on this data set is worth:</p>"
        )
        parts.append("<table><tr><th>masks</th><th>mIoU</th></tr>")
        for path in references:
            measured = json.loads(path.read_text())
            name = " / ".join(
                path.parent.parts[-4:] if "reference" in path.parts else path.parent.parts[-2:]
            )
            parts.append(f"<tr><td>{html.escape(name)}</td><td>{measured['miou']:.1f}</td></tr>")
        parts.append("</table></section>")
    parts.append(
        '<section><h2>Attention and masks</h2><img src="figures/attention.png" alt="Photo,'
    )
    parts.append(
        ' Cross, SelfCross, pseudo mask and true mask of several scenes"></section></body></html>'
    )
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(run(main))
