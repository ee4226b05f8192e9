"""A disk that takes no more is one line, whatever library notices it, and so is SIGTERM; other errors stay
as they are."""

import errno
import functools
import os
import signal

import pytest
import torch
from safetensors.torch import save_file

from attnseg import errors
from attnseg.errors import run, sigterm_waits

FULL = "/dev/full"  # every write there fails as on a full disk
needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason="needs /dev/full")


def by_hand() -> None:
    with open(FULL, "w") as file:
        file.write("hello")


def by_torch() -> None:
    with open(FULL, "wb") as file:
        torch.save({"a": torch.zeros(100_000)}, file)


def by_numpy() -> None:
    import numpy as np

    with open(FULL, "wb") as file:
        np.save(file, np.zeros(100_000))


def read_only() -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/data/out.png")


@needs_full
@pytest.mark.parametrize("write", [by_hand, by_torch, by_numpy])
def test_a_full_disk_is_one_line(write, capsys):
    assert run(write) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the disk is full; free some space, and run the same command" in line


def test_a_read_only_disk_is_one_line_with_the_file(capsys):
    assert run(read_only) == 1
    assert "error: /data/out.png: the disk is read-only" in capsys.readouterr().err


def test_other_errors_keep_their_traceback(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)
    with pytest.raises(Exception, match="(?i)no such file|is a directory|os error"):
        run(lambda: save_file({"a": torch.zeros(1)}, tmp_path / "none" / "a.safetensors"))


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_is_one_line_and_a_status_of_its_own(capsys):
    before, steps = signal.getsignal(signal.SIGTERM), []

    def program() -> int:
        steps.append(1)
        terminate()
        steps.append(2)
        return 0

    assert run(program) == 143 and steps == [1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "ended by SIGTERM: finished work is kept; run the same command to resume"
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_waits_for_a_checkpoint_and_a_later_one_does_not(monkeypatch):
    """Not one that comes at once, as the same signal from torchrun and from a cluster."""
    now = [100.0]
    monkeypatch.setattr(errors.time, "monotonic", lambda: now[0])

    def program(times: int, later: float, steps: list) -> int:
        with sigterm_waits() as ended:
            for step in range(5):
                for _ in range(times * (step == 2)):
                    terminate()
                    now[0] += later
                steps.append(step)
                if ended():
                    break
        steps.append("after the block")
        return 0

    whole = [0, 1, 2, 3, 4, "after the block"]
    for times, later, expected in ((0, 0, whole), (1, 0, [0, 1, 2]), (2, 1, [0, 1, 2]), (2, 6, [0, 1])):  # fmt: skip
        steps: list = []
        status = run(functools.partial(program, times, later, steps))
        assert (status, steps) == (143 if times else 0, expected)
