"""Every table of both papers: its layout, its published values and where ours come from.

Standard library only: the Snakemake rules import it to know a table's inputs.
"""

from attnseg.errors import UserError
from attnseg.tables import attn2mask, text2mask
from attnseg.tables.description import Row, Source, Table

TABLES: dict[str, Table] = {table.target: table for table in (*text2mask.TABLES, *attn2mask.TABLES)}
FIGURES = ("voc_figure_b8", "voc_figure_d9")
TARGETS = (*TABLES, *FIGURES, "claims")

__all__ = [
    "FIGURES", "TABLES", "TARGETS", "Row", "Source", "Table", "check_target",
    "evaluations_needed", "find",
]  # fmt: skip


def check_target(target: str) -> None:
    """Raises UserError for a name that is no table, no figure and not the ledger of claims."""
    if target not in TARGETS:
        raise UserError(f"{target} is no target; the targets are: {', '.join(TARGETS)}")


def find(target: str) -> Table:
    """The description of a target. Raises UserError for a name that is none."""
    if target not in TABLES:
        raise UserError(f"{target} is no table; the tables are: {', '.join(TABLES)}")
    return TABLES[target]


def evaluations_needed(target: str, pending: bool = False) -> list[str]:
    """The evaluations whose metrics.json fill the table, in the table's order, each once.

    What the workflow cannot make yet is left out; `pending=True` adds it.
    """
    table = find(target)
    names: dict[str, None] = {}
    for cell in table.cells:
        source = table.ours.get(cell)
        if source and (pending or not source.pending):
            names.update(dict.fromkeys(source.evaluations))
    return list(names)
