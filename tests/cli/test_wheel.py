"""The package from its wheel, away from the repository: it imports, and its programs run."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path.name for path in (REPOSITORY / "scripts").glob("*.py"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing is left in the repository."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "scripts", source / "scripts")
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (file,) = folder.glob("*.whl")
    return file


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_program_and_module_is_in_the_wheel(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert sorted(n.rpartition("/")[2] for n in names if ".data/scripts/" in n) == PROGRAMS
    modules = {str(p.relative_to(REPOSITORY / "scripts")) for p in (REPOSITORY / "scripts/attnseg").rglob("*.py")}  # fmt: skip
    assert modules <= set(names)
    assert sum("/templates/" in name for name in names) == 4


def test_programs_run_from_the_wheel(wheel, tiny_sd, tmp_path):
    site = tmp_path / "site"
    pip("install", "--target", str(site), str(wheel))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["PYTHONPATH"] = str(site)
    where = subprocess.run(
        [sys.executable, "-c", "import attnseg; print(attnseg.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(site))
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    done = subprocess.run(
        [
            site / "bin" / "segment_image.py", "photo.png", "--classes", "dog,cat", "--noises", "1",
            "--model", tiny_sd, "--no-crf", "--device", "cpu", "--output", "mask.png",
        ],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "mask.png").size == (64, 64)
