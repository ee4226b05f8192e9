"""The text-to-image model, its adapters, and the weights that segmentors start from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attnseg.config.resolved import model_of
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
        return self._folder(self.config["model"])

    def _folder(self, model: Mapping) -> str:
        path = model["path"]
        if model["revision"] is None:
            return path
        return f"{self.config['paths']['resources']}/models/{'--'.join(Path(path).parts)}"

    def _of(self, variant: str | None) -> Mapping:
        """The model, or that of a variant."""
        return self.config["model"] if variant is None else model_of(self.config, variant)

    def files(self, variant: str | None = None) -> list[str]:
        """The model as an input: its index, and the weights where they are here already; of a family
        that the configuration names, its file and the whole folder."""
        model = self._of(variant)
        folder = Path(self._folder(model))
        if model["file"] is not None:
            inside = sorted(str(file) for file in folder.rglob("*") if file.is_file())
            return [model["file"], *(inside or [str(folder)])]
        weights: list[str] = []
        if model["revision"] is None:
            weights = sorted(map(str, folder.glob("*/*.safetensors")))
        return [str(folder / "model_index.json"), *weights]

    def flags(self) -> Flags:
        """Flags of a program that loads the model."""
        return {"model": self.folder}

    def family_flags(self, variant: str | None = None) -> Flags:
        """Flags of a program that loads a model of any family."""
        model = self._of(variant)
        return {"model": self._folder(model), "model_file": model["file"]}

    @property
    def fetched(self) -> dict[str, Mapping]:
        """The models that are fetched from the hub, by their folders' names."""
        models = [self.config["model"], *self.config["backbones"].values()]
        return {Path(self._folder(m)).name: m for m in models if m["revision"] is not None}

    def fetch_flags(self, name: str) -> Flags:
        """Where a model is fetched from."""
        model = self.fetched[name]
        return {"id": model["path"], "revision": model["revision"]}

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
