"""Descriptions of tables: their layout in the paper, and the source of our value of each cell."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

Cell = tuple[str, str]  # (method label, metric label)

NOT_EVALUATED = "not evaluated in this run"

# What a label ends with in brackets, where a row of the print is measured in another way, too
READINGS = {
    "official": "under the profile of the authors' code",
    "max": "maps of attention scaled by their maximum, not from their minimum to it",
}


@dataclass(frozen=True)
class Source:
    """The source of our value of a cell: the mean of `metric` over `evaluations`.

    `metric`: a key of metrics.json, or `iou/<class>` for one class. `missing`: the reason printed if
    there is no value. `pending`: true if the workflow cannot run the evaluations yet. `background`: the
    threshold of the background's score at the paper scale; a remark says where a run has another one.
    """

    evaluations: tuple[str, ...]
    metric: str = "miou"
    missing: str = NOT_EVALUATED
    pending: bool = False
    decimals: int = 1
    background: float | None = None


@dataclass(frozen=True)
class Row:
    """A printed row: its heads, then one (method, metric) per column, None for a gap."""

    heads: tuple[str, ...]
    cells: tuple[Cell | None, ...]
    section: str = ""


@dataclass(frozen=True)
class Finding:
    """A conclusion that the paper draws from its table: `better` has a higher value than `worse`."""

    better: Cell
    worse: Cell


@dataclass(frozen=True)
class Nearest:
    """Ways to compute a table where the paper leaves open which is its own: a remark says with which one
    the differences of cells come nearest to the paper's. `ways`: name -> pairs of cells."""

    ways: Mapping[str, Sequence[tuple[Cell, Cell]]]


@dataclass(frozen=True)
class Table:
    """A table as printed in the paper, and the source of each value that is measured here.

    findings: comparisons; the note of the better cell says how they come out here.
    nearest: what a remark compares with the paper, where a table is computed in several ways.
    """

    target: str
    number: str  # "Text2Mask, Table 1"
    title: str
    heads: tuple[str, ...]  # above the heads of the rows
    columns: tuple[tuple[str, str], ...]  # (group, "" for none; label)
    rows: tuple[Row, ...]
    ours: Mapping[Cell, Source] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    nearest: Nearest | None = None

    @property
    def cells(self) -> list[Cell]:
        """All (method, metric) of the table, in printed order."""
        return [cell for row in self.rows for cell in row.cells if cell is not None]


def reading(method: str) -> str:
    """What a label ends with in brackets, if that is one of `READINGS`, else ""."""
    _, _, last = method.removesuffix("]").rpartition(" [")
    return last if last in READINGS and method.endswith("]") else ""


def as_printed(cell: Cell) -> Cell:
    """The cell of the print that a cell is another reading of; itself, if it is none."""
    method, metric = cell
    return method.removesuffix(f" [{reading(method)}]"), metric


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


def with_cells(table: Table, cells: Iterable[Cell]) -> Table:
    """Add cells to a table: a new method gets a row at the end, or, in a table with one column per
    method, a column at the end of its group."""
    known = set(table.cells)
    new: dict[str, set[str]] = {}
    for method, metric in cells:
        if (method, metric) not in known:
            new.setdefault(method, set()).add(metric)
    for method, metrics in new.items():
        in_rows = all(len({cell[0] for cell in row.cells if cell}) == 1 for row in table.rows)
        table = (_with_row if in_rows else _with_columns)(table, method, metrics)
    return table


def _with_row(table: Table, method: str, metrics: set[str]) -> Table:
    """Add the row of a method to a table with one column per metric."""
    columns = zip(*(row.cells for row in table.rows), strict=True)
    names = [next(cell[1] for cell in column if cell) for column in columns]
    cells = tuple((method, name) if name in metrics else None for name in names)
    heads = (method, *[""] * (len(table.heads) - 1))
    for i, row in enumerate(table.rows):  # a printed row with gaps
        if any(cell and cell[0] == method for cell in row.cells):
            both = tuple(old or more for old, more in zip(row.cells, cells, strict=True))
            rows = (*table.rows[:i], replace(row, cells=both), *table.rows[i + 1 :])
            return replace(table, rows=rows)
    section = table.rows[-1].section
    return replace(table, rows=(*table.rows, Row(heads, cells, section)))


def _with_columns(table: Table, method: str, metrics: set[str]) -> Table:
    """Add the column of a method to each group of a table with one row per metric."""
    for group in dict.fromkeys(group for group, _ in table.columns):
        places = [i for i, column in enumerate(table.columns) if column[0] == group]
        names = [next(cell[1] for i in places if (cell := row.cells[i])) for row in table.rows]
        if not metrics & set(names):
            continue
        after = places[-1] + 1
        columns = (*table.columns[:after], (group, method), *table.columns[after:])
        rows = tuple(
            replace(
                row,
                cells=(
                    *row.cells[:after],
                    (method, name) if name in metrics else None,
                    *row.cells[after:],
                ),
            )
            for row, name in zip(table.rows, names, strict=True)
        )
        table = replace(table, columns=columns, rows=rows)
    return table
