"""Measured costs: one record per job, beside its log; tables add them up.

A job is a program whose stderr goes to a log, <work>/logs/<rule>/....log; its record is
<work>/benchmarks/<rule>/....json::

    {"command": [...], "attempts": [{"seconds": 12.3, "cpu_seconds": 11.0, "peak_mib": 512.0}, ...],
     "read": [existing files and folders named by the command], "wrote": [those it changed]}

Records are rewritten every few seconds, so that killed attempts count, too. They are not outputs of
a rule, and are neither hashed nor compared.
"""

import json
import os
import re
import resource
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from attnseg.io.files import write_json

INTERVAL = 5  # seconds between two measurements of memory


def job_log() -> Path | None:
    """The log of the rule that this process is a job of; None if its stderr is none."""
    try:
        log = Path(os.readlink("/proc/self/fd/2"))
    except OSError:
        return None
    # With LOCAL_RANK this is one of several processes of a training, which has a record already.
    if log.suffix != ".log" or "logs" not in log.parts or "LOCAL_RANK" in os.environ:
        return None
    return log


def record_of(log: Path) -> Path:
    """Path of the record of a job with this log."""
    place = max(i for i, part in enumerate(log.parts) if part == "logs")
    folders = [*log.parts[:place], "benchmarks", *log.parts[place + 1 :]]
    return Path(*folders).with_suffix(".json")


@contextmanager
def recorded(command: Sequence[str], path: Path | None) -> Iterator[None]:
    """Record this process's cost at `path` while the block runs; do nothing if it is None."""
    if path is None:
        yield
        return
    named = list(_paths(command))
    read = [name for name in named if Path(name).exists()]
    before = {name: _changed(name) for name in named}
    attempts = _earlier_attempts(path, command)
    started, over, peak = time.monotonic(), threading.Event(), 0.0

    def write() -> None:
        nonlocal peak
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        peak = max(peak, tree_mib(), own_peak_mib(), children)
        now = {
            "seconds": round(time.monotonic() - started, 2),
            "cpu_seconds": round(sum(os.times()[:4]), 2),
            "peak_mib": round(peak, 1),
        }
        wrote = [name for name in named if _changed(name) not in (None, before[name])]
        record = {
            "command": list(command),
            "attempts": [*attempts, now],
            "read": [name for name in read if name not in wrote],
            "wrote": wrote,
        }
        write_json(path, record)

    def watch() -> None:
        while not over.wait(INTERVAL):
            write()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        write()


def _paths(command: Sequence[str]) -> Iterator[str]:
    """Words of a command that may be paths: plain, after an equals sign, or inside JSON."""
    for word in command[1:]:
        if word.startswith(("{", "[")):
            try:
                yield from _texts(json.loads(word))
                continue
            except ValueError:
                pass
        if "/" in word:
            yield word.rpartition("=")[2]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if "/" in value:
            yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _changed(name: str) -> int | None:
    """Modification time of a file or folder in nanoseconds, None if it does not exist."""
    try:
        return os.stat(name).st_mtime_ns
    except (OSError, ValueError):
        return None


def _earlier_attempts(path: Path, command: Sequence[str]) -> list[dict]:
    """Recorded attempts of the same command; another command starts a new record."""
    try:
        record = json.loads(path.read_text())
        return record["attempts"] if record["command"] == list(command) else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def own_peak_mib() -> float:
    """Peak memory of this program in MiB (Linux).

    `ru_maxrss` would also count what the process held before exec, as a copy of Snakemake or a test.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"^VmHWM:\s*(\d+) kB", status, re.M)[0]) / 1024


def tree_mib() -> float:
    """Resident memory of this process and its descendants, in MiB (Linux)."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(folder.name))
    total, waiting = 0, [os.getpid()]
    while waiting:
        process = waiting.pop()
        waiting += children.get(process, [])
        try:
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            continue
    return total * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True)
class Job:
    """The cost of a job of `rule`, summed over its attempts; `path`: its record, below the folder."""

    rule: str
    seconds: float
    cpu_seconds: float
    peak_mib: float
    read: tuple[str, ...]
    wrote: tuple[str, ...]
    path: Path = Path()


def read_jobs(folder: str | os.PathLike) -> list[Job]:
    """Records below a folder `benchmarks`; unreadable ones are skipped."""
    jobs = []
    for path in sorted(Path(folder).rglob("*.json")):
        try:
            record = json.loads(path.read_text())
            attempts = record["attempts"]
            jobs.append(
                Job(
                    path.relative_to(folder).parts[0],
                    sum(attempt["seconds"] for attempt in attempts),
                    sum(attempt["cpu_seconds"] for attempt in attempts),
                    max(attempt["peak_mib"] for attempt in attempts),
                    tuple(record["read"]),
                    tuple(record["wrote"]),
                    path.relative_to(folder),
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return jobs


def jobs_behind(files: Iterable[str | os.PathLike], jobs: Sequence[Job]) -> list[Job]:
    """Jobs that `files` depend on, directly or indirectly, each once.

    A job that names a folder is taken to have read or written the files directly in it.
    """
    makers: dict[Path, set[int]] = {}
    inside: dict[Path, set[int]] = {}
    for number, job in enumerate(jobs):
        for path in map(_absolute, job.wrote):
            makers.setdefault(path, set()).add(number)
            inside.setdefault(path.parent, set()).add(number)
    found: set[int] = set()
    waiting = [_absolute(file) for file in files]
    while waiting:
        path = waiting.pop()
        nearest = makers.get(path) or makers.get(path.parent) or inside.get(path) or set()
        for number in nearest - found:
            found.add(number)
            waiting += map(_absolute, jobs[number].read)
    return [jobs[number] for number in sorted(found)]


def _absolute(name: str | os.PathLike) -> Path:
    return Path(os.path.abspath(name))
