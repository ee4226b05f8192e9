"""Work shared by processes: order, reading as needed, and ends by errors and signals."""

import functools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attnseg.errors import TemporaryError, UserError
from attnseg.io.processes import WAITING, pool, results

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
METHODS = ["fork", "spawn"]


def squared(number: int) -> int:
    time.sleep(0.01 * (number % 3))  # later ones are ready first
    return number**2


def killed(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does if the memory is used up
    return number


def refused(folder: Path, number: int) -> None:
    (folder / str(number)).touch()
    raise UserError("no such class")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk", [1, 4])
def test_results_come_in_the_order_of_the_jobs_which_are_read_as_needed(method, chunk):
    read = []
    jobs = (read.append(i) or i for i in range(100))
    done = results(squared, jobs, 2, method, chunk=chunk)
    assert next(done) == 0 and len(read) <= chunk * (2 * WAITING + 1)
    assert list(done) == [i**2 for i in range(1, 100)]


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_process_is_an_error_and_no_endless_wait(method):
    with pytest.raises(TemporaryError, match="killed, perhaps because"):
        list(results(killed, range(100), 2, method))


def test_after_an_error_nothing_new_is_begun(tmp_path):
    with pytest.raises(UserError, match="no such class"):
        list(results(functools.partial(refused, tmp_path), range(100), 2, "fork"))
    assert len(list(tmp_path.iterdir())) < 10


class Bent:
    """A job that cannot be read."""

    def __reduce__(self):
        return (int, ("no number",))


class OfTwo(Exception):
    """Pickles, and does not unpickle."""

    def __init__(self, one, two):
        super().__init__(one)


def answer(kind: object) -> object:
    if kind == "of two":
        raise OfTwo(1, 2)
    if kind == "result":
        return lambda: None  # does not pickle
    if kind == "exit":
        sys.exit(3)
    return kind


@pytest.mark.parametrize(
    "kind, error, said",
    [
        (Bent(), ValueError, "no number"),
        ("of two", RuntimeError, "OfTwo"),
        ("result", Exception, "pickle"),
        ("exit", TemporaryError, "ended with status 3"),
    ],
    ids=["job", "error", "result", "exit"],
)
def test_what_cannot_be_sent_is_an_error_and_no_endless_wait(kind, error, said):
    with pytest.raises(error, match=said):
        list(results(answer, ["whole", kind, "whole"], 2, "fork"))


def test_a_process_killed_while_it_sends_is_an_error():
    with pool(1, "fork") as workers:
        number = workers.submit(bytes, 10_000_000)  # more than its pipe holds
        time.sleep(0.5)
        ((_, process),) = workers.processes.items()
        process.kill()
        with pytest.raises(TemporaryError, match="killed, perhaps because"):
            workers.result(number)


def test_two_pools_at_a_time_end_each_by_itself():
    first = results(squared, range(50), 2, "fork")
    next(first)
    second = results(squared, range(50), 2, "fork")
    next(second)
    first.close()
    assert list(second) == [i**2 for i in range(1, 50)]


def long_one(folder: Path, number: int) -> None:
    (folder / str(number)).touch()
    if number == 0:
        time.sleep(0.1)
        raise UserError("no such class")
    time.sleep(1)


def test_after_an_error_a_process_leaves_what_was_sent_ahead(tmp_path):
    with pytest.raises(UserError, match="no such class"):
        list(results(functools.partial(long_one, tmp_path), range(100), 2, "fork"))
    assert len(list(tmp_path.iterdir())) <= 3


PROGRAM = """
import sys, time
from attnseg.errors import run
from attnseg.io.processes import results

def slow(block):
    time.sleep(0.002)
    return block

ballast = [str(i) for i in range(1_000_000)]  # a fork takes the longer

def main():
    print("starting", file=sys.stderr, flush=True)
    for _ in results(slow, (b"0" * 200_000 for _ in range(10_000)), 4, "fork"):
        print(flush=True)
    return 0

sys.exit(run(main))
"""


@pytest.mark.parametrize("group", [True, False], ids=["all", "alone"])
@pytest.mark.parametrize("begun", [True, False], ids=["at work", "while they start"])
def test_sigterm_ends_them_at_once(group, begun):
    draw = random.Random(0)
    for _ in range(5):
        run = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if begun:
            run.stdout.readline()
        else:
            run.stderr.readline()
        time.sleep(draw.random() * 0.2)
        (os.killpg if group else os.kill)(run.pid, signal.SIGTERM)
        _, said = run.communicate(timeout=20)
        assert run.returncode == 128 + signal.SIGTERM, said
        assert said.decode().splitlines()[-1:] == [
            "ended by SIGTERM: finished work is kept; run the same command to resume"
        ]
        with pytest.raises(ProcessLookupError):  # no process of it is left
            os.killpg(run.pid, 0)
