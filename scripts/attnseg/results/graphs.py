"""Drawings of small directed graphs: the rules of the workflow, the rooms of the package."""

import os

import matplotlib
import networkx
import numpy as np

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "attnseg"  # the same drawing is the same file
import matplotlib.pyplot as plt  # noqa: E402

BLUE, GREY = "#0072b2", "#777777"


def placed(graph: networkx.DiGraph) -> dict[str, tuple[int, float]]:
    """(column, row) of each node: right of all that lead to it, near its neighbours.

    Nodes that lead to each other share a column.
    """
    parts = networkx.condensation(graph)
    columns = [
        [node for part in generation for node in parts.nodes[part]["members"]]
        for generation in networkx.topological_generations(parts)
    ]
    # by spectral order: along a line on which neighbours are close
    along: dict[str, tuple[int, float]] = {}
    undirected = graph.to_undirected()
    for i, members in enumerate(sorted(networkx.connected_components(undirected), key=min)):
        names = sorted(members)
        laplacian = networkx.laplacian_matrix(undirected, names).toarray()
        fiedler = np.linalg.eigh(laplacian)[1][:, min(1, len(names) - 1)]
        along |= {name: (i, value) for name, value in zip(names, fiedler, strict=True)}
    places: dict[str, tuple[int, float]] = {}
    for column, nodes in enumerate(columns):
        for i, node in enumerate(sorted(nodes, key=lambda name: (along[name], name))):
            places[node] = (column, (i + 0.5) / len(nodes))
    return places


def draw(graph: networkx.DiGraph, path: str | os.PathLike) -> None:
    """The graph as SVG, from sources on the left to results on the right.

    An arrow is left out where a longer way says the same.
    """
    if networkx.is_directed_acyclic_graph(graph):
        graph = networkx.transitive_reduction(graph)
    places = placed(graph)
    columns = 1 + max(column for column, _ in places.values())
    tallest = max(sum(c == column for c, _ in places.values()) for column in range(columns))
    plot, axis = plt.subplots(figsize=(1.6 * columns, max(1.5, 0.5 * tallest)))
    box = {"boxstyle": "round", "facecolor": "white", "edgecolor": BLUE}
    names = {name: name for name in sorted(graph)}
    labels = networkx.draw_networkx_labels(graph, places, names, ax=axis, font_size=8, bbox=box)
    axis.set(xlim=(-0.5, columns - 0.5), ylim=(-0.05, 1.05))
    axis.axis("off")
    plot.tight_layout()
    plot.canvas.draw()  # the boxes' sizes are known now, and arrows end at them
    for start, end in sorted(graph.edges):
        axis.annotate(
            "",
            places[end],
            places[start],
            arrowprops={
                "arrowstyle": "-|>",
                "color": GREY,
                "linewidth": 0.7,
                "patchA": labels[start].get_bbox_patch(),
                "patchB": labels[end].get_bbox_patch(),
            },
        )
    plot.savefig(path, format="svg", metadata={"Date": None})
    plt.close(plot)
