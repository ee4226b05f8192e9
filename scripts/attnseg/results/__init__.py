"""The tables, figures and claims of both papers: layout, published values, sources of our values.

Standard library only: the Snakemake rules import this package to know a table's inputs.
"""

from collections.abc import Iterable

from attnseg.errors import UserError
from attnseg.results import attn2mask, text2mask
from attnseg.results.description import Row, Source, Table

TABLES: dict[str, Table] = {table.target: table for table in (*text2mask.TABLES, *attn2mask.TABLES)}
FIGURES = {  # target -> (number in the paper, title)
    "voc_figure_b8": (
        "Text2Mask, Figure B.8",
        "One setting at a time: pseudo masks of VOC 2012 train, one noise, mIoU",
    ),
    "voc_figure_d9": (
        "Text2Mask, Figure D.9",
        "The more similar the classes of an image, the worse its mask",
    ),
    "backbones": (
        "Backbones",
        "Backbones and readings of their attention: pseudo masks of VOC 2012 train, one noise",
    ),
}
PICTURES = {
    "voc_figure_2": ("Text2Mask, Figure 2", "What attention can be turned into"),
    "voc_figure_4": ("Text2Mask, Figure 4", "Pseudo masks of VOC"),
    "mug19_figure_5": ("Text2Mask, Figure 5", "One subject among others of its class"),
    "voc_figure_6": ("Text2Mask, Figure 6", "Failures: classes that are alike to the text encoder"),
    "voc_figure_b7": ("Text2Mask, Figure B.7, VOC", "More pseudo masks of VOC"),
    "coco_figure_b7": ("Text2Mask, Figure B.7, COCO", "Pseudo masks of COCO"),
    "backbones_picture": ("Backbones", "The same photos through each backbone and reading"),
    "attn2mask_figure_5": ("attn2mask, Figures 4 and 5", "Generated images, attention and labels"),
    "attn2mask_figure_6": ("attn2mask, Figure 6", "Before and after adaptation to a domain"),
}
# pictures of generated images -> the syntheses that they show
GENERATED_PICTURES = {
    "attn2mask_figure_5": ["voc"],
    "attn2mask_figure_6": ["cityscapes", "cityscapes_lora"],
}
TARGETS = (*TABLES, *FIGURES, *PICTURES, "claims")

__all__ = [
    "FIGURES", "GENERATED_PICTURES", "PICTURES", "TABLES", "TARGETS", "Row", "Source", "Table",
    "check_target", "evaluations_needed", "find",
]  # fmt: skip


def check_target(target: str, pictures: Iterable[str] = ()) -> None:
    """Raise a `UserError` unless `target` is a table, figure or picture, `claims`, or a file.

    pictures: names of further pictures.
    """
    known = dict.fromkeys((*TARGETS, *pictures))
    if target not in known and "/" not in target:
        raise UserError(f"{target} is not a target; the targets are: {', '.join(known)}")


def find(target: str) -> Table:
    """The description of a table. Raises a `UserError` for an unknown name."""
    if target not in TABLES:
        raise UserError(f"{target} is not a table; the tables are: {', '.join(TABLES)}")
    return TABLES[target]


def evaluations_needed(target: str | Table, pending: bool = False) -> list[str]:
    """The evaluations whose metrics.json fill the table, in the table's order, each once.

    `pending`: include those that the workflow cannot run yet.
    """
    table = target if isinstance(target, Table) else find(target)
    names: dict[str, None] = {}
    for cell in table.cells:
        source = table.ours.get(cell)
        if source and (pending or not source.pending):
            names.update(dict.fromkeys(source.evaluations))
    return list(names)
