"""What an evaluation is called, and what it depends on. Nobody else splits its name.

    masks/<dataset>/<split>/<method>/<post-processing>        masks against the ground truth; `given` where
                                                              they are those of a competing method
    similarity/<dataset>/<split>/<method>/<post-processing>   classes' similarity beside their quality
    segmentors/<name>[@<run>]/<split>                         a trained segmentor; run 2, 3, ... of
                                                              the same settings have seeds of their own
    mug19/<split>/<method>                                    personalised segmentation

The name is also the folder below work/[mini/]evaluation. Standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from attnseg.errors import UserError

GIVEN = "given"  # in place of a post-processing

FORMS = {
    "masks": ("dataset", "split", "method", "postprocessing"),
    "similarity": ("dataset", "split", "method", "postprocessing"),
    "segmentors": ("method", "split"),
    "mug19": ("split", "method"),
}

# of personalised segmentation: its methods and splits by their labels in the tables, and its metrics
# with their arrays in per_triplet.npz
MUG19_METHODS = {
    "Mask R-CNN": "mask_rcnn",
    "DINO-ViT": "dino_vit",
    "Subject Only": "subject_only",
    "Context Only": "context_only",
    "Arithmetic": "arithmetic",
    "Ours": "custom_selfcross",
}
MUG19_SPLITS = {
    "All": "all",
    "Semantic Distractor": "semantic_distractor",
    "Visual Distractor": "visual_distractor",
}
MEASURES = {"miou": "iou", "bf_acc": "found_alone", "af_acc": "found_together"}
NO_MASK_RCNN = "Mask R-CNN needs Detectron2 or torchvision, which no environment here has"


@dataclass(frozen=True)
class Evaluation:
    """`method`: a variant of the extraction, an inversion, a method of `methods`, or a segmentor."""

    kind: str
    split: str
    method: str
    dataset: str | None = None  # of a segmentor, the configuration says it
    postprocessing: str | None = None
    run: int = 1

    @classmethod
    def parse(cls, name: str) -> "Evaluation":
        """The evaluation of a name such as "masks/voc/train/base/crf"."""
        kind, *parts = name.split("/")
        form = FORMS.get(kind, ())
        if not form or len(parts) != len(form) or not all(parts):
            forms = ", ".join(f"{k}/<{'>/<'.join(f)}>" for k, f in FORMS.items())
            raise UserError(f"{name!r} names no evaluation; the forms are {forms}")
        fields: dict[str, Any] = dict(zip(form, parts, strict=True))
        if kind == "segmentors":
            fields["method"], _, run = fields["method"].partition("@")
            return cls(kind, **fields, run=int(run or 1))
        if kind == "mug19":
            fields["dataset"] = kind
        return cls(kind, **fields)

    def __str__(self) -> str:
        method = self.method if self.run == 1 else f"{self.method}@{self.run}"
        values = {**vars(self), "method": method}
        return "/".join([self.kind, *(values[field] for field in FORMS[self.kind])])

    @property
    def path(self) -> str:
        """Its metrics.json, with Snakemake's <work> for the work folder."""
        return f"<work>/evaluation/{self}/metrics.json"

    @property
    def masks(self) -> str:
        """The folder of the evaluated masks, below the work folder's `masks`."""
        return f"{self.dataset}/{self.split}/{self.method}/{self.postprocessing}"

    @property
    def trained(self) -> bool:
        """Whether it is that of a trained segmentor."""
        return self.kind == "segmentors"

    def again(self, run: int) -> "Evaluation":
        """The same of a training with another seed."""
        return replace(self, run=run)

    def data(self, config: Mapping) -> str | None:
        """The data set that it is measured on; None for a segmentor that is not configured."""
        if not self.trained:
            return self.dataset
        segmentor = config["segmentors"].get(self.method)
        return segmentor and segmentor["train"]["dataset"]

    def split_settings(self, config: Mapping) -> Mapping | None:
        """What is configured for its split; None where there is none."""
        dataset = config["datasets"].get(self.data(config))
        return dataset and dataset["splits"].get(self.split)

    def can_be_made(self, config: Mapping) -> bool:
        """Whether the configuration names all that it takes, ground truth included."""
        split = self.split_settings(config)
        if split is None:
            return False
        if self.trained:
            return bool(split["truth"])
        if self.kind == "mug19":
            return True
        if self.method in config["methods"]:
            return self.postprocessing == GIVEN and bool(split["truth"])
        if self.method in config["inversions"]:
            return self.postprocessing in config["labellings"]
        return self.method in config["variants"] and self.postprocessing in config["refinements"]

    def needs_server(self, config: Mapping) -> bool:
        """Whether only an evaluation server has the ground truth of a segmentor's split."""
        split = self.split_settings(config)
        return self.trained and split is not None and not split["truth"]
