"""A run of the workflow: alone in its work folder, and its jobs end with it, however it ends.

Snakemake's own lock stays behind when Snakemake is killed, and its jobs go on. Here the lock is
`flock`'s, which the kernel gives up with the process; and a helper process, whose standard input ends
when Snakemake does, kills what is left of the jobs. It knows them by a variable of their environment,
which whatever they start has, too.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

VARIABLE = "ATTNSEG_RUN"


def guard(workflow: Any, work: str) -> None:
    """Let Snakemake's `workflow` make files in the folder `work` under the lock alone.

    Plans, graphs, summaries, --unlock and the processes of single jobs take no lock. Jobs that a
    cluster runs do not end with the run.
    """
    execute = workflow.execute  # --lint, --rulegraph, --summary, ... do not come by here

    def execute_alone(executor_plugin: Any, **settings: Any) -> Any:
        executor = executor_plugin.common_settings
        if executor.dryrun_exec or not workflow.is_main_process:
            return execute(executor_plugin=executor_plugin, **settings)
        run = uuid.uuid4().hex
        with alone(Path(work), run), jobs_end(run) if executor.local_exec else nullcontext():
            return execute(executor_plugin=executor_plugin, **settings)

    workflow.execute = execute_alone


@contextmanager
def alone(work: Path, run: str) -> Iterator[None]:
    """Hold the lock of a work folder; while another process does, say so and wait."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / ".running", "a+") as file:  # no job inherits it: Python closes it on exec
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f"another run is at work in {work} ({_holder(file)}): waiting for it to end",
                file=sys.stderr,
                flush=True,
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some file systems of clusters
            print(
                f"note: {work} cannot be locked ({error.strerror}): start no second run in it",
                file=sys.stderr,
                flush=True,
            )
        file.seek(0)
        for previous in file.read().split()[2:]:
            kill_jobs(previous)  # should its helper have been killed, too
        file.truncate(0)
        print(os.getpid(), socket.gethostname(), run, file=file, flush=True)
        yield


def _holder(file: TextIO) -> str:
    """Whose lock a file is: `pid N`, of another machine with its name."""
    file.seek(0)
    pid, host, _ = (file.read().split() + ["unknown"] * 3)[:3]
    return f"pid {pid}" if host in (socket.gethostname(), "unknown") else f"pid {pid} on {host}"


@contextmanager
def jobs_end(run: str) -> Iterator[None]:
    """Mark every process started in the block; when it is left or this process dies, they die."""
    # of a session of its own, for Ctrl-C to spare it
    helper = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).resolve()), run],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.environ[VARIABLE] = run
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        helper.communicate()


def kill_jobs(run: str) -> None:
    """End every process of this user and machine that was started in a run."""
    mark = f"{VARIABLE}={run}".encode()
    found = True
    while found:  # one may have started another meanwhile
        found = False
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
                    found = True
            except OSError:  # ended meanwhile, or of another user
                continue
        time.sleep(0.05 * found)


if __name__ == "__main__":
    sys.stdin.read()
    kill_jobs(sys.argv[1])
