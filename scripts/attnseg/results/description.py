"""Descriptions of tables: their layout in the paper, and the source of our value of each cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Cell = tuple[str, str]  # (method label, metric label)

NOT_EVALUATED = "not evaluated in this run"


@dataclass(frozen=True)
class Source:
    """The source of our value of a cell: the mean of `metric` over `evaluations`.

    `metric`: a key of metrics.json, or `iou/<class>` for one class. `missing`: the reason printed if
    there is no value. `pending`: true if the workflow cannot run the evaluations yet.
    """

    evaluations: tuple[str, ...]
    metric: str = "miou"
    missing: str = NOT_EVALUATED
    pending: bool = False
    decimals: int = 1


@dataclass(frozen=True)
class Row:
    """A printed row: its heads, then one (method, metric) per column, None for a gap."""

    heads: tuple[str, ...]
    cells: tuple[Cell | None, ...]
    section: str = ""


@dataclass(frozen=True)
class Finding:
    """A conclusion of the paper from its table: `better` has a higher value than `worse`."""

    better: Cell
    worse: Cell


@dataclass(frozen=True)
class Table:
    """A table as printed in the paper, and the source of each value that is measured here.

    findings: comparisons; the note of the better cell says how they come out here.
    """

    target: str
    number: str  # "Text2Mask, Table 1"
    title: str
    heads: tuple[str, ...]  # over the heads of the rows
    columns: tuple[tuple[str, str], ...]  # (group, "" for none; label)
    rows: tuple[Row, ...]
    ours: Mapping[Cell, Source] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        """All (method, metric) of the table, in printed order."""
        return [cell for row in self.rows for cell in row.cells if cell is not None]


def rows_by_method(
    methods: Sequence[str],
    metrics: Sequence[str],
    heads: Sequence[tuple[str, ...]] | None = None,
    sections: Sequence[str] | None = None,
) -> tuple[Row, ...]:
    """One row per method; `heads` are printed in place of its label, `sections` above it."""
    return tuple(
        Row(
            heads[i] if heads else (method,),
            tuple((method, metric) for metric in metrics),
            sections[i] if sections else "",
        )
        for i, method in enumerate(methods)
    )


def rows_by_metric(methods: Sequence[str], metrics: Sequence[str]) -> tuple[Row, ...]:
    """One row per metric, one column per method."""
    return tuple(
        Row((metric,), tuple((method, metric) for method in methods)) for metric in metrics
    )


def plain(labels: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Columns without groups."""
    return tuple(("", label) for label in labels)
