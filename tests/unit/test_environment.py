"""The installed packages are those of envs/requirements.lock, and the right mmengine is in."""

import base64
import hashlib
import importlib
import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).parents[2] / "envs" / "requirements.lock"

# what mmcv-lite, mmseg and open_clip ask for and do not get: forks and headless builds stand in
REPLACED = {"mmengine", "opencv-python", "torchvision", "timm"}


def locked() -> dict[str, str]:
    lines = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    return {canonicalize_name(name): version for name, version in pins.items()}


@pytest.mark.parametrize(
    "module",
    [
        "mmseg",
        "mmcv",
        "mmengine",
        "pydensecrf.densecrf",
        "diffusers",
        "transformers",
        "peft",
        "snakemake",
        "pycocotools.mask",
        "jsonschema",
        "pandas",
    ],
)
def test_imports(module):
    importlib.import_module(module)


def test_mmengine_is_the_fork():
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("mmengine")
    # Both packages unpack into the same folder: the files themselves must be the fork's.
    recorded = {
        str(file): file
        for file in metadata.files("onedl-mmengine")
        if str(file).startswith("mmengine/") and file.suffix == ".py"
    }
    assert len(recorded) > 100
    for name in (
        "mmengine/__init__.py",
        "mmengine/runner/loops.py",
        "mmengine/runner/checkpoint.py",
    ):
        content = Path(recorded[name].locate()).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        assert recorded[name].hash.value == digest, f"{name} is not the fork's"


def test_installed_versions_are_the_locked_ones():
    wrong = {}
    for name, version in locked().items():
        installed = metadata.version(name).split("+")[0]
        if installed != version:
            wrong[name] = f"locked {version}, installed {installed}"
    assert not wrong


def test_lock_is_complete():
    """It is installed with --no-deps, so it must name what its packages need."""
    pins = locked()
    missing = {}
    for name, version in pins.items():
        for text in metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker and not need.marker.evaluate({"extra": ""}):
                continue
            key = canonicalize_name(need.name)
            if key in REPLACED or _comes_with_torch(name, key):
                continue
            if key not in pins:
                missing[f"{name}=={version}"] = text
            elif need.specifier and not need.specifier.contains(pins[key], prereleases=True):
                missing[f"{name}=={version}"] = f"{text}, locked {pins[key]}"
    assert not missing


def _comes_with_torch(package: str, need: str) -> bool:
    # torch is installed before, with its dependencies: which CUDA libraries depends on the build
    return package == "torch" and (
        need.startswith(("nvidia", "cuda", "triton")) or need == "setuptools"
    )


def test_every_direct_package_says_why_it_is_there():
    direct = LOCK.read_text().split("# -- what those need")[0]
    for above, line in re.findall(r"(.*)\n([A-Za-z0-9_.-]+==.*)", direct):
        assert re.match(r"# \w", above), f"{line} has no comment above it"
