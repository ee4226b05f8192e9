"""Segmentors: the data that each is trained and tested on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from attnseg.config.resolved import backbone_weights, resolve_run, resolve_segmentor
from attnseg.errors import UserError
from attnseg.jobs.base import Flags
from attnseg.jobs.data import Data
from attnseg.jobs.settings import segmentor_job

FEW = 1000  # photos


@dataclass(frozen=True)
class Training:
    """The data of one training, as `segmentors.<name>.train` configures it."""

    config: Mapping
    data: Data
    dataset: str
    split: str  # None, and not read, where images are generated
    synthesis: str | None
    images: int | None
    masks: str

    @property
    def inverted(self) -> bool:
        """True if the masks are those of inverted photos."""
        return self.masks.split("/")[0] in self.config["inversions"]

    @property
    def mask_folder(self) -> str | None:
        """The folder below `masks`; None for the data set's own masks."""
        if self.synthesis is not None:
            images = self.images or self.config["synthesis"][self.synthesis]["count"]
            return f"generated/{self.synthesis}/{self.masks}/{images}"
        folder = f"{self.dataset}/{self.split}/{self.masks}"
        if self.masks == "truth":
            return folder if self.data.true_masks(self.dataset, self.split) is None else None
        # the copy in which unsure pixels are ignored
        return folder if self.inverted else f"{folder}-train"

    @property
    def mask_manifest(self) -> str:
        """The manifest that says the masks are complete."""
        if self.mask_folder is None:
            return self.data.manifest(self.dataset, self.split)
        return f"<work>/masks/{self.mask_folder}/manifest.json"

    @property
    def listed(self) -> str | list[str]:
        """The list of the images, as an input; that of generated ones is their masks'."""
        return [] if self.synthesis is not None else self.data.manifest(self.dataset, self.split)

    def flags(self, reliability: bool) -> Flags:
        """The images and their masks, and with `reliability` the maps of it, where there are some."""
        work = self.config["paths"]["work"]
        if self.synthesis is not None:
            images = {"train_images": f"{work}/generated/{self.synthesis}/images"}
        elif self.inverted:
            images = {"train_images": self.data.photos(self.dataset, self.split)}
        else:
            images = {"root": self.data.root(self.dataset), "train_split": self.split}
        if self.mask_folder is None:
            masks = self.data.true_masks(self.dataset, self.split)
        else:
            masks = f"{work}/masks/{self.mask_folder}"
        labelled = self.synthesis is not None or self.inverted
        return {
            **self.data.classes_flags(self.dataset),
            **images,
            "train_masks": masks,
            "reliability": f"{masks}/reliability" if reliability and labelled else None,
        }


@dataclass(frozen=True)
class Segmentors:
    """By name; `<name>@2` is `<name>` with another seed."""

    config: Mapping
    data: Data

    @property
    def gpus(self) -> int:
        """GPUs that share the batches of a training."""
        resources = self.config["resources"]
        shared = resources["gpu_per_training"]
        return resources["gpu_per_job"] if shared is None else shared

    @property
    def gpus_flag(self) -> int | None:
        """Their number, where there are several."""
        return self.gpus if self.gpus > 1 else None

    def threads(self, segmentor: str) -> int:
        """CPU threads of a training."""
        threads = self.config["resources"]["threads"]
        return threads["train_segmentors"].get(segmentor, threads["train_segmentor"])

    def training(self, segmentor: str) -> Training:
        return Training(self.config, self.data, **resolve_run(self.config, segmentor)["train"])

    def training_masks(self, segmentor: str) -> str:
        return self.training(segmentor).mask_manifest

    def training_list(self, segmentor: str) -> str | list[str]:
        return self.training(segmentor).listed

    def training_flags(self, segmentor: str) -> Flags:
        """The settings that determine a segmentor's weights."""
        settings = segmentor_job(self.config, segmentor)
        data = self.training(segmentor).flags(reliability=settings.learner == "beco")
        return {"settings": settings.identity(), **data}

    def weights(self, segmentor: str) -> str:
        """Its weights; segmentors that differ in `test` alone have those of the first of them."""
        name, at, run = segmentor.partition("@")

        def training(name: str) -> dict:
            settings = resolve_segmentor(self.config, name)
            return {key: value for key, value in settings.items() if key != "test"}

        first = next(
            other for other in self.config["segmentors"] if training(other) == training(name)
        )
        return f"<work>/segmentors/{first}{at}{run}/weights.safetensors"

    def backbone(self, segmentor: str) -> str | list[str]:
        """The file of its ImageNet weights, as an input; none where it starts from random ones."""
        return backbone_weights(resolve_run(self.config, segmentor)) or []

    def tested_list(self, segmentor: str, split: str) -> str:
        """The list of the images that it is tested on, of the data set that it is trained on."""
        return self.data.manifest(self.training(segmentor).dataset, split)

    def scores(self, segmentor: str, split: str) -> str | None:
        """The folder of its predictions, if a job of their own makes them: the dense CRF of many
        photos would hold the GPU for long. Of few it is not worth another job; photos of a split without
        ground truth may be absent, which makes no difference but to the archive of its masks."""
        test = resolve_run(self.config, segmentor)["test"]
        dataset = self.training(segmentor).dataset
        images = self.data.images(dataset, split)
        if not test["crf"] or images <= FEW or not self.data.has_truth(dataset, split):
            return None
        return f"{self.config['paths']['work']}/predictions/{segmentor}/{split}"

    def predicted(self, segmentor: str, split: str) -> str | list[str]:
        """The manifest of this folder, as an input."""
        folder = self.scores(segmentor, split)
        return [] if folder is None else f"{folder}/manifest.json"

    def newest_photo(self, prediction: str) -> str:
        """The newest of further photos, as an input: a folder is no newer when a file is replaced."""
        folder = self.config["predictions"][prediction]["photos"]
        files = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
        if not files:
            raise UserError(
                f"predictions.{prediction}.photos: {folder}: no photos there; name a folder of photos"
            )
        return max(files, key=os.path.getmtime)

    def prediction_flags(self, prediction: str) -> Flags:
        """The further photos, and how they are read."""
        entry = self.config["predictions"][prediction]
        facts = self.data.facts[self.training(entry["segmentor"]).dataset]
        return {
            "photos": entry["photos"],
            "ignore_exif": facts.exif == "ignore",
            "count": entry["count"],
        }

    def predicted_flags(self, segmentor: str, split: str) -> Flags:
        """The images that it is tested on."""
        dataset = self.training(segmentor).dataset
        return {
            **self.data.classes_flags(dataset),
            "root": self.data.root(dataset),
            "split": split,
        }

    def tested_flags(self, segmentor: str, split: str) -> Flags:
        """These, their name in the results, and the predictions that another job made."""
        return {
            **self.predicted_flags(segmentor, split),
            "dataset_name": self.data.title(self.training(segmentor).dataset),
            "scores": self.scores(segmentor, split),
        }
