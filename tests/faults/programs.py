"""The long programs: the command, how its finished units are counted, and what is compared.

A unit is finished if a later run need not make it again. How many are is read from the disk after a kill;
how many a run has made, from the files that are new, or from what it says.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

TIMES = {"timing", "seconds", "digest"}  # of JSON files; a digest is of them, too
SLOW = "crf.iterations=200"  # a tenth of a second for a mask


@dataclass
class World:
    """Input of the programs: `made(program)` is the folder of an uninterrupted run."""

    root: Path  # of mini VOC with a few scenes
    model: Path
    prompts: Path
    subject: Path
    masks: Path  # to export
    registry: Path  # of a data set that is on a server
    made: Callable[[str], Path]
    seconds: dict[str, float] = field(default_factory=dict)  # of a unit


class Files(NamedTuple):
    """Units that are files."""

    pattern: str

    def finished(self, folder: Path) -> dict[str, tuple[int, int]]:
        found = {}
        for path in folder.glob(self.pattern):
            stat = path.stat()
            found[str(path.relative_to(folder))] = (stat.st_ino, stat.st_mtime_ns)
        return found

    def made(self, folder: Path, log: str, before: dict) -> int:
        after = self.finished(folder)
        assert {name: after.get(name) for name in before} == before, (
            "a finished unit was made again"
        )
        return len(after) - len(before)


class Batches(NamedTuple):
    """Samples of a shard, in the batches kept until it is complete."""

    samples: int

    def finished(self, folder: Path) -> range:
        (*whole,) = folder.glob("attention/shard-*.json")
        kept = whole or folder.glob("attention/.shard-*/*-*.json")
        return range(sum(len(json.loads(path.read_text())["items"]) for path in kept))

    def made(self, folder: Path, log: str, before: range) -> int:
        return int(re.search(r"(\d+) of them now", log)[1])


class Steps(NamedTuple):
    """Steps of a training, by its newest checkpoint."""

    pattern: str
    steps: int

    def finished(self, folder: Path) -> range:
        from attnseg.io.tensors import read_checkpoint  # not at the top: it loads torch

        for path in folder.glob(self.pattern):
            if path.suffix == ".pt":
                return range(len(read_checkpoint(path)["losses"]))
        whole = [
            path.stem for path in folder.glob(self.pattern) if path.with_suffix(".sha256").exists()
        ]
        return range(max((int(name.removeprefix("iter_")) for name in whole), default=0))

    def made(self, folder: Path, log: str, before: range) -> int:
        return self.steps - int(re.search(r"resumed after (?:step|iteration) (\d+)", log)[1])


ARCHIVE = 2**21  # bytes of each archive that the server sends
SENT: list[int] = []  # bytes that it was asked for, since the last `clear`


class Kibibytes(NamedTuple):
    """Units that are those of archives."""

    def finished(self, folder: Path) -> range:
        archives = (path for path in folder.glob("downloads/*") if path.suffix != ".tag")
        return range(sum(path.stat().st_size for path in archives) // 1024)

    def made(self, folder: Path, log: str, before: range) -> int:
        return -(-sum(SENT) // 1024)


class Program(NamedTuple):
    """units: how many, of the count. results: patterns of what is compared. keeps: a later run goes on."""

    commands: Callable[[World], list[list[object]]]
    count: Files | Batches | Steps | Kibibytes
    units: int
    results: Sequence[str]
    keeps: bool = True


def extraction(world: World) -> list[list[object]]:
    return [
        [
            "extract_attention", "--root", world.root, "--split", "train", "--model", world.model,
            "--device", "cpu", "--shard", shard, "--output", f"attention/shard-{shard:05d}.safetensors",
            "--set", "resize=none", "noises=1", "shard_size=3",
        ]
        for shard in range(4)
    ]  # fmt: skip


def generation(world: World) -> list[list[object]]:
    return [[
        "generate_images", "--prompts", world.prompts, "--model", world.model, "--device", "cpu",
        "--output", "attention/shard-00000.safetensors", "--images", "images",
        "--set", "steps=2", "attention_step=1", "batch_size=2", "image_format=png", "precision=float32",
    ]]  # fmt: skip


def inversion(world: World) -> list[list[object]]:
    return [[
        "invert_image", "--root", world.root, "--split", "train", "--limit", 5, "--model", world.model,
        "--device", "cpu", "--output", "attention/shard-00000.safetensors",
        "--set", "steps=2", "inner_iterations=1", "batch_size=1",
    ]]  # fmt: skip


def refinement(world: World) -> list[list[object]]:
    return [[
        "refine_masks", "--root", world.root, "--attention", world.made("extract_attention") / "attention",
        "--output", "masks", "--processes", 2, "--set", SLOW,
    ]]  # fmt: skip


def labelling(world: World) -> list[list[object]]:
    made = world.made("generate_images")
    return [[
        "refine_synthetic", "--dataset", "voc", "--attention", made / "attention", "--images",
        made / "images", "--output", "masks", "--processes", 2, "--set", SLOW,
    ]]  # fmt: skip


def export(world: World) -> list[list[object]]:
    return [["attnseg.app.command", "export", world.masks, "--format", "voc", "--output", "voc"]]


def subject(world: World) -> list[list[object]]:
    return [[
        "train_custom_diffusion", "--photos", world.subject, "--class", "cat", "--model", world.model,
        "--regularisation", world.subject, "--output", "mug", "--device", "cpu", "--threads", 1,
        "--set", "steps=20", "batch_size=1", "learning_rate=0.01", "size=64", "initial_word=dog",
        "checkpoint_interval=2", "seed=3",
    ]]  # fmt: skip


def adaptation(world: World) -> list[list[object]]:
    return [[
        "train_dreambooth_lora", "--model", world.model, "--images", world.subject, "--output",
        "lora.safetensors", "--device", "cpu", "--set", "steps=20", "rank=2", "learning_rate=0.01",
        "class_images=0", "checkpoint_interval=2",
    ]]  # fmt: skip


def training(world: World) -> list[list[object]]:
    settings = {
        "backbone": "resnet18", "width": 8, "stem": "small", "output_stride": 8, "rates": [1, 2],
        "crop": 32, "batch": 2, "iterations": 20, "lr": 0.05, "loss_scales": [1.0], "photometric": True,
        "workers": 0, "checkpoint_interval": 2,
    }  # fmt: skip
    return [[
        "train_segmentor", "--root", world.root, "--train-split", "train", "--device", "cpu",
        "--output", "weights.safetensors", "--settings", json.dumps(settings),
    ]]  # fmt: skip


def cotraining(world: World) -> list[list[object]]:
    return [[*training(world)[0], "--set", "learner=beco", "beco_warmup=8", "workers=1"]]


def evaluation(world: World) -> list[list[object]]:
    return [[
        "evaluate_segmentor", "--weights", world.made("train_segmentor") / "weights.safetensors",
        "--root", world.root, "--split", "train", "--device", "cpu", "--processes", 1,
        "--output", "metrics", "--save-predictions", "masks", "--set", "crf.iterations=80",
    ]]  # fmt: skip


def download(world: World) -> list[list[object]]:
    return [[
        "download_dataset", "--dataset", "voc", "--root", "data", "--splits", "train=24",
        "--registry", world.registry, "--output", "voc.json",
    ]]  # fmt: skip


ATTENTION = ("attention/shard-*",)
PROGRAMS = {
    "extract_attention": Program(extraction, Files("attention/shard-*.json"), 4, ATTENTION),
    "generate_images": Program(generation, Batches(16), 16, (*ATTENTION, "images/*")),
    "invert_image": Program(inversion, Batches(5), 5, ATTENTION),
    "refine_masks": Program(refinement, Files("masks/2*.png"), 12, ("masks/*",)),
    "refine_synthetic": Program(labelling, Files("masks/reliability/v*.png"), 16, ("masks/**/*",)),
    "attnseg export": Program(
        export, Files(".attnseg-*.partial/JPEGImages/*"), 150, ("voc/**/*",), keeps=False
    ),
    "train_custom_diffusion": Program(
        subject, Steps("mug.checkpoints/checkpoint.pt", 20), 20, ("mug/*",),
    ),
    "train_dreambooth_lora": Program(
        adaptation, Steps("checkpoints/*.pt", 20), 20, ("lora.safetensors",),
    ),
    "train_segmentor": Program(
        training, Steps("training-*/iter_*.pth", 20), 20, ("weights.safetensors",),
    ),
    "train_segmentor (BECO)": Program(
        cotraining, Steps("training-*/iter_*.pth", 20), 20, ("weights.safetensors",),
    ),
    "evaluate_segmentor": Program(
        evaluation, Files("masks/2*.png"), 24, ("masks/2*.png", "metrics/*")
    ),
    "download_dataset": Program(download, Kibibytes(), 3 * ARCHIVE // 1024, ("data/**/*", "voc.json")),
}  # fmt: skip


def finished(name: str, folder: Path) -> dict | range:
    """The units of a program that are whole, while it runs."""
    for _ in range(100):
        try:
            return PROGRAMS[name].count.finished(folder)
        except OSError:  # it was renamed meanwhile
            time.sleep(0.01)
    raise AssertionError("files that come and go")


def content(folder: Path, patterns: Sequence[str]) -> dict[str, object]:
    """Of the final files: bytes, and of JSON files the values that are no times."""
    found: dict[str, object] = {}
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        if not path.is_file() or path.name.startswith(".") or ".bad" in path.suffix:
            continue
        read = path.read_bytes()
        if path.suffix == ".json":
            read = without_times(json.loads(read))
        found[str(path.relative_to(folder))] = read
    return found


def without_times(value: object) -> object:
    if isinstance(value, dict):
        kept = {key: without_times(v) for key, v in value.items() if key not in TIMES}
        if isinstance(kept.get("photo"), list):  # size, date, digest
            kept["photo"] = kept["photo"][::2]
        return kept
    return [without_times(v) for v in value] if isinstance(value, list) else value
