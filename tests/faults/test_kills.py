"""Every long program is killed at random moments; the same command then ends with the results of a run
that nobody killed, and makes no finished unit again. $ATTNSEG_KILLS: how often each is (default: once).

A kill counts only after the first and before the last finished unit.
"""

import os
import signal

import pytest
from programs import PROGRAMS

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
