#!/usr/bin/env python3
"""Draw Snakemake's graph of rules as SVG: from what has no input, on the left, to the results.

    snakemake --rulegraph dot results/voc_table1.csv | python scripts/draw_dag.py --output dag.svg

networkx places the rules, since Graphviz cannot be installed by pip; an arrow is left out where a
longer way says the same.
"""

import re
import sys

import networkx

from attnseg.app import flags
from attnseg.errors import UserError, run
from attnseg.io.files import write_atomically
from attnseg.results.graphs import draw


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, output="the drawing, SVG")
    args = parser.parse_args(argv)
    graph = read_dot(sys.stdin.read())
    if not graph:
        raise UserError("no rules in the standard input: give it what snakemake --rulegraph prints")
    with write_atomically(args.output) as partial:
        draw(graph, partial)
    print(f"{len(graph)} rules in {args.output}")
    return 0


def read_dot(text: str) -> networkx.DiGraph:
    """The rules of Snakemake's dot, with an edge from each to those that use its output."""
    names = dict(re.findall(r'^\s*(\d+)\s*\[label\s*=\s*"(\w+)', text, re.M))
    pairs = re.findall(r"^\s*(\d+)\s*->\s*(\d+)", text, re.M)
    graph = networkx.DiGraph()
    graph.add_nodes_from(names.values())
    graph.add_edges_from((names[a], names[b]) for a, b in pairs if a != b)
    return graph


if __name__ == "__main__":
    sys.exit(run(main))
