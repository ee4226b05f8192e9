"""Names of evaluations and what they depend on; no other module parses these names.

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
from pathlib import Path
from typing import Any

from attnseg.errors import UserError

GIVEN = "given"  # in place of a post-processing

FORMS = {
    "masks": ("dataset", "split", "method", "postprocessing"),
    "similarity": ("dataset", "split", "method", "postprocessing"),
    "segmentors": ("method", "split"),
    "mug19": ("split", "method"),
}

# Personalised segmentation: label in the tables -> method, split; metric -> array in per_triplet.npz
MUG19_METHODS = {
    "Mask R-CNN": "mask_rcnn",
    "DINO-ViT": "dino_vit",
    "Subject Only": "subject_only",
    "Context Only": "context_only",
    "Arithmetic": "arithmetic",
    "Ours": "custom_selfcross",
    "Ours [identifier and class]": "identifier_class",
}
MUG19_SPLITS = {
    "All": "all",
    "Semantic Distractor": "semantic_distractor",
    "Visual Distractor": "visual_distractor",
}
MEASURES = {"miou": "iou", "bf_acc": "found_alone", "af_acc": "found_together"}
NO_MASK_RCNN = "Mask R-CNN needs Detectron2 or torchvision, which no environment here has"


def mug19_methods(config: Mapping) -> list[str]:
    """The methods of personalised segmentation that a configuration can run."""
    settings = config["personalised"]
    pictures = [key for key in ("dino", "features") if settings[key] is not None]
    needs = {"dino_vit": pictures, "mask_rcnn": "features" in pictures}
    return [name for name in MUG19_METHODS.values() if needs.get(name, True)]


def is_there(model: Mapping) -> bool:
    """True if a model can be loaded: it is on the hub, or its folder exists."""
    return model["revision"] is not None or Path(model["path"]).is_dir()


@dataclass(frozen=True)
class Evaluation:
    """One evaluation; `method` is a variant of the extraction, an inversion or a segmentor."""

    kind: str
    split: str
    method: str
    dataset: str | None = None  # None for a segmentor: the configuration has it
    postprocessing: str | None = None
    run: int = 1

    @classmethod
    def parse(cls, name: str) -> "Evaluation":
        """Parse a name such as "masks/voc/train/base/crf"."""
        kind, *parts = name.split("/")
        form = FORMS.get(kind, ())
        if not form or len(parts) != len(form) or not all(parts):
            forms = ", ".join(f"{k}/<{'>/<'.join(f)}>" for k, f in FORMS.items())
            raise UserError(f"{name!r} is not an evaluation; the forms are {forms}")
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
        """Path of its metrics.json, with ``<work>`` for the work folder, as in Snakemake's rules."""
        return f"<work>/evaluation/{self}/metrics.json"

    @property
    def masks(self) -> str:
        """Folder of the evaluated masks, relative to ``<work>/masks``."""
        return f"{self.dataset}/{self.split}/{self.method}/{self.postprocessing}"

    @property
    def trained(self) -> bool:
        """True if it evaluates a trained segmentor."""
        return self.kind == "segmentors"

    def again(self, run: int) -> "Evaluation":
        """The evaluation of another training run with the same settings."""
        return replace(self, run=run)

    def data(self, config: Mapping) -> str | None:
        """Name of the data set; None for a segmentor that is not configured."""
        if not self.trained:
            return self.dataset
        segmentor = config["segmentors"].get(self.method)
        return segmentor and segmentor["train"]["dataset"]

    def split_settings(self, config: Mapping) -> Mapping | None:
        """Settings of its split; None if it is not configured."""
        dataset = config["datasets"].get(self.data(config))
        return dataset and dataset["splits"].get(self.split)

    def can_be_made(self, config: Mapping) -> bool:
        """True if the configuration names everything that it needs, including ground truth."""
        if self.kind == "mug19":
            return self.dataset in config["datasets"] and self.method in mug19_methods(config)
        split = self.split_settings(config)
        if split is None:
            return False
        if self.trained:
            return bool(split["truth"])
        if self.method in config["methods"]:
            return self.postprocessing == GIVEN and bool(split["truth"])
        if self.method in config["inversions"]:
            return self.postprocessing in config["labellings"]
        if (
            self.method not in config["variants"]
            or self.postprocessing not in config["refinements"]
        ):
            return False
        backbone = (config["variants"][self.method] or {}).get("backbone")
        return backbone is None or is_there(config["backbones"][backbone])

    def needs_server(self, config: Mapping) -> bool:
        """True if only an evaluation server has the ground truth of the segmentor's split."""
        split = self.split_settings(config)
        return self.trained and split is not None and not split["truth"]
