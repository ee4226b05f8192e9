"""Generated images: their prompts, the adapter that draws them, and their shards."""

from collections.abc import Mapping
from dataclasses import dataclass

from attnseg.errors import UserError
from attnseg.jobs.base import Flags, shard_files
from attnseg.jobs.data import Data
from attnseg.jobs.models import Models


@dataclass(frozen=True)
class Synthesis:
    """The configured sets of generated images."""

    config: Mapping
    data: Data
    models: Models

    @property
    def composed(self) -> list[str]:
        """Those whose prompts are captions of the mini world."""
        sets = self.config["synthesis"].items()
        return [name for name, settings in sets if settings["source"] == "mini_world"]

    def prompts_data(self, synthesis: str) -> str | list[str]:
        """The data that prompts are built from, as an input."""
        source = self.config["synthesis"][synthesis]["source"]
        if source not in self.config["datasets"]:
            raise UserError(f"synthesis.{synthesis} needs datasets.{source}; configure it")
        dataset = self.data.facts[source]
        read = dataset.captions or dataset.names_below_root
        return f"<resources>/{source}.json" if read else []

    def prompt_flags(self, synthesis: str) -> Flags:
        """Flags that determine the prompts."""
        settings = self.config["synthesis"][synthesis]
        count = {"count": settings["count"], "seed": self.config["seed"]}
        if synthesis in self.composed:
            return count
        source = settings["source"]
        dataset, root = self.data.facts[source], self.data.root(source)
        more: Flags
        if dataset.captions:
            more = {
                "captions": f"{root}/{dataset.captions}",
                "dataset": self.data.argument(settings["dataset"]),
                "person_words": settings["person_words"],
            }
        else:
            more = {
                "root": root if dataset.names_below_root else None,
                "adapted": bool(settings["lora"] and dataset.adapted_prompt),
            }
        return {"source": self.data.argument(source), **count, **more}

    def adapter(self, synthesis: str) -> str | list[str]:
        """The LoRA that images are generated with, as an input."""
        lora = self.config["synthesis"][synthesis]["lora"]
        return [] if lora is None else f"<work>/loras/{lora}.safetensors"

    def shards(self, synthesis: str, number: int | str | None = None) -> list[str]:
        """The shards that hold the first images of a set; all without a number."""
        count = self.config["synthesis"][synthesis]["count"] if number is None else int(number)
        return shard_files(
            f"<work>/generated/{synthesis}", count, self.config["generation"]["shard_size"]
        )

    def classes_flags(self, synthesis: str) -> Flags:
        """The data set whose classes the images have."""
        return self.data.classes_flags(self.config["synthesis"][synthesis]["dataset"])

    def shard_flags(self, shard: str) -> Flags:
        """Which shard is generated, and by which model."""
        return {"shard": int(shard), **self.models.family_flags()}
