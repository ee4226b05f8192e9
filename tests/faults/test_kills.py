"""Every long program is killed at random moments; the same command then ends with the results of a run
that nobody killed, and makes no finished unit again. $ATTNSEG_KILLS: how often each is (default: once).

A kill counts only after the first and before the last finished unit.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import PROGRAMS, Steps, content, training

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
KILLS = int(os.environ.get("ATTNSEG_KILLS", "1"))
FAST = ("refine_masks", "train_segmentor", "train_dreambooth_lora")  # in `make test`
GRACE = 30  # seconds between SIGTERM and SIGKILL: SLURM's KillWait


def programs(keeping: bool = False) -> list:
    """All programs, or those that keep what they finished."""
    names = [name for name in PROGRAMS if PROGRAMS[name].keeps or not keeping]
    return [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", programs(keeping=True))
def test_sigterm_ends_a_program_in_a_line_and_costs_no_finished_unit(
    name, stopped, goes_on, record_property
):
    folder, before, after, status, seconds = stopped(name, "SIGTERM", signal.SIGTERM)
    said = (folder / "log").read_text()
    assert status == 128 + signal.SIGTERM and seconds < GRACE, said
    assert said.splitlines()[-1].startswith("ended by SIGTERM: finished work is kept")
    assert "Traceback" not in said
    if isinstance(before, range) and "train" in name:
        assert len(after) > len(before), "no checkpoint was written"
    goes_on(name, folder, after)
    record_property("SIGTERMs", 1)


@pytest.mark.parametrize("name", programs())
@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_program_ends_with_the_same_results(
    name, number, stopped, goes_on, record_property
):
    folder, _, finished, status, _ = stopped(name, number, signal.SIGKILL)
    assert status == -signal.SIGKILL
    goes_on(name, folder, finished)
    record_property("kill", name)


@pytest.mark.slow
@pytest.mark.parametrize("alone", [True, False])
def test_sigterm_ends_a_training_of_two_processes_after_a_checkpoint(
    alone, world, tmp_path, record_property
):
    """Through torchrun; a cluster sends it to the processes, too."""
    (name, *words) = training(world)[0]
    more = ("--gpus", 2, "--set", "iterations=60")
    command = [sys.executable, *map(str, (SCRIPTS / f"{name}.py", *words, *more))]
    count = Steps("training-*/iter_*.pth", 60)

    def start(folder: Path) -> subprocess.Popen:
        folder.mkdir(exist_ok=True)
        with open(folder / "log", "a") as log:
            return subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )

    folder, whole = tmp_path / "stopped", tmp_path / "whole"
    run = start(folder)
    while not (before := len(count.finished(folder))):
        assert run.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)
    (os.kill if alone else os.killpg)(run.pid, signal.SIGTERM)
    assert run.wait(GRACE) == 128 + signal.SIGTERM, (folder / "log").read_text()
    assert (after := len(count.finished(folder))) > before, "no checkpoint was written"
    assert after < 60
    assert start(folder).wait() == 0 == start(whole).wait()
    assert f"resumed after iteration {after}" in (folder / "log").read_text()
    assert content(folder, ["weights.*"]) == content(whole, ["weights.*"])
    record_property("SIGTERMs", 1)
    record_property("resumed units", after)
