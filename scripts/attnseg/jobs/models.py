"""The text-to-image model, its adapters, and the weights that segmentors start from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attnseg.errors import UserError
from attnseg.jobs.base import Flags
from attnseg.jobs.data import Data


@dataclass(frozen=True)
class Models:
    """The configured model and its adapters."""

    config: Mapping
    data: Data

    @property
    def folder(self) -> str:
        """The folder that the model is loaded from."""
        path = self.config["model"]["path"]
        if self.config["model"]["revision"] is None:
            return path
        return f"{self.config['paths']['resources']}/models/{'--'.join(Path(path).parts)}"

    def files(self) -> list[str]:
        """The model as an input: its index, and the weights where they are here already; of a family
        that the configuration names, its file and the whole folder."""
        folder = Path(self.folder)
        if self.config["model"]["file"] is not None:
            inside = sorted(str(file) for file in folder.rglob("*") if file.is_file())
            return [self.config["model"]["file"], *(inside or [str(folder)])]
        weights: list[str] = []
        if self.config["model"]["revision"] is None:
            weights = sorted(map(str, folder.glob("*/*.safetensors")))
        return [str(folder / "model_index.json"), *weights]

    def flags(self) -> Flags:
        """Flags of a program that loads the model."""
        return {"model": self.folder}

    def family_flags(self) -> Flags:
        """Flags of a program that loads a model of any family."""
        return self.flags() | {"model_file": self.config["model"]["file"]}

    def family_of(self, family: str) -> Flags:
        """Flags of the training of a miniature: an MM-DiT takes parts of the configured model."""
        return {} if family == "sd" else {"family": family, **self.flags()}

    def lora_photos(self, lora: str) -> str:
        """The data set that an adapter is trained on, as an input."""
        settings = self.config["loras"][lora]
        return self.data.manifest(settings["dataset"], settings["split"])

    def lora_flags(self, lora: str) -> Flags:
        """The model that is adapted, and the photos that it is adapted to."""
        settings = self.config["loras"][lora]
        photos = self.data.photos(settings["dataset"], settings["split"])
        return self.flags() | {"images": photos, "limit": settings["images"]}

    def backbone_address(self, backbone: str) -> str:
        """The address of a file of backbone weights."""
        for settings in self.config["segmentors"].values():
            if Path(settings["pretrained"] or "").stem == backbone:
                return settings["pretrained"]
        raise UserError(f"no segmentor is configured with the weights {backbone}")
