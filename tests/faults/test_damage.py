"""Files that are lost, cut off, or changed by one bit behind a program's back: the documented command
names what it cannot trust, and makes that alone again."""

import importlib.util
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from programs import PROGRAMS, Files, content, finished

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
DAMAGES = ("removed", "truncated", "flipped")


def damage(path: Path, how: str) -> None:
    read = bytearray(path.read_bytes())
    path.unlink()
    if how == "truncated":
        path.write_bytes(read[: len(read) * 2 // 3])
    elif how == "flipped":
        read[len(read) // 2] ^= 1
        path.write_bytes(read)


# --- what a killed program goes on with


class Kept(NamedTuple):
    """pattern: of the files, of which the last is damaged. lost: the units that it costs, None for some."""

    program: str
    pattern: str
    lost: int | None
    fast: bool = False


KEPT = {
    "shard": Kept("extract_attention", "attention/shard-*.safetensors", 1),
    "items of a shard": Kept("extract_attention", "attention/shard-*.json", 1),
    "batch": Kept("generate_images", "attention/.shard-*/*.safetensors", 2),
    "items of a batch": Kept("generate_images", "attention/.shard-*/*.json", 2),
    "mask": Kept("refine_masks", "masks/2*.png", 1, fast=True),
    "reliability map": Kept("refine_synthetic", "masks/reliability/*.png", 1),
    "subject's checkpoint": Kept("train_custom_diffusion", "*.checkpoints/checkpoint.pt", None),
    "LoRA's checkpoint": Kept("train_dreambooth_lora", "checkpoints/*.pt", None),
    "segmentor's checkpoint": Kept("train_segmentor", "training-*/iter_*.pth", None, fast=True),
    "scores": Kept("evaluate_segmentor", "metrics/.unfinished/scores/shard-*.safetensors", 0),
    "prediction": Kept("evaluate_segmentor", "masks/2*.png", 1),
}


def cases(kinds: dict) -> list:
    """Each kind with each damage; those that `make test` leaves out are marked."""
    return [
        pytest.param(
            kind, how, marks=() if how == "flipped" and kinds[kind].fast else pytest.mark.slow
        )
        for kind in kinds
        for how in DAMAGES
    ]


@pytest.mark.parametrize("kind, how", cases(KEPT))
def test_a_program_goes_on_with_whole_files_alone(
    kind, how, world, forks, stopped, record_property
):
    name, pattern, lost, _ = KEPT[kind]
    program = PROGRAMS[name]
    folder, _, finished, _, _ = stopped(name, f"{kind} {how}", signal.SIGKILL)
    victim = sorted(folder.glob(pattern), key=lambda path: (len(path.name), path.name))[-1]
    if isinstance(finished, dict):
        finished.pop(str(victim.relative_to(folder).with_suffix(".json")), None)
        finished.pop(str(victim.relative_to(folder)), None)
        lost = 0
    damage(victim, how)
    status = forks.wait(forks.start(program.commands(world), folder, "again"))
    said = (folder / "again").read_text()
    assert status == 0, said
    if how != "removed":
        named = [line for line in said.splitlines() if victim.stem in line]
        # a checkpoint that was killed before its digest was written is not whole
        assert any("damaged" in line or "not whole" in line for line in named), said
    assert content(folder, program.results) == content(world.made(name), program.results)
    if lost is not None:
        assert program.count.made(folder, said, finished) == program.units - len(finished) + lost
    record_property("corrupted files", 1)


@pytest.mark.slow
@pytest.mark.parametrize("year", [1990, 2040])
@pytest.mark.parametrize(
    "name", ["extract_attention", "refine_masks", "train_segmentor", "generate_images"]
)
def test_a_clock_that_jumps_costs_no_finished_unit(name, year, stopped, goes_on):
    """The dates of files are all that a clock leaves behind; what is finished is known by its content."""
    folder, *_ = stopped(name, f"clock {year}", signal.SIGKILL)
    for path in folder.rglob("*"):
        os.utime(path, (31557600 * (year - 1970),) * 2)
    goes_on(name, folder, PROGRAMS[name].count.finished(folder))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generate_images", "refine_masks", "train_segmentor"])
def test_a_clock_that_jumps_under_a_running_program_changes_nothing(name, world, tmp_path):
    """Once a unit is finished, by decades, back and forth."""
    found = importlib.util.find_spec("libfaketime")
    if found is None:
        pytest.skip("libfaketime is not installed")
    (library,) = Path(found.origin).parent.rglob("libfaketime.so.1")
    clock, folder, whole = tmp_path / "clock", tmp_path / "made", world.made(name)
    clock.write_text("+0")
    folder.mkdir()
    ((program, *words),) = PROGRAMS[name].commands(world)
    faked = {
        "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    begun = time.monotonic()
    command = [sys.executable, SCRIPTS / f"{program}.py", *map(str, words)]
    with open(tmp_path / "log", "w") as log:
        run = subprocess.Popen(command, cwd=folder, env=os.environ | faked, stdout=log, stderr=log)
    jumps = itertools.cycle(["-20y", "+15y"])
    while run.poll() is None:
        if finished(name, folder):
            clock.write_text(next(jumps))
        time.sleep(0.2)
    said = (tmp_path / "log").read_text()
    assert run.returncode == 0, said
    assert content(folder, PROGRAMS[name].results) == content(whole, PROGRAMS[name].results)
    records = "".join(path.read_text() for path in folder.rglob("*.json"))
    for seconds in re.findall(r'"seconds": (-?[0-9.]+)|(-?[0-9.]+) s\b', records + said):
        assert 0 <= float("".join(seconds)) <= time.monotonic() - begun


# --- what another program reads


class Read(NamedTuple):
    """A file of a finished program, and the program that reads it."""

    program: str
    pattern: str
    reader: str
    fast: bool = False


READ = {
    "shard": Read("extract_attention", "attention/shard-00002.safetensors", "refine_masks"),
    "items of a shard": Read("extract_attention", "attention/shard-00002.json", "refine_masks"),
    "generated image": Read("generate_images", "images/*3.png", "refine_synthetic"),
    "mask": Read("refine_masks", "masks/*7.png", "evaluate_masks", fast=True),
    "segmentor's weights": Read("train_segmentor", "weights.safetensors", "evaluate_segmentor"),
    "LoRA's weights": Read("train_dreambooth_lora", "lora.safetensors", "generate_images"),
    "metrics": Read("evaluate_segmentor", "metrics/metrics.json", "metrics"),
    "counts": Read("evaluate_segmentor", "metrics/per_image.npz", "metrics"),
}


def reading(reader: str, folder: Path, world) -> list[list[object]]:
    """Commands that read what is in a folder, and write to another one."""
    if reader == "evaluate_masks":
        return [[
            "evaluate_masks", "--root", world.root, "--dataset", "voc", "--split", "train", "--masks",
            folder / "masks", "--output", "metrics", "--limit", 12,
        ]]  # fmt: skip
    if reader == "metrics":
        return [["read_metrics", folder / "metrics"]]
    (command,) = PROGRAMS[reader].commands(world)
    if reader == "generate_images":
        return [[*command, "--limit", 2, "--lora", folder / "lora.safetensors"]]
    flag = {"refine_masks": "--attention", "evaluate_segmentor": "--weights"}.get(reader)
    if flag is None:
        command[command.index("--images") + 1] = folder / "images"
        flag = "--attention"
    place = command.index(flag) + 1
    command[place] = folder / ("weights.safetensors" if flag == "--weights" else "attention")
    return [command]


@pytest.mark.parametrize("kind, how", cases(READ))
def test_a_damaged_file_is_refused_by_name_and_made_again_alone(
    kind, how, world, forks, tmp_path, record_property
):
    name, pattern, reader, _ = READ[kind]
    program, whole = PROGRAMS[name], world.made(name)
    folder = Path(shutil.copytree(whole, tmp_path / "made"))
    victim = sorted(folder.glob(pattern))[0]
    damage(victim, how)

    def read() -> tuple[int, str]:
        place = tmp_path / "read"
        status = forks.wait(forks.start(reading(reader, folder, world), place))
        return status, (place / "log").read_text()

    status, said = read()
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert status == 1 and len(errors) == 1 and "Traceback" not in said, said
    assert victim.stem in errors[0]
    count = Files(program.count.pattern if isinstance(program.count, Files) else "none")
    others = {k: v for k, v in count.finished(folder).items() if Path(k).stem != victim.stem}
    assert forks.wait(forks.start(program.commands(world), folder, "again")) == 0
    assert content(folder, program.results) == content(whole, program.results)
    assert others.items() <= count.finished(folder).items(), "others were made again"
    status, said = read()
    assert status == 0, said
    record_property("refusals", 1)
    record_property("corrupted files", 1)
