"""One run of the workflow per work folder; its jobs end when it does, however it ends.

If Snakemake is killed, its own lock stays behind and its jobs go on. This lock is `flock`'s, which
the kernel releases with the process. A helper process, whose standard input closes when Snakemake
ends, kills the remaining jobs. It finds them by an environment variable, which their children
inherit.

What a run was told to make again (--forcerun, --force, --forceall) is in the environment, too: a program
cannot tell otherwise a job that is forced from one that goes on after a kill, as both lack the outputs.

What failed is listed at the end of a run. A job that an error of a user's has ended leaves the error
beside its log, for the run's further attempts.
"""

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

VARIABLE = "ATTNSEG_RUN"
ATTEMPTS = (
    "ATTNSEG_ATTEMPTS_OF"  # the same run, for jobs on a cluster as well, which are not killed
)
FORCED = "ATTNSEG_FORCED"  # the same run, and the rules and files that it was told to make again


def guard(workflow: Any, work: str) -> None:
    """Let Snakemake's `workflow` make files in the folder `work` under the lock alone.

    Dry runs, graphs, summaries, --unlock and the processes of single jobs take no lock. A cluster's
    jobs do not end with the run.
    """
    execute = workflow.execute  # --lint, --rulegraph, --summary, ... do not call it

    def execute_alone(executor_plugin: Any, **settings: Any) -> Any:
        executor = executor_plugin.common_settings
        if executor.dryrun_exec or not workflow.is_main_process:
            return execute(executor_plugin=executor_plugin, **settings)
        run = os.environ[ATTEMPTS] = uuid.uuid4().hex
        os.environ[FORCED] = " ".join([run, *_told(workflow.dag_settings)])
        with alone(Path(work), run), jobs_end(run) if executor.local_exec else nullcontext():
            return execute(executor_plugin=executor_plugin, **settings)

    workflow.execute = execute_alone


def _told(settings: Any) -> list[str]:
    """The rules and files that Snakemake was told to make again; * for all."""
    targets = settings.targets if settings.forcetargets else ()
    return ["*"] if settings.forceall else [*settings.forcerun, *targets]


def forced(*outputs: Path) -> str | None:
    """The run that was told to make this job's rule, or one of these files or folders, again."""
    from attnseg.io.costs import job_log  # which imports files, and that this file

    run, *told = os.environ.get(FORCED, "").split() or [""]
    log = job_log()
    if log is None or not told:
        return None
    rule = log.parts[max(i for i, part in enumerate(log.parts) if part == "logs") + 1]
    made = {"*", rule, *map(str, outputs), *(str(path / "manifest.json") for path in outputs)}
    return run if made & set(told) else None


def forget_once(record: Path, files: Iterable[Path], *outputs: Path) -> None:
    """Remove files, once in a run that was told to make them again, so that its further attempts go on.

    `record` keeps which run did; `outputs` as of `forced`.
    """
    run = forced(*outputs)
    if run is None or (record.is_file() and record.read_text() == run):
        return
    for path in files:
        path.unlink(missing_ok=True)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(run)


@contextmanager
def alone(work: Path, run: str) -> Iterator[None]:
    """Hold the lock of a work folder; wait, with a message, while another process holds it."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / ".running", "a+") as file:  # closed on exec, so jobs do not inherit the lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f"another run is using {work} ({_holder(file)}): waiting for it to end",
                file=sys.stderr,
                flush=True,
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some cluster file systems have no locks
            print(
                f"note: {work} cannot be locked ({error.strerror}): start no second run in it",
                file=sys.stderr,
                flush=True,
            )
        file.seek(0)
        for previous in file.read().split()[2:]:
            kill_jobs(previous)  # in case its helper was killed, too
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
    """Kill every process started in the block when it ends or this process dies."""
    # In its own session, so that Ctrl-C does not end it.
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
    """Kill every process that was started in a run, by this user on this machine."""
    mark = f"{VARIABLE}={run}".encode()
    found = True
    while found:  # a job may have started another meanwhile
        found = False
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
                    found = True
            except OSError:  # already ended, or another user's
                continue
        time.sleep(0.05 * found)


def keep_error(log: Path, message: str) -> None:
    """Leave the error of a user's that ended a job beside its log."""
    if ATTEMPTS in os.environ:
        log.with_suffix(".error").write_text(f"{os.environ[ATTEMPTS]}\n{message}\n")


def earlier_error(log: Path) -> str | None:
    """The error of a user's that ended the job with this log before in the same run."""
    file = log.with_suffix(".error")
    try:
        run, _, message = file.read_text().partition("\n")
    except OSError:
        return None
    if run == os.environ.get(ATTEMPTS):
        return message.strip()
    file.unlink(missing_ok=True)  # of another run
    return None


def failures(logs: Iterable[str]) -> list[str]:
    """A line for each job that failed at last, by Snakemake's logs: its rule, log and error; and one
    that counts them."""
    output, failed = "".join(Path(log).read_text() for log in logs), dict[str, str]()
    event = re.compile(r"^Error in rule (\w+):\n((?: +.*\n)*)|^Finished jobid: (\d+)", re.M)
    for rule, lines, finished in event.findall(output):
        failed.pop(finished, None)  # at another attempt
        if rule:
            fields = dict(line.strip().partition(": ")[::2] for line in lines.splitlines())
            log = fields.get("log", "").partition(" (")[0]
            failed[fields["jobid"]] = f"failed: {rule}: {log or 'no log'}: {_error_in(log)}"
    if not failed:
        return []
    count = f"error: {len(failed)} job{'s' * (len(failed) > 1)} failed"
    return [*failed.values(), f"{count}; the same command tries again, and makes what needs them"]


def _error_in(log: str) -> str:
    """The line of a job's log that says what went wrong; without one, as of a killed job, the last."""
    try:
        lines = [line.strip() for line in Path(log).read_text(errors="replace").splitlines()]
    except OSError:
        return "it wrote nothing"
    errors = [line for line in lines if re.match(r"(error:|[\w.]*(Error|Exception)\b)", line)]
    return ([line for line in lines if line][-1:] + errors[-1:] or ["it wrote nothing"])[-1]


if __name__ == "__main__":
    sys.stdin.read()
    kill_jobs(sys.argv[1])
