#!/usr/bin/env python3
"""Draw Snakemake's graph of rules as an SVG, from rules without inputs on the left to the results.

snakemake --rulegraph dot results/voc_table1.csv | python scripts/draw_dag.py --output dag.svg
"""

import argparse
import re
import sys
from collections.abc import Iterable
from html import escape
from pathlib import Path

from attnseg.errors import UserError, run
from attnseg.io.files import write_atomically

HEIGHT, GAP, COLUMN_GAP, LETTER = 26, 12, 60, 7.2  # pixels; the last is a letter's width at 12px
BLUE, GREY = "#0072b2", "#777"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="the drawing, SVG")
    args = parser.parse_args(argv)
    names, edges = read_dot(sys.stdin.read())
    if not names:
        raise UserError("no rules in the standard input: give it what snakemake --rulegraph prints")
    with write_atomically(args.output) as partial:
        partial.write_text(svg(names, edges), encoding="utf-8")
    print(f"{len(names)} rules in {args.output}")
    return 0


def read_dot(text: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Parse Snakemake's dot: node -> rule, and edges from source to user."""
    names = dict(re.findall(r'^\s*(\d+)\s*\[label\s*=\s*"(\w+)', text, re.M))
    edges = re.findall(r"^\s*(\d+)\s*->\s*(\d+)", text, re.M)
    return names, [(a, b) for a, b in edges if a in names and b in names and a != b]


def layers_of(nodes: Iterable[str], edges: list[tuple[str, str]]) -> list[list[str]]:
    """Layers of nodes by their longest path, each in an order that keeps edges short."""
    sources: dict[str, list[str]] = {node: [] for node in nodes}
    users: dict[str, list[str]] = {node: [] for node in nodes}
    for a, b in edges:
        sources[b].append(a)
        users[a].append(b)
    depth: dict[str, int] = {}

    def deep(node: str) -> int:
        if node not in depth:
            depth[node] = 0  # where rules need each other
            depth[node] = 1 + max((deep(source) for source in sources[node]), default=-1)
        return depth[node]

    for node in sources:
        deep(node)
    for node in sorted(sources, key=lambda n: -depth[n]):
        if users[node]:  # next to its first user, not far to the left of it
            depth[node] = min(depth[user] for user in users[node]) - 1
    layers: list[list[str]] = [[] for _ in range(1 + max(depth.values()))]
    for node in sources:
        layers[depth[node]].append(node)
    layers = [layer for layer in layers if layer]
    for _ in range(8):
        for order, neighbours in ((layers, sources), (layers[::-1], users)):
            place = {node: i / len(layer) for layer in layers for i, node in enumerate(layer)}
            for layer in order:
                layer.sort(
                    key=lambda node: _mean([place[n] for n in neighbours[node]], place[node])
                )
                place |= {node: i / len(layer) for i, node in enumerate(layer)}
    return layers


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def svg(names: dict[str, str], edges: list[tuple[str, str]]) -> str:
    """Draw boxes in columns, and one curve per edge behind them."""
    layers = layers_of(names, edges)
    tallest = max(len(layer) for layer in layers)
    height = tallest * (HEIGHT + GAP) + GAP
    boxes: dict[str, tuple[float, float, float]] = {}  # left, middle, width
    left = float(GAP)
    for layer in layers:
        width = max(len(names[node]) for node in layer) * LETTER + 14
        pitch = height / len(layer)
        for i, node in enumerate(layer):
            boxes[node] = (left, pitch * (i + 0.5), width)
        left += width + COLUMN_GAP
    total = left - COLUMN_GAP + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total:.0f} {height}" '
        f'width="{total:.0f}" height="{height}" font-family="monospace" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for a, b in edges:
        x0, y0, x1, y1 = boxes[a][0] + boxes[a][2], boxes[a][1], boxes[b][0], boxes[b][1]
        middle = (x0 + x1) / 2
        lines.append(
            f'<path d="M{x0:.0f},{y0:.0f} C{middle:.0f},{y0:.0f} {middle:.0f},{y1:.0f} '
            f'{x1:.0f},{y1:.0f}" fill="none" stroke="{GREY}" stroke-opacity="0.55"/>'
        )
    for node, (x, y, width) in boxes.items():
        lines.append(
            f'<rect x="{x:.0f}" y="{y - HEIGHT / 2:.0f}" width="{width:.0f}" height="{HEIGHT}" '
            f'rx="5" fill="white" stroke="{BLUE}"/><text x="{x + width / 2:.0f}" y="{y + 4:.0f}" '
            f'text-anchor="middle">{escape(names[node])}</text>'
        )
    return "\n".join([*lines, "</svg>\n"])


if __name__ == "__main__":
    sys.exit(run(main))
