"""Attention of photos and pseudo masks, those of inverted photos included."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attnseg.config.resolved import model_of, resolve_variant
from attnseg.errors import UserError
from attnseg.jobs.base import Flags, shard_files
from attnseg.jobs.data import Data
from attnseg.jobs.models import Models
from attnseg.settings import Method, read_settings

# masks that take no model, to know what a mean IoU is worth
REFERENCES = ("all_background", "random_labels")


@dataclass(frozen=True)
class Masks:
    """By the wildcards of their folders."""

    config: Mapping
    data: Data
    models: Models

    # -- of photos

    def shards(self, dataset: str, split: str, variant: str) -> list[str]:
        """The shards of a split's attention under a variant."""
        return shard_files(
            f"<work>/attention/{dataset}/{split}/{variant}",
            self.data.images(dataset, split),
            resolve_variant(self.config, variant)["shard_size"],
        )

    def shard_flags(self, dataset: str, split: str, variant: str, shard: str) -> Flags:
        """The model, and the photos of a shard and what the data set says of them."""
        profile = resolve_variant(self.config, variant)["profile"]
        return {
            "labels": self.data.label_source(dataset, profile),
            "shard": int(shard),
            "images": self.data.images(dataset, split),
            **self.models.family_flags(variant),
            "vocabulary": self.data.vocabulary(dataset),
        }

    # -- of inverted photos

    def inverted_images(self, dataset: str, split: str, inversion: str) -> int:
        """How many photos of a split are inverted."""
        listed = self.data.images(dataset, split)
        return min(listed, self.config["inversions"][inversion]["images"].get(split, listed))

    def inverted_shards(self, dataset: str, split: str, inversion: str) -> list[str]:
        """The shards of a split's inverted photos."""
        return shard_files(
            f"<work>/inverted/{dataset}/{split}/{inversion}",
            self.inverted_images(dataset, split, inversion),
            self.config["inversions"][inversion]["shard_size"],
        )

    def inversion_flags(self, dataset: str, split: str, inversion: str, shard: str) -> Flags:
        """The model, and the photos of a shard and where their labels are."""
        return {
            "labels": self.data.label_source(dataset, self.config["profile"]),
            "shard": int(shard),
            "limit": self.inverted_images(dataset, split, inversion),
            **self.models.flags(),
        }

    # -- of competing methods

    def given(self, dataset: str, split: str, method: str) -> str:
        """The folder of a competing method's masks."""
        settings = read_settings(Method, self.config["methods"][method])
        folder = settings.folder(dataset, split)
        if not Path(folder).is_dir():
            raise UserError(
                f"methods.{method}.masks: {folder}: no such folder; it must hold <id>.png of "
                f"every image of {dataset} {split}"
            )
        return folder

    def newest_given(self, dataset: str, split: str, variant: str) -> str | list[str]:
        """The newest of a competing method's masks, as an input: a folder is no newer when a file in
        it is replaced."""
        if variant not in self.config["methods"]:
            return []
        folder = self.given(dataset, split, variant)
        files = [file for file in os.scandir(folder) if file.is_file()]
        newest = max(files, key=lambda file: file.stat().st_mtime, default=None)
        return newest.path if newest else []

    # -- references, and all when they are evaluated

    def reference_flags(self, dataset: str, reference: str) -> Flags:
        """How reference masks are made."""
        labels = self.data.label_source(dataset, self.config["profile"])
        return {"kind": reference, "labels": labels, "seed": self.config["seed"]}

    def timed_attention(self, dataset: str, split: str, variant: str) -> str | list[str]:
        """The manifest of the attention behind masks, which says how long it took, as an input."""
        if variant not in self.config["variants"]:
            return []
        return f"<work>/attention/{dataset}/{split}/{variant}/manifest.json"

    def scored(self, dataset: str, split: str, variant: str, refinement: str) -> str:
        """Masks that are evaluated, as an input: their manifest, or the folder of a competing method's."""
        if variant in self.config["methods"]:
            return self.given(dataset, split, variant)
        return f"<work>/masks/{dataset}/{split}/{variant}/{refinement}/manifest.json"

    def labels_flags(self, dataset: str, variant: str, refinement: str) -> Flags:
        """Flags for what tables print beside a number: the data set, the model and the seed."""
        title = self.data.title(dataset)
        if variant in self.config["methods"]:
            label = self.config["methods"][variant]["label"]
            return {"dataset_name": title, "model": label, "given": True}
        own = variant in self.config["variants"]
        model = model_of(self.config, variant) if own else self.config["model"]
        return {
            "dataset_name": title,
            "model": refinement if variant == "reference" else model["path"],
            "seed": (resolve_variant(self.config, variant) if own else self.config)["seed"],
        }

    def limit_flags(self, split: str, variant: str) -> Flags:
        """How many images of a split have masks, where not all."""
        inversion = self.config["inversions"].get(variant)
        return {"limit": inversion and inversion["images"].get(split)}

    def similarity_flags(self, dataset: str) -> Flags:
        """Flags for the data set whose classes are compared, and the text encoder."""
        labels = self.data.label_source(dataset, self.config["profile"])
        return {"labels": labels, **self.models.flags()}
