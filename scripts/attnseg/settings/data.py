"""Data sets, methods that compete on them, and the pictures and figures of masks."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from attnseg.settings.base import Count, MaskPath, Settings, key, part


class Split(Settings):
    """A split of a data set."""

    images: Count = key(
        ...,
        "Number of images that its list holds, so that jobs are planned before the data is there.",
    )
    truth: bool = key(
        True, "Whether its true masks are published. Where not, a submission archive is made."
    )


Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field()]
Byte = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[list[Byte], Field(min_length=3, max_length=3)]


class Dataset(Settings):
    """A data set; what it does not say, the file of its name or `layout` says."""

    name: str | None = key(
        None,
        "The name printed in tables, so that no number is taken for another data set's; null for "
        "the key itself.",
    )
    source: Literal["download", "mini_world", "folder"] = key(
        "download",
        "How it comes to be: `download` (or the refusal that says what is missing), `mini_world` "
        "(composed from the shipped sprites), or `folder` (it already lies at root).",
    )
    root: str = key(..., "Its folder.")
    labels: str | None = key(
        None,
        "Where image-level labels are read. VOC's annotations (xml), COCO's (instances), the true "
        "masks, as in the official profile (mask), labels.csv in the root (csv; id,classes; classes "
        "parted by semicolons), or the photo's folder is its class (folders). Null for xml of VOC, "
        "instances of COCO, csv of others.",
    )
    vocabulary: str | None = key(
        None,
        "Another data set, whose synonyms and background words are used in queries; null for its own.",
        papers="Text2Mask: each data set's own",
    )
    layout: str | None = key(
        None,
        "The data set of this package that it is laid out as, and has the classes of; null for its "
        "own key.",
    )
    file: str | None = key(
        None,
        "A Python file that exports it, `DATASET = Dataset(...)`, for an unusual layout.",
    )
    classes: Names | None = key(None, "Its classes, in the order of the numbers in its masks.")
    background: bool | None = key(
        None,
        "Whether 0 in its masks is background, and classes count from 1; else they count from 0.",
    )
    palette: list[Colour] | None = key(
        None,
        "The colour of each number in masks, [red, green, blue], from 0 on; null for VOC's.",
    )
    photos: str | None = key(
        None,
        "Pattern of its photos. With .* at the end, of any suffix. Null for `images/{split}/{id}.*`.",
    )
    masks: str | None = key(
        None,
        "Pattern of its true masks, grey or palette PNG files, 255 ignored. Null for "
        "`masks/{split}/{id}.png`.",
    )
    mask_values: list[Byte] | None = key(
        None,
        "The number of each class in the true masks, where they are others; further numbers are "
        "ignored.",
    )
    lists: str | None = key(
        None,
        "Pattern of the files that list a split's ids, one a line; null for all photos of the pattern.",
    )
    annotations: str | None = key(None, "Pattern of VOC's XML files, for labels of xml.")
    synonyms: dict[str, str] | None = key(None, "What a query calls some of its classes.")
    background_words: Names | None = key(
        None,
        "Words at the end of a query; null for Text2Mask's, or none where it has no background.",
    )
    prompt: str | None = key(None, "What images are generated from, with {} for the class.")
    splits: dict[str, Split] = key(..., "Its splits, by their official names.")


class Method(Settings):
    """A method of others, known by its masks; they are scored as ours are."""

    label: str = key(
        ..., "What tables call it; with a label of the print, it fills that row.", min_length=1
    )
    masks: str = key(
        ...,
        "The folder of its masks, <id>.png in the numbers of the data set; {dataset} and {split} "
        "stand for their keys.",
    )
    fills: dict[str, Names] = key(
        {},
        "Tables, and the metrics there that these masks are measured for, on the data set and split "
        "that ours are.",
    )

    @field_validator("masks")
    @classmethod
    def braces(cls, masks: str) -> str:
        other = re.search(r"[{}]", re.sub(r"\{(dataset|split)\}", "", masks))
        if other:
            raise ValueError(f"{masks!r}: of braces only {{dataset}} and {{split}} may stand in it")
        return masks

    def folder(self, dataset: str, split: str) -> str:
        """The folder of the masks of a split."""
        return self.masks.replace("{dataset}", dataset).replace("{split}", split)


class Picture(Settings):
    """A picture: photo, attention, pseudo mask and true mask side by side."""

    dataset: str = key(..., "The data set of the masks shown.")
    split: str = key(..., "The split of the masks shown.")
    masks: MaskPath = key(..., "The masks shown, `<variant>/<refinement>`.")
    count: Count = key(6, "How many photos, evenly spread over those with several classes.")
    failures: bool = key(
        False,
        "Rather, of the pairs of classes most alike to the text encoder, the worst mask each.",
    )


class Point(Settings):
    """A point of a curve."""

    at: str | float = key(..., "What stands below the point, a number or words.")
    masks: MaskPath = key(..., "The masks of the point, `<variant>/<refinement>`.")


Curve = Annotated[list[Point], Field(min_length=1, description="The points of a curve.")]


class FigureB8(Settings):
    """Mean IoU along one setting at a time; a curve's points are masks of named variants."""

    dataset: str = key("voc", "The data set of the masks scored.")
    split: str = key("train", "The split of the masks scored.")
    curves: dict[str, Curve] = key({}, "A curve's title, and its points in order.")


class Figure2(Settings):
    """Clusters, Cross, CBP and SelfCross of some photos with several classes."""

    dataset: str = key("voc", "The data set of the photos, voc or coco.")
    split: str = key("train", "The split of the photos.")
    variant: str = key("base", "The extraction, of which the first noise is shown.")
    count: Count = key(4, "How many photos.")


class FigureD9(Settings):
    """The quality of masks against how alike the classes of their images are."""

    dataset: str = key("voc", "The data set of the masks scored.")
    split: str = key("train", "The split of the masks scored.")
    masks: MaskPath = key("base/crf", "The masks scored, `<variant>/<refinement>`.")


class Figures(Settings):
    """What the figures are drawn from."""

    voc_figure_b8: FigureB8 = part(FigureB8)
    voc_figure_2: Figure2 = part(Figure2)
    voc_figure_d9: FigureD9 = part(FigureD9)


class Claims(Settings):
    """How the ledger tests the papers' claims."""

    training_runs: Count = key(
        1,
        "Trainings, each with a seed of its own, of every segmentor that a claim is about; with "
        'fewer than 3 the verdict is "one run".',
    )
    resamples: int = key(2000, "Resamples of the bootstrap over images.", ge=100)
