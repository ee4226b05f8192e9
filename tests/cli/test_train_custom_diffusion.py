"""The training of subjects: the program as it is run, on a tiny random model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train_custom_diffusion
from attnseg.datasets.mug19 import read_mug19
from attnseg.errors import run
from attnseg.personalised.personal import (
    INFO,
    PROJECTIONS,
)

ROOT = Path(__file__).resolve().parents[2]
QUICK = (
    "--device cpu --threads 1 --set steps=6 batch_size=1 learning_rate=0.01 size=64 initial_word=dog "
    "checkpoint_interval=2 seed=3"
).split()

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    folders = {}
    for name in ("subject", "class"):
        folders[name] = tmp_path_factory.mktemp(name)
        for i in range(3):
            pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folders[name] / f"{i}.png")
    return folders


def train_arguments(photos: dict, model: Path, output: Path) -> list[str]:
    return [
        "--photos", str(photos["subject"]), "--class", "cat", "--model", str(model),
        "--regularisation", str(photos["class"]), "--output", str(output), *QUICK,
    ]  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / PROJECTIONS) | load_file(folder / "token_1.safetensors")


def test_a_training_killed_in_the_middle_ends_with_the_same_weights(photos, tiny_sd, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train_custom_diffusion.main(train_arguments(photos, tiny_sd, whole)) == 0
    process = subprocess.Popen(
        [sys.executable, "scripts/train_custom_diffusion.py", *train_arguments(photos, tiny_sd, killed)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    for line in process.stdout:  # a line follows each checkpoint
        if "step 2/6" in line:
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    checkpoint = tmp_path / "killed.checkpoints" / "checkpoint.pt"
    assert checkpoint.exists() and not (killed / INFO).exists()
    assert train_custom_diffusion.main(train_arguments(photos, tiny_sd, killed)) == 0
    assert not checkpoint.parent.exists()
    first, second = weights(whole), weights(killed)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_images_of_the_class_are_generated_where_none_are_given(photos, tiny_sd, tmp_path, capsys):
    arguments = train_arguments(photos, tiny_sd, tmp_path / "out")
    place = arguments.index("--regularisation")
    del arguments[place : place + 2]
    arguments += ["--set", "regularisation_images=2", "--only-regularisation"]
    started = time.time()
    assert train_custom_diffusion.main(arguments) == 0
    made = sorted((tmp_path / "regularisation" / "cat").glob("*.png"))
    assert [path.name for path in made] == ["generated-00000.png", "generated-00001.png"]
    assert all(path.stat().st_mtime >= started - 1 for path in made)
    assert not (tmp_path / "out").exists()


def fails(program, arguments: list, capsys) -> str:
    """The one line that the program prints on its way out with a status of 1."""
    assert run(lambda: program.main([str(argument) for argument in arguments])) == 1
    error = capsys.readouterr().err.strip().splitlines()
    line = [text for text in error if text.startswith("error: ")]
    assert len(line) == 1 and line[0] == error[-1]
    return line[0]


def test_what_a_user_may_do_wrong_is_one_line(photos, tiny_sd, tmp_path, capsys):
    good = train_arguments(photos, tiny_sd, tmp_path / "out")

    def changed(name: str, value: object) -> list:
        place = good.index(name) + 1
        return [*good[:place], value, *good[place + 1 :]]

    lonely, broken = tmp_path / "lonely", tmp_path / "broken"
    for folder in (lonely, broken):
        folder.mkdir()
        Image.new("RGB", (64, 64)).save(folder / "0.png")
    (broken / "1.jpg").write_text("no photo")
    for arguments, said in (
        (changed("--photos", lonely), "1 photo of the subject"),
        (changed("--photos", broken), "1.jpg: not a readable image"),
        (changed("--photos", tmp_path / "none"), "no such folder of photos"),
        ([*good, "--token", "dog"], "already exists"),
        ([*good, "--token", "new"], "angle brackets"),
        ([*good, "--class", "dog"], "give one for each subject"),
        (changed("--model", tmp_path / "none"), "no such folder"),
        ([*good, "--set", "size=50"], "multiple of"),
        ([*good, "--set", "prompt=a photo"], "must contain {} once"),
        ([*good, "--set", "steps=0"], "settings.steps: 0 is too small; must be at least 1"),
    ):
        assert said in fails(train_custom_diffusion, arguments, capsys)
    assert not (tmp_path / "out").exists()


def test_each_part_learns_its_own_subjects_and_none_twice(tiny_sd, tiny_mug19, tmp_path, capsys):
    folder = tmp_path / "subjects"

    def learn(part: str, *more: str) -> tuple[dict, str]:
        arguments = ["--mug19", tiny_mug19, "--model", tiny_sd, "--output", folder, *QUICK, *more]
        arguments += ["--set", "steps=1", "regularisation_images=2", "--part", part]
        arguments += ["--summary", tmp_path / "summary.json"]
        assert train_custom_diffusion.main(list(map(str, arguments))) == 0
        return json.loads((tmp_path / "summary.json").read_text()), capsys.readouterr().out

    assert learn("0/1", "--only-regularisation")[0] == {"mug": 2} and not folder.exists()
    subjects = sorted(read_mug19(tiny_mug19).subjects)
    first, _ = learn("0/10")
    assert list(first) == subjects[::10] and min(first.values()) > 0
    assert sorted(path.name for path in folder.iterdir()) == subjects[::10]
    before = weights(folder / subjects[0])
    again, printed = learn("0/10")
    assert again == first and printed.count("is there already") == 2
    _, printed = learn("0/10", "--set", "seed=4")
    assert "is there already" not in printed
    after = weights(folder / subjects[0])
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert list(learn("3/10")[0]) == subjects[3::10]
    with pytest.raises(SystemExit):
        learn("2/2")
    assert "0/2, the first of two parts" in capsys.readouterr().err
    arguments = ["--mug19", tiny_mug19, "--photos", tiny_mug19 / "subjects/mug00", "--class", "mug"]
    line = fails(train_custom_diffusion, [*arguments, "--output", folder], capsys)
    assert "--mug19 takes photos and classes of its folder" in line
