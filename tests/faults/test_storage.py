"""Disks that are full or read-only: one line, no half-written file, and the same command goes on."""

import os
import subprocess
from pathlib import Path

import pytest
from programs import PROGRAMS, content

FAST = ("refine_masks", "train_segmentor")
NAMES = [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in PROGRAMS]


def refused(forks, world, name: str, folder: Path, log: Path) -> str:
    """The one line with which a program ends."""
    status = forks.wait(forks.start(PROGRAMS[name].commands(world), folder, str(log)))
    said = log.read_text()
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert status == 1 and len(errors) == 1 and "Traceback" not in said, said
    return errors[0]


def goes_on(forks, world, name: str, folder: Path, log: Path) -> None:
    assert forks.wait(forks.start(PROGRAMS[name].commands(world), folder, str(log))) == 0, (
        log.read_text()
    )
    results = PROGRAMS[name].results
    assert content(folder, results) == content(world.made(name), results)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of some bytes, or changes its size: bytes -> its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: int, *more: str) -> Path:
        options = ",".join([f"size={size}", *more])
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted ({done.stderr.strip()}): root can")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_ends_a_program_in_a_line_and_it_goes_on_later(
    name, world, forks, tmp_path, small_disk, record_property
):
    sizes = [
        path.stat().st_size
        for path in world.made(name).rglob("*")
        if path.is_file() and path.name != "log"
    ]
    disk = small_disk(4096 * max(1, sum(-(-size // 4096) for size in sizes) // 2))
    line = refused(forks, world, name, disk, tmp_path / "full")
    assert "free some space" in line
    results, whole = PROGRAMS[name].results, world.made(name)
    assert content(disk, results).items() <= content(whole, results).items(), "a half-written file"
    small_disk(2**28, "remount")
    goes_on(forks, world, name, disk, tmp_path / "again")
    record_property("refusals", 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_permission_is_named(name, world, forks, tmp_path, record_property):
    folder = tmp_path / "read-only"
    folder.mkdir()
    world.made(name)
    folder.chmod(0o555)
    line = refused(forks, world, name, folder, tmp_path / "log")
    assert "choose a writable folder" in line
    assert not os.listdir(folder)
    folder.chmod(0o755)
    goes_on(forks, world, name, folder, tmp_path / "again")
    record_property("refusals", 1)
