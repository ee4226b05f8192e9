#!/usr/bin/env python3
"""Put the ledger, tables, figures, run times and provenance into one zip that opens in a browser."""

import argparse
import html
import json
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from attnseg.errors import run
from attnseg.io.costs import Job, read_jobs
from attnseg.io.files import write_atomically
from attnseg.results import FIGURES, PICTURES, TABLES, ledger, render

STYLE = f"""{render.STYLE}
body {{ margin: 2em auto; max-width: 76em; padding: 0 1em; }} img {{ max-width: 100%; }}
section {{ border-top: 1px solid #ccc; margin-top: 2em; overflow-x: auto; }}
nav a {{ display: inline-block; margin-right: 1em; }}
#claims table {{ width: 100%; font-size: 14px; }}
#claims td, #claims th {{ text-align: left; white-space: normal; vertical-align: top; }}
#claims td:nth-child(2) {{ min-width: 20em; }}
#claims td:last-child {{ overflow-wrap: anywhere; color: #555; font-size: 12px; }}
#claims td.number {{ white-space: nowrap; text-align: right; }}
.holds {{ color: #0b5394; font-weight: 600; }} .fails {{ color: #a03000; font-weight: 600; }}
details {{ margin: .5em 0; }} pre {{ overflow-x: auto; font-size: 12px; }}
"""
Section = tuple[str, str, str]  # id, title, HTML


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, nargs="*", default=[], help="results/*.csv")
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="SVG and PNG files")
    parser.add_argument("--captions", type=Path, nargs="*", default=[], help="<target>.rst")
    parser.add_argument("--references", type=Path, nargs="*", default=[], help="metrics.json files")
    parser.add_argument("--dag", type=Path, help="drawing of the graph of rules, SVG")
    parser.add_argument("--benchmarks", type=Path, help="folder of the jobs' records")
    parser.add_argument("--output", type=Path, required=True, help="report.zip")
    args = parser.parse_args(argv)
    captions = {path.stem: plain(path.read_text()) for path in args.captions}
    sections = [
        *(ledger_section(path) for path in args.tables if path.stem == "claims"),
        *target_sections(args.tables, args.figures, captions),
    ]
    if args.references:
        sections.append(("references", "References", references(args.references)))
    if args.dag:
        image = '<img src="figures/dag.svg" alt="The rules, and which needs which">'
        sections.append(("dag", "Rules", image))
    if args.benchmarks:
        sections.append(("cost", "Run time and cost", costs_table(args.benchmarks)))
    sections.append(("provenance", "Provenance", provenance(args.tables)))
    figures = [*args.figures, *([args.dag] if args.dag else [])]
    with (
        write_atomically(args.output) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.writestr("index.html", page(sections))
        for figure in figures:
            archive.write(figure, f"figures/{figure.name}")
        for table in args.tables:
            archive.write(table, f"tables/{table.name}")
            if table.stem != "claims":
                archive.writestr(f"tables/{table.stem}.html", render.html(table))
            record = table.with_suffix(".provenance.json")
            if record.exists():
                archive.write(record, f"tables/{record.name}")
    print(f"{len(args.tables)} tables and {len(figures)} figures in {args.output}")
    return 0


def plain(text: str) -> str:
    """A one-paragraph reStructuredText caption as HTML: escaped, ** ** as <b>."""
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(" ".join(text.split())))


def page(sections: Sequence[Section]) -> str:
    """The page that shows everything; its links begin with the ledger."""
    links = "".join(f'<a href="#{name}">{html.escape(title)}</a>' for name, title, _ in sections)
    body = "\n".join(
        f'<section id="{name}"><h2>{html.escape(title)}</h2>\n{content}\n</section>'
        for name, title, content in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>attnseg</title>'
        '<link rel="icon" href="data:,">'  # otherwise browsers request one
        f"<style>{STYLE}</style></head><body>\n<h1>attnseg</h1>\n<nav>{links}</nav>\n{body}\n"
        "</body></html>\n"
    )


def table_html(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table; cells are HTML."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def ledger_section(path: Path) -> Section:
    """The claims, their intervals and verdicts."""
    content = (
        f"<p>{html.escape(ledger.summary(ledger.read_ledger(path)))}. Differences with the 95 % interval "
        "of a paired bootstrap over images (over images and training seeds for trained networks); what "
        'is compared shows on hovering. <a href="tables/claims.csv">CSV</a> '
        '<a href="tables/claims.provenance.json">provenance</a></p>' + ledger.html(path)
    )
    return "claims", "Claims", content


def target_sections(
    tables: Sequence[Path], figures: Sequence[Path], captions: dict[str, str]
) -> list[Section]:
    """Tables, figures and pictures in the order of the papers."""
    named = {path.stem: path for path in tables if path.stem != "claims"}
    drawn = {path.stem: path for path in figures}
    numbers = {name: table.number for name, table in TABLES.items()}
    numbers |= {name: number for name, (number, _) in (FIGURES | PICTURES).items()}
    papers = [number.split(",")[0] for number in numbers.values()]
    numbers = dict(sorted(numbers.items(), key=lambda item: papers.index(item[1].split(",")[0])))
    sections = []
    for name in dict.fromkeys([*(n for n in numbers if n in {**named, **drawn}), *named, *drawn]):
        title, parts = numbers.get(name, name), [f"<p>{captions.get(name, '')}</p>"]
        if name in drawn:
            alt = html.escape(title, quote=True)
            parts.append(f'<p><img src="figures/{drawn[name].name}" alt="{alt}"></p>')
        if name in named:
            body = re.search(r"<body>(.*)</body>", render.html(named[name]), re.DOTALL)
            content = re.sub(r"<h1.*?</h1>", "", body[1] if body else "", flags=re.DOTALL)
            if name in drawn:
                content = f"<details><summary>the values</summary>{content}</details>"
            parts.append(content)
            parts.append(
                f'<p><a href="tables/{name}.csv">CSV</a> <a href="tables/{name}.html">alone</a> '
                f'<a href="tables/{name}.provenance.json">provenance</a></p>'
            )
        sections.append((name, title, "\n".join(parts)))
    return sections


def references(paths: Sequence[Path]) -> str:
    rows = []
    for path in paths:
        measured = json.loads(path.read_text())
        parts = path.parent.parts[-4:] if "reference" in path.parts else path.parent.parts[-2:]
        rows.append((html.escape(" / ".join(parts)), f"{measured['miou']:.1f}"))
    return "<p>What a mean IoU on these data sets is worth:</p>" + table_html(
        ("masks", "mIoU"), rows
    )


def costs_table(folder: Path) -> str:
    """Every rule with its jobs, time and memory, the most expensive first."""
    by_rule: dict[str, list[Job]] = {}
    for job in read_jobs(folder):
        by_rule.setdefault(job.rule, []).append(job)
    rows = [
        (
            html.escape(rule),
            str(len(jobs)),
            f"{sum(job.seconds for job in jobs) / 60:.1f}",
            f"{sum(job.cpu_seconds for job in jobs) / 60:.1f}",
            f"{max(job.seconds for job in jobs) / 60:.1f}",
            f"{max(job.peak_mib for job in jobs):,.0f}",
        )
        for rule, jobs in sorted(by_rule.items(), key=lambda item: -sum(j.seconds for j in item[1]))
    ]
    jobs = [job for jobs in by_rule.values() for job in jobs]
    hours = [
        sum(values) / 3600
        for values in zip(*((j.seconds, j.cpu_seconds) for j in jobs), strict=True)
    ] or [0, 0]
    text = (
        f"<p>{len(jobs)} jobs took {hours[0]:.2f} hours one after another, {hours[1]:.2f} hours of CPU, "
        "attempts that failed included. Minutes; memory of a job with its processes in MiB.</p>"
    )
    heads = ("rule", "jobs", "time", "CPU", "longest job", "memory")
    return text + table_html(heads, rows)


def provenance(tables: Sequence[Path]) -> str:
    """Revision, machine, data and models of each table; packages and configuration once."""
    rows, last = [], {}
    for table in tables:
        path = table.with_suffix(".provenance.json")
        if not path.exists():
            continue
        last = json.loads(path.read_text())
        git, device = last["git"], last["device"]
        revision = (git["revision"] or "unknown")[:10] + (" + changes" if git["dirty"] else "")
        machine = f"{device['processor']}, {device['cores']} cores"
        machine += "".join(f", {gpu}" for gpu in device["gpus"])
        hashes = "; ".join(
            f"{name} {value[:10]}" for name, value in {**last["data"], **last["models"]}.items()
        )
        link = f'<a href="tables/{path.name}">{html.escape(table.stem)}</a>'
        rows.append((link, *map(html.escape, (revision, machine, hashes))))
    if not last:
        return "<p>No provenance was recorded.</p>"
    packages = "\n".join(f"{name} {version}" for name, version in last["packages"].items())
    settings = json.dumps(last["config"], indent=1)
    return (
        table_html(("table", "revision", "machine", "data and models (SHA-256)"), rows)
        + f"<details><summary>{len(last['packages'])} packages, Python {last['python']}</summary>"
        f"<pre>{html.escape(packages)}</pre></details>"
        f"<details><summary>configuration</summary><pre>{html.escape(settings)}</pre></details>"
    )


if __name__ == "__main__":
    sys.exit(run(main))
