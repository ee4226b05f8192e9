"""Runs of a workflow that are killed, and two at a time: a workflow of two jobs that sleep."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from attnseg.io import runs

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")

SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "scripts")!r})
from attnseg.io.runs import guard
guard(workflow, "work")

rule sleep:
    input: "work/first"
    output: "work/slept"
    shell: "echo slept >> work/ran; touch {{output}}; python family.py $(cat seconds)"

rule first:
    output: "work/first"
    shell: "echo first >> work/ran; touch {{output}}"
"""
# a child in a session of its own, and pools of both kinds
FAMILY = """
import multiprocessing, subprocess, sys, time
if __name__ == "__main__":
    seconds = float(sys.argv[1])
    child = subprocess.Popen(["sleep", str(seconds)], start_new_session=True)
    for way in ("fork", "spawn"):
        multiprocessing.get_context(way).Pool(1).apply_async(time.sleep, [seconds])
    open("work/born", "w").close()
    child.wait()
"""


@pytest.fixture
def toy(tmp_path) -> Path:
    """A folder with the workflow; its job sleeps for a minute."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "family.py").write_text(FAMILY)
    (tmp_path / "seconds").write_text("60")
    profile = tmp_path / "profiles" / "default"
    profile.mkdir(parents=True)
    profile.joinpath("config.yaml").symlink_to(REPOSITORY / "profiles/default/config.yaml")
    return tmp_path


@pytest.fixture
def start(toy) -> Iterator[Callable]:
    """Starts `snakemake` with its output in a pipe: arguments -> the process."""
    processes = []
    # `python` of a job is this one
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def call(*arguments: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [SNAKEMAKE, *arguments],
            cwd=toy,
            env=os.environ | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield call
    for process in processes:  # where the test has failed
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()


def wait_until(true) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended; a zombie has."""
    _, others = psutil.wait_procs(processes, timeout=0)
    return [p for p in others if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_the_jobs_of_a_killed_run_die_and_the_same_command_goes_on(toy, start):
    first = start("work/slept")
    wait_until((toy / "work/born").exists)
    started = psutil.Process(first.pid).children(recursive=True)
    assert len(started) >= 6  # the helper, a shell, the job, its child and its pools
    first.kill()
    first.wait()
    wait_until(lambda: not alive(started))

    (toy / "seconds").write_text("0")
    again = start("work/slept")
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 0, output
    assert (toy / "work/ran").read_text().split() == ["first", "slept", "slept"]


def test_a_second_run_says_whom_it_waits_for_and_then_finds_everything_made(toy, start):
    first = start("work/slept")
    wait_until((toy / "work/born").exists)
    second = start("work/slept")
    lines = iter(second.stdout.readline, "")
    line = next(line for line in lines if "another run" in line)
    assert line == f"another run is using work (pid {first.pid}): waiting for it to end\n"
    (sleeping,) = [
        p for p in psutil.Process(first.pid).children(recursive=True) if p.name() == "sleep"
    ]
    sleeping.kill()  # its parent takes this for the end
    assert first.wait(60) == 0, first.stdout.read()
    rest, _ = second.communicate(timeout=60)
    assert second.returncode == 0 and "Nothing to be done" in rest
    assert "another run" not in rest
    assert (toy / "work/ran").read_text().split() == ["first", "slept"]


@pytest.mark.parametrize(
    "what", ["-n", "--rulegraph", "--summary", "--list-rules", "--unlock", "--lint"]
)
def test_what_makes_no_file_does_not_wait_for_a_run(toy, start, what):
    (toy / "work").mkdir()
    with open(toy / "work/.running", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        asked = start("work/slept", what)
        output, _ = asked.communicate(timeout=60)
    assert "another run" not in output
    assert asked.returncode == (what == "--lint"), output  # the toy has no log files


def test_a_process_that_outlives_a_run_does_not_hold_its_lock(tmp_path):
    program = (
        "import os, pathlib, subprocess\nfrom attnseg.io.runs import alone\n"
        f"with alone(pathlib.Path({str(tmp_path)!r}), 'a'):\n"
        "    print(subprocess.Popen(['sleep', '60'], close_fds=False).pid)\n    os.kill(os.getpid(), 9)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")},
        stdout=subprocess.PIPE,
    ) as killed:
        survivor = psutil.Process(int(killed.stdout.readline()))
    with open(tmp_path / ".running") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert alive([survivor])
    survivor.kill()


def test_a_new_run_ends_what_an_earlier_one_left_where_its_helper_was_killed_too(tmp_path):
    (tmp_path / ".running").write_text("1 elsewhere earlier\n")
    left = subprocess.Popen(["sleep", "60"], env={runs.VARIABLE: "earlier"})
    other = subprocess.Popen(["sleep", "60"], env={runs.VARIABLE: "earlier still"})
    with runs.alone(tmp_path, "now"):
        assert left.wait(10) == -9 and other.poll() is None
    other.kill()
    other.wait()


def test_a_work_folder_that_cannot_be_locked_is_worked_in_with_a_note(
    tmp_path, monkeypatch, capsys
):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(runs.fcntl, "flock", refuse)
    with runs.alone(tmp_path, "a"):
        pass
    assert capsys.readouterr().err == (
        f"note: {tmp_path} cannot be locked (Function not implemented): start no second run in it\n"
    )


@pytest.mark.parametrize(
    ("local", "dryrun", "main", "locked", "marked"),
    [
        (True, False, True, True, True),
        (False, False, True, True, False),  # a cluster's jobs are the cluster's
        (True, True, True, False, False),
        (True, False, False, False, False),  # a job's process
    ],
)
def test_a_run_is_locked_and_its_local_jobs_are_marked(
    tmp_path, local, dryrun, main, locked, marked
):
    found = {}

    def execute(executor_plugin):
        found["locked"] = (tmp_path / "work" / ".running").exists()
        found["marked"] = runs.VARIABLE in os.environ

    told = SimpleNamespace(targets=(), forcetargets=False, forceall=False, forcerun=())
    workflow = SimpleNamespace(execute=execute, is_main_process=main, dag_settings=told)
    runs.guard(workflow, str(tmp_path / "work"))
    settings = SimpleNamespace(local_exec=local, dryrun_exec=dryrun)
    workflow.execute(executor_plugin=SimpleNamespace(common_settings=settings))
    assert found == {"locked": locked, "marked": marked}
    assert runs.VARIABLE not in os.environ


ITEMS = f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "scripts")!r})
from attnseg.io.runs import guard
guard(workflow, "work")

rule write_items:
    output: "work/items/manifest.json"
    log: "work/logs/write_items/all.log"
    shell: "python items.py > {{log}} 2>&1"
"""
# as the masks of photos are written
PROGRAM = """
from pathlib import Path
from attnseg.io.files import start_folder, write_json
folder = Path("work/items")
start_folder(folder, {"a": 1})
for name in ("1.png", "2.png", "3.png"):
    if not (folder / name).exists():
        (folder / name).touch()
        print(name, file=open("made", "a"))
write_json(folder / "manifest.json", {})
"""


@pytest.mark.slow
def test_what_a_run_is_told_to_make_again_is_made_again_and_what_lacks_its_manifest_goes_on(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "scripts"))
    (tmp_path / "Snakefile").write_text(ITEMS)
    (tmp_path / "items.py").write_text(PROGRAM)
    target = "work/items/manifest.json"

    def made(*arguments: str) -> list[str]:
        (tmp_path / "made").unlink(missing_ok=True)
        command = [SNAKEMAKE, target, "--cores", "1", "--nolock", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return (tmp_path / "made").read_text().split() if (tmp_path / "made").exists() else []

    every = ["1.png", "2.png", "3.png"]
    assert made() == every
    (tmp_path / target).unlink()
    (tmp_path / "work/items/2.png").unlink()
    assert made() == ["2.png"]
    assert made("--forcerun", "write_items") == every
    assert made("--force") == every
    assert made("--forceall") == every
    assert made() == []
    (tmp_path / target).unlink()
    assert made() == []
