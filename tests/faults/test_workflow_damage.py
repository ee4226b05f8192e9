"""Files that are damaged between two runs of a workflow of a few mini scenes, and edited code."""

import subprocess
from pathlib import Path

import pytest
import yaml
from scenes import command, few_scenes

TARGET = "work/mini/evaluation/masks/voc/train/one_noise/none/metrics.json"
ATTENTION = "work/mini/attention/voc/train/one_noise"
MASKS = "work/mini/masks/voc/train/one_noise/none"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = few_scenes(tmp_path_factory.mktemp("damaged"))
    config = folder / "config/mini.yaml"
    settings = yaml.safe_load(config.read_text())
    settings["extraction"]["shard_size"] = 20
    config.write_text(yaml.safe_dump(settings))
    return folder


def run(folder: Path, *arguments: str) -> str | None:
    """What the logs of the jobs that failed say; None if none did."""
    done = subprocess.run(
        [*command(TARGET), *arguments], cwd=folder, capture_output=True, text=True
    )
    return done.stdout + done.stderr if done.returncode else None


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_the_same_command_names_what_was_damaged_and_then_makes_it_again_alone(
    folder, record_property
):
    assert run(folder) is None
    files = [*folder.joinpath(ATTENTION).glob("shard-*"), *folder.joinpath(MASKS).glob("*.png")]
    content = {path: path.read_bytes() for path in files if path.suffix != ".json"}
    counts = (folder / TARGET).with_name("per_image.npz")  # metrics.json says how long jobs took
    measured = counts.read_bytes()

    def made_again(damaged: Path, *missing: str) -> set[str]:
        """Damages a file, removes what is made of it, and returns what two runs write."""
        before = {path: path.stat().st_ino for path in files}
        flip(damaged)
        for (
            name
        ) in missing:  # Snakemake makes what a target lacks, and nothing that it has no need of
            (folder / name).unlink()
        assert damaged.stem in (run(folder) or "")
        assert run(folder) is None
        assert content == {path: path.read_bytes() for path in content}
        assert counts.read_bytes() == measured
        return {path.name for path in files if path.stat().st_ino != before[path]}

    mask = sorted(folder.joinpath(MASKS).glob("*.png"))[7]
    assert made_again(mask, TARGET) == {mask.name}
    shard = folder / ATTENTION / "shard-00001.safetensors"
    for damaged in (shard, shard.with_suffix(".json")):
        again = made_again(damaged, f"{MASKS}/manifest.json", TARGET)
        assert again == {shard.name, "shard-00001.json"}
    record_property("corrupted files", 3)

    scores = folder / "scripts/attnseg/core/scores.py"
    scores.write_text(scores.read_text() + "\n\n_plain = with_background\n\n\n"
                      "def with_background(*arguments):\n    return _plain(*arguments).flip(0)\n")  # fmt: skip
    assert run(folder, "--forcerun", "refine_masks") is None
    masks = [path for path in content if path.suffix == ".png"]
    assert all(path.read_bytes() != content[path] for path in masks)
