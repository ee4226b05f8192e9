#!/usr/bin/env python3
"""Draw which room of the package imports which, for docs/README.md.

    python scripts/tools/draw_house.py

A room is a folder of scripts/attnseg; modules beside the rooms are not drawn. An arrow leads from a
room to those that use it, and is left out where a longer way says the same. Rooms that import each
other are printed: no arrow should run back.
"""

import argparse
import ast
import sys
from pathlib import Path

import networkx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attnseg.errors import run
from attnseg.io.files import write_atomically
from attnseg.results.graphs import draw

REPOSITORY = Path(__file__).resolve().parents[2]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=REPOSITORY / "docs" / "house.svg", help="the drawing, SVG"
    )
    args = parser.parse_args(argv)
    graph = rooms(REPOSITORY / "scripts" / "attnseg")
    with write_atomically(args.output) as partial:
        draw(graph, partial)
    for together in networkx.strongly_connected_components(graph):
        if len(together) > 1:
            print(f"import each other: {', '.join(sorted(together))}")
    print(f"{len(graph)} rooms in {args.output}")
    return 0


def rooms(package: Path) -> networkx.DiGraph:
    """The folders of a package, with an edge from each to those that import it."""
    names = sorted(file.parent.name for file in package.glob("*/__init__.py"))
    graph = networkx.DiGraph()
    graph.add_nodes_from(names)
    for room in names:
        for file in sorted((package / room).rglob("*.py")):
            used = imported(ast.parse(file.read_text()), package.name)
            graph.add_edges_from((name, room) for name in names if name in used - {room})
    return graph


def imported(tree: ast.Module, package: str) -> set[str]:
    """The rooms and modules directly in a package that a module imports, at its top or later."""
    modules = set()
    tree.body = [  # without what only a type checker imports
        node
        for node in tree.body
        if getattr(getattr(node, "test", None), "id", "") != "TYPE_CHECKING"
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {module.split(".")[1] for module in modules if module.startswith(f"{package}.")}


if __name__ == "__main__":
    sys.exit(run(main))
