"""Data sets, methods that compete on them, and the pictures and figures of masks."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from attnseg.settings.base import Count, Folder, MaskPath, Settings, key, part


class Split(Settings):
    """A split of a data set."""

    images: Count = key(
        ...,
        "Number of images in its list, so that jobs can be planned without the data.",
    )
    truth: bool = key(
        True, "Whether its ground truth is published; if not, a submission archive is made."
    )


Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field()]
Byte = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[list[Byte], Field(min_length=3, max_length=3)]


class Dataset(Settings):
    """A data set; other settings come from the file of its name or `layout`."""

    name: str | None = key(
        None,
        "The name printed in tables; null for the key itself.",
    )
    source: Literal["download", "mini_world", "folder"] = key(
        "download",
        "Its source: `download` (if it cannot be downloaded, an error says what to do), `mini_world` "
        "(composed from the included sprites), or `folder` (it is already at root).",
    )
    root: Folder = key(..., "Its folder.")
    labels: str | None = key(
        None,
        "Source of image-level labels: VOC's annotations (xml), those of COCO or a COCO file of any categories (instances), the "
        "ground-truth masks, as in the official profile (mask), labels.csv in the root (csv; columns "
        "id and classes, the latter separated by semicolons), the name of the photo's folder "
        "(folders), every class for each photo (all), which finds classes that are not there, or what files "
        "say of some photos and every class for the others (known), which with `refinements.presence` costs "
        "labelled photos a second pass. "
        "Null for xml of VOC, instances of COCO, csv of others.",
    )
    vocabulary: str | None = key(
        None,
        "Another data set whose synonyms and background words are used in queries; null for its own.",
        papers="Text2Mask: each data set's own",
    )
    layout: str | None = key(
        None,
        "The data set of this package whose layout and, by default, classes it has; null for its own "
        "key.",
    )
    file: str | None = key(
        None,
        "A Python file that defines it, `DATASET = Dataset(...)`, for an unusual layout.",
    )
    classes: Names | None = key(None, "Its classes, in the order of the numbers in its masks.")
    background: bool | None = key(
        None,
        "Whether 0 in its masks is background and classes start at 1; otherwise they start at 0.",
    )
    palette: list[Colour] | None = key(
        None,
        "Colours of the numbers in masks, [red, green, blue], from 0 on; null for VOC's.",
    )
    photos: str | None = key(
        None,
        "Pattern of its photos; .* at the end is any suffix. Null for `images/{split}/{id}.*`.",
    )
    masks: str | None = key(
        None,
        "Pattern of its ground-truth masks, grey or palette PNG files, 255 ignored. Null for "
        "`masks/{split}/{id}.png`.",
    )
    mask_values: list[Byte] | None = key(
        None,
        "The number of each class in the ground-truth files, in the order of `classes`, if it differs; other "
        "numbers are ignored, but 0 stays background if there is one.",
    )
    exif: Literal["turn", "ignore"] | None = key(
        None,
        "Whether photos are turned upright by their EXIF orientation; ground-truth masks must then have "
        "the size of the turned photo. Null for ignore in the data sets of this package and their "
        "layouts, and turn in others.",
    )
    lists: str | None = key(
        None,
        "Pattern of the files that list a split's ids, one per line; null for all photos of the split.",
    )
    annotations: str | None = key(
        None,
        "Pattern of VOC's XML files, for `labels: xml`; or a COCO file, for `labels: instances`. In one's own, "
        "names that are neither a class nor its synonym are ignored, and counted in the log.",
    )
    synonyms: dict[str, str] | None = key(None, "Words for some of its classes in queries.")
    background_words: Names | None = key(
        None,
        "Words at the end of a query; null for Text2Mask's, or none if it has no background.",
    )
    prompt: str | None = key(None, "Prompt for image generation, with {} for the class.")
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
    """A picture: photo, attention, pseudo mask and ground truth side by side."""

    dataset: str = key(..., "The data set of the masks shown.")
    split: str = key(..., "The split of the masks shown.")
    masks: MaskPath = key(..., "The masks shown, `<variant>/<refinement>`.")
    count: Count = key(6, "Number of photos, evenly spaced among those with several classes.")
    failures: bool = key(
        False,
        "Instead show the worst mask of each of the pairs of classes that are most similar to the "
        "text encoder.",
    )


class Prediction(Settings):
    """Further photos that a trained segmentor predicts: a folder of masks, and a picture of some."""

    segmentor: str = key(..., "The segmentor, an entry of `segmentors`.")
    photos: Folder = key(..., "The folder of the photos, with those below; any format.")
    count: Count = key(12, "Number of photos in the picture, evenly spaced.")


class Point(Settings):
    """A point of a curve."""

    at: str | int | float = key(..., "The label below the point, a number or text.")
    masks: MaskPath = key(..., "The masks of the point, `<variant>/<refinement>`.")


Curve = Annotated[list[Point], Field(min_length=1, description="The points of a curve.")]


class FigureB8(Settings):
    """Mean IoU as a function of one setting at a time; points are masks of named variants."""

    dataset: str = key("voc", "The data set of the masks.")
    split: str = key("train", "The split of the masks.")
    curves: dict[str, Curve] = key({}, "Points of each curve, by its title.")


class Figure2(Settings):
    """Clusters, Cross, CBP and SelfCross of some photos with several classes."""

    dataset: str = key("voc", "The data set of the photos, voc or coco.")
    split: str = key("train", "The split of the photos.")
    variant: str = key("base", "The variant of the extraction; its first noise is shown.")
    count: Count = key(4, "Number of photos.")


class FigureD9(Settings):
    """Mean IoU of images against the similarity of their classes."""

    dataset: str = key("voc", "The data set of the masks.")
    split: str = key("train", "The split of the masks.")
    masks: MaskPath = key("base/crf", "The masks, `<variant>/<refinement>`.")


class Reading(Settings):
    """A reading of a model's attention, a variant. It has two rows: as it is and, where the model has a
    block for it, propagated."""

    backbone: str = key(..., "The model, as it is called in the table.")
    reading: str = key(..., "The reading, as it is called in the table.")
    variant: str = key(..., "The variant of the extraction.")


class Backbones(Settings):
    """Models and readings of their attention under one protocol."""

    dataset: str = key("voc", "The data set of the masks.")
    split: str = key("train", "The split of the masks.")
    rows: list[Reading] = key([], "The readings, in the table's order.")
    count: Count = key(4, "Number of photos in the picture of them.")


class Figures(Settings):
    """The contents of the figures."""

    voc_figure_b8: FigureB8 = part(FigureB8)
    voc_figure_2: Figure2 = part(Figure2)
    voc_figure_d9: FigureD9 = part(FigureD9)
    backbones: Backbones = part(Backbones)


class Claims(Settings):
    """The ledger's tests of the papers' claims."""

    training_runs: Count = key(
        1,
        "Trainings, with different seeds, of each segmentor in a claim; with fewer than 3 the verdict "
        'is "one run".',
    )
    resamples: int = key(2000, "Resamples of the bootstrap over images.", ge=100)
