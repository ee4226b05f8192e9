"""What a table is: its layout in the paper, and where our value of each cell comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Cell = tuple[str, str]  # (method label, metric label)

NOT_EVALUATED = "not evaluated in this run"


@dataclass(frozen=True)
class Source:
    """Where our value of a cell comes from: the mean of `metric` over `evaluations`.

    `metric` is a key of metrics.json, or `iou/<class>` for one class.
    `pending` marks what the workflow cannot make yet; `missing` is the reason printed for it.
    """

    evaluations: tuple[str, ...]
    metric: str = "miou"
    missing: str = NOT_EVALUATED
    pending: bool = False
    decimals: int = 1


@dataclass(frozen=True)
class Row:
    """A printed row: the cells at its head, then one (method, metric) a column, None for a gap."""

    heads: tuple[str, ...]
    cells: tuple[Cell | None, ...]
    section: str = ""


@dataclass(frozen=True)
class Finding:
    """What the paper reads from its table: `better` has a higher value than `worse`."""

    better: Cell
    worse: Cell


@dataclass(frozen=True)
class Table:
    """A table as the paper prints it, and the source of each value that is measured here.

    findings: comparisons whose outcome here is said in the note of their better cell.
    """

    target: str
    number: str  # "Text2Mask, Table 1"
    title: str
    heads: tuple[str, ...]  # over the heads of the rows
    columns: tuple[tuple[str, str], ...]  # (group or "", label)
    rows: tuple[Row, ...]
    ours: Mapping[Cell, Source] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        """Every (method, metric) of the table, in the order of the print."""
        return [cell for row in self.rows for cell in row.cells if cell is not None]


def rows_by_method(
    methods: Sequence[str],
    metrics: Sequence[str],
    heads: Sequence[tuple[str, ...]] | None = None,
    sections: Sequence[str] | None = None,
) -> tuple[Row, ...]:
    """One row a method; `heads` are printed in place of its label, `sections` above it."""
    return tuple(
        Row(
            heads[i] if heads else (method,),
            tuple((method, metric) for metric in metrics),
            sections[i] if sections else "",
        )
        for i, method in enumerate(methods)
    )


def rows_by_metric(methods: Sequence[str], metrics: Sequence[str]) -> tuple[Row, ...]:
    """One row a metric, one column a method."""
    return tuple(
        Row((metric,), tuple((method, metric) for method in methods)) for metric in metrics
    )


def plain(labels: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Columns without groups."""
    return tuple(("", label) for label in labels)
