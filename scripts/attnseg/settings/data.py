"""Data sets, and the pictures and figures of their masks."""

from typing import Annotated, Literal

from pydantic import Field

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


class Dataset(Settings):
    """A data set, named by its on-disk layout."""

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
    root: str = key(..., "Its folder, in its official layout.")
    labels: Literal["xml", "mask", "csv", "instances"] = key(
        "xml",
        "Where image-level labels are read. VOC's annotations (xml), COCO's (instances), the true "
        "masks, as in the official profile, or labels.csv in the root (id,classes; classes parted "
        "by semicolons).",
    )
    vocabulary: Literal["voc", "coco"] = key(
        "voc",
        "Whose synonyms, CLIP-ES's for VOC or for COCO, stand for class names in queries.",
        papers="Text2Mask: each data set's own",
    )
    splits: dict[str, Split] = key(..., "Its splits, by their official names.")


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
