"""Data sets: their configuration, the places of their files, and the flags of programs that read them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from attnseg import datasets
from attnseg.errors import UserError
from attnseg.jobs.base import Flags
from attnseg.settings import PROFILES


@dataclass(frozen=True)
class Data:
    """The configured data sets."""

    config: Mapping

    @cached_property
    def facts(self) -> dict[str, datasets.Dataset]:
        """By their keys in the configuration."""
        return {name: datasets.load(name, entry) for name, entry in self.config["datasets"].items()}

    @property
    def composed(self) -> list[str]:
        """Those that are made of the mini world."""
        entries = self.config["datasets"].items()
        return [name for name, entry in entries if entry["source"] == "mini_world"]

    def root(self, dataset: str) -> str:
        return self.config["datasets"][dataset]["root"]

    def title(self, dataset: str) -> str:
        """The name printed in tables."""
        return self.config["datasets"][dataset]["name"] or dataset

    def argument(self, dataset: str) -> str | dict:
        """The value of --dataset: a name, or the configured facts of a data set of one's own."""
        return datasets.argument(dataset, self.config["datasets"][dataset])

    def split(self, dataset: str, split: str) -> Mapping:
        """The configuration of a split."""
        splits = self.config["datasets"][dataset]["splits"]
        if split not in splits:
            raise UserError(
                f"datasets.{dataset}.splits has no {split!r}; configured are {', '.join(splits)}"
            )
        return splits[split]

    def images(self, dataset: str, split: str) -> int:
        """The number of images in a split."""
        return self.split(dataset, split)["images"]

    def manifest(self, dataset: str, split: str) -> str:
        """The manifest that says a data set is there, with every split that is configured."""
        self.split(dataset, split)
        return f"<resources>/{dataset}.json"

    def photos(self, dataset: str, split: str) -> str:
        """The folder below which a split's photos lie."""
        folder = self.facts[dataset].photo_folder(split)
        if folder is None:
            raise UserError(
                f"photos of datasets.{dataset} lie in no one folder and cannot be adapted to or inverted"
            )
        return f"{self.root(dataset)}/{folder}"

    def true_masks(self, dataset: str, split: str) -> str | None:
        """The folder of ground truth that segmentors can train on as it is; None if it must be converted."""
        folder = self.facts[dataset].training_masks(split)
        return None if folder is None else os.path.join(self.root(dataset), folder)

    def has_truth(self, dataset: str, split: str) -> bool:
        """Whether a split has a ground truth here."""
        return self.config["datasets"][dataset]["splits"][split]["truth"]

    def label_source(self, dataset: str, profile: str) -> str | None:
        """The source of image-level labels; the official code takes them from the ground truth."""
        if PROFILES[profile].labels_from_masks:
            return "mask"
        return next(iter(self.facts[dataset].label_sources), None)

    def listed_labels(self, dataset: str) -> str | list[str]:
        """The file of the labels of photos of one's own, as an input; none where they have none."""
        facts, root = self.facts[dataset], self.root(dataset)
        if self.config["datasets"][dataset]["source"] != "folder" or facts.layout:
            return []
        source = facts.label_sources[0]
        some: list[str | None] = [facts.annotations, "labels.csv"]  # of some of the photos
        files: dict[str, list[str | None]] = {
            "csv": ["labels.csv"],
            "instances": [facts.annotations],
            "known": some,
            "all": some,
        }
        paths = [os.path.join(root, name) for name in files.get(source, []) if name]
        return next(filter(os.path.isfile, paths), [])

    def vocabulary(self, dataset: str) -> str | dict | None:
        """The data set whose words its classes are asked for by; None for one's own."""
        name = self.config["datasets"][dataset]["vocabulary"] or dataset
        if name not in self.facts:
            return name
        own = name == dataset and self.argument(name) != name
        return None if own else self.argument(name)

    # -- flags

    def classes_flags(self, dataset: str) -> Flags:
        """Flags of a program that reads none of the data set's files."""
        return {"dataset": self.argument(dataset)}

    def split_flags(self, dataset: str, split: str) -> Flags:
        """Flags of a program that reads a split."""
        return self.classes_flags(dataset) | {"root": self.root(dataset), "split": split}

    def photos_flags(self, dataset: str, split: str) -> Flags:
        """Flags of a program that reads the photos named by an earlier one."""
        by_split = "{split}" in (self.facts[dataset].photos or "")
        return self.split_flags(dataset, split) | ({} if by_split else {"split": None})

    def download_flags(self, dataset: str) -> Flags:
        """Flags of the check of a data set: its folder and its splits."""
        entry = self.config["datasets"][dataset]
        splits = entry["splits"].items()
        return {
            "dataset": self.argument(dataset),
            "root": entry["root"],
            "source": entry["source"],
            "splits": [f"{name}={split['images']}" for name, split in splits],
            "without_masks": [name for name, split in splits if not split["truth"]] or None,
            "labels": self.facts[dataset].label_sources[0] if self.listed_labels(dataset) else None,
        }
