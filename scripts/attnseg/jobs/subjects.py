"""Personalised segmentation: the subjects of Mug19, the methods, and what each needs."""

from collections.abc import Mapping
from dataclasses import dataclass

from attnseg.evaluations import MUG19_SPLITS, Evaluation, mug19_methods
from attnseg.jobs.base import Flags
from attnseg.jobs.data import Data
from attnseg.jobs.models import Models

DATASET = "mug19"


@dataclass(frozen=True)
class Subjects:
    """The subjects and methods of `personalised`."""

    config: Mapping
    data: Data
    models: Models

    def root(self) -> str:
        return self.data.root(DATASET)

    def title(self) -> str:
        """The data set's name in tables."""
        return self.data.title(DATASET)

    def manifest(self) -> str:
        """The manifest that says the data set is there."""
        return self.data.manifest(DATASET, "all")

    def flags(self) -> Flags:
        """The subjects and the model that learns them."""
        return {"mug19": self.root(), **self.models.flags()}

    def class_images(self) -> str | list[str]:
        """The images of the class that preserve what its word means, as an input."""
        wanted = self.config["personalised"]["training"]["regularisation_images"] > 0
        return "<work>/personal/regularisation.json" if wanted else []

    def learnt(self) -> list[str]:
        """The weights of all subjects, as an input."""
        numbers = range(self.config["personalised"]["jobs"])
        return [f"<work>/personal/part-{number}.json" for number in numbers]

    def features(self) -> str | list[str]:
        """The segmentor whose backbone two baselines compare, as an input."""
        name = self.config["personalised"]["features"]
        return [] if name is None else f"<work>/segmentors/{name}/weights.safetensors"

    def segmentation_flags(self) -> Flags:
        """The scenes, the models and the methods that are compared."""
        settings = self.config["personalised"]
        return {
            "root": self.root(),
            **self.models.flags(),
            "methods": mug19_methods(self.config),
            "clip": settings["clip"],
            "dino": settings["dino"],
        }

    def metrics(self) -> list[str]:
        """The scores of every method in every split."""
        return [
            Evaluation(DATASET, split, method).path
            for split in (*MUG19_SPLITS.values(), "variant")
            for method in mug19_methods(self.config)
        ]
