"""The package from its wheel, away from the repository: one command, and what it says without a clone."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnseg.app.command import COMMANDS
from attnseg.datasets.images import read_mask
from attnseg.datasets.voc import DATASET as VOC
from attnseg.mini.world.splits import voc_scene
from attnseg.mini.world.voc_layout import write_scene

REPOSITORY = Path(__file__).resolve().parents[2]
LOCK = REPOSITORY / "envs" / "requirements.lock"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing is left in the repository."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "scripts", source / "scripts")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (file,) = folder.glob("*.whl")
    return file


def pip(command: str, *arguments: str, python: Path | None = None) -> str:
    chosen = ["--python", str(python)] if python else []
    words = [sys.executable, "-m", "pip", *chosen, command, "--no-index", *arguments]
    done = subprocess.run(words, capture_output=True, text=True, env=outside())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def outside() -> dict[str, str]:
    """The environment without the repository on Python's path."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of a new virtual environment with the wheel in it, and what this one has beside."""
    root = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(root, with_pip=False, symlinks=True)
    python = root / "bin" / "python"
    before = set((root / "bin").iterdir())
    pip("install", "--no-deps", str(wheel), python=python)
    new = {path.name for path in set((root / "bin").iterdir()) - before}
    assert new == {"attnseg"}, "what stands on the PATH"
    (site,) = root.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return root / "bin"


def attnseg(installed: Path, *arguments: object, folder: Path) -> subprocess.CompletedProcess:
    words = [installed / "attnseg", *map(str, arguments)]
    return subprocess.run(words, cwd=folder, env=outside(), capture_output=True, text=True)


def test_the_wheel_holds_the_package_and_no_program(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if ".data/" in name]
    modules = {str(p.relative_to(REPOSITORY / "scripts")) for p in (REPOSITORY / "scripts/attnseg").rglob("*.py")}  # fmt: skip
    assert modules == {name for name in names if name.endswith(".py")}
    assert sum("/templates/" in name for name in names) == 7


def test_pip_takes_the_lock_as_constraints_for_every_extra_of_the_workflow(wheel):
    """Nothing is left to fetch: all that the package and these extras want is here, as locked."""
    asked = f"attnseg[crf,figures,segmentation] @ {wheel.as_uri()}"
    said = pip("install", "--dry-run", "-c", str(LOCK), asked)
    assert "Would install attnseg-" in said and len(said.split("Would install ")[1].split()) == 1


def test_every_command_answers_help(installed, tmp_path):
    where = [installed / "python", "-c", "import attnseg; print(attnseg.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=outside(), capture_output=True, text=True)
    assert found.stdout.startswith(str(installed.parent))
    for words in ([], *([name] for name in COMMANDS)):
        done = attnseg(installed, *words, "--help", folder=tmp_path)
        assert done.returncode == 0 and done.stderr == "", words
        assert done.stdout.startswith(f"usage: {' '.join(['attnseg', *words])} ")


def test_a_mini_scene_is_segmented_with_the_shipped_model(installed, tmp_path):
    scene = voc_scene(0, "val", 0)
    for folder in ("JPEGImages", "Annotations", "SegmentationClassAug"):
        (tmp_path / folder).mkdir()
    write_scene(tmp_path, "scene", scene)
    done = attnseg(
        installed, "segment", "JPEGImages/scene.jpg", "--classes", ",".join(scene.classes()),
        "--model", REPOSITORY / "assets" / "mini_sd", "--device", "cpu", "--output", "mask.png",
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == ""
    assert [line.split()[-1] for line in done.stdout.splitlines()][0] == "background"
    mask, truth = np.array(Image.open(tmp_path / "mask.png")), read_mask(VOC.mask_path(tmp_path, "scene"))  # fmt: skip
    for number, name in enumerate(scene.classes(), 1):
        ours, theirs = mask == number, truth == VOC.number(name)
        assert (ours & theirs).sum() > 0.5 * (ours | theirs).sum(), name


@pytest.mark.parametrize("name", ["config", "doctor"])
def test_what_needs_a_clone_says_so_in_one_line(installed, tmp_path, name):
    done = attnseg(installed, name, folder=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: attnseg {name} ") and line.endswith("run it in a clone")


def test_in_a_clone_the_configuration_is_read_from_there(installed):
    done = attnseg(installed, "config", "config/mini.yaml", folder=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert '"path": "assets/mini_sd"' in done.stdout
