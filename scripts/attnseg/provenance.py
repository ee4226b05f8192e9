"""Where a result comes from: revision, configuration, packages, data, device, time and memory."""

import csv
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from attnseg.errors import UserError
from attnseg.files import sha256


def _output(command: Sequence[str]) -> str | None:
    """What a program prints, None where it is absent or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def git_state(folder: str | os.PathLike | None = None) -> dict[str, str | bool | None]:
    """{revision, dirty} of the working tree at `folder` (the code's own); null outside of one."""
    git = ["git", "-C", str(folder or Path(__file__).resolve().parent)]
    revision = _output([*git, "rev-parse", "--verify", "HEAD"])
    changes = _output([*git, "status", "--porcelain"])
    return {
        "revision": revision.strip() if revision else None,
        "dirty": None if changes is None else bool(changes.strip()),
    }


def package_versions() -> dict[str, str]:
    """Every installed distribution and its version."""
    found = {d.metadata["Name"]: d.version for d in metadata.distributions() if d.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def device(name: str | None = None) -> dict[str, object]:
    """The machine: `name` as configured, processor, cores, and GPUs where nvidia-smi is there."""
    processor = platform.processor() or platform.machine()
    try:
        information = Path("/proc/cpuinfo").read_text()
        processor = re.search(r"model name\s*:\s*(.+)", information).group(1).strip()
    except (OSError, AttributeError):
        pass
    gpus = _output(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    return {
        "device": name,
        "system": platform.platform(),
        "processor": processor,
        "cores": os.cpu_count(),
        "gpus": gpus.strip().splitlines() if gpus else [],
    }


def digest(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, or of a folder's relative names and contents, in sorted order.

    Hidden files, such as a download's own records, do not count.
    """
    path = Path(path)
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    inside = (p.relative_to(path) for p in path.rglob("*") if p.is_file())
    files = sorted(
        name.as_posix() for name in inside if not any(part.startswith(".") for part in name.parts)
    )
    listing = "".join(f"{sha256(path / name)}  {name}\n" for name in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def hashes(named: Mapping[str, str]) -> dict[str, str]:
    """Values that are no SHA-256 already are taken as paths and replaced by their digest."""
    return {
        name: value if re.fullmatch(r"[0-9a-f]{64}", value) else digest(value)
        for name, value in named.items()
    }


def benchmarks(paths: Sequence[str | os.PathLike]) -> dict[str, float | int | None]:
    """Snakemake's benchmark files summed up: seconds of all jobs, the largest resident memory.

    A column that was not measured ("NA", "-") counts as absent, a file that is gone in `not_timed`.
    """
    found = [path for path in map(Path, paths) if path.is_file()]
    lines: list[dict[str, str]] = []
    for path in found:
        with open(path, newline="") as file:
            lines += csv.DictReader(file, delimiter="\t")
    seconds, memory = _column(lines, "s"), _column(lines, "max_rss")
    return {
        "jobs": len(paths),
        "not_timed": len(paths) - len(found),
        "wall_time_s": round(sum(seconds), 1) if seconds else None,
        "peak_memory_mib": round(max(memory), 1) if memory else None,
    }


@dataclass(frozen=True)
class Cost:
    """What the jobs of a rule took together."""

    rule: str
    jobs: int
    wall_s: float
    cpu_s: float
    longest_s: float
    peak_mib: float


def rule_costs(folder: str | os.PathLike) -> list[Cost]:
    """The costs of the rules whose benchmark files lie in `folder`/<rule>/."""
    costs = []
    for rule in sorted(path for path in Path(folder).glob("*") if path.is_dir()):
        lines = []
        for path in rule.rglob("*.tsv"):
            with open(path, newline="") as file:
                lines += csv.DictReader(file, delimiter="\t")
        wall = _column(lines, "s")
        if wall:
            cpu, memory = _column(lines, "cpu_time"), _column(lines, "max_rss")
            costs.append(
                Cost(rule.name, len(wall), sum(wall), sum(cpu), max(wall), max(memory, default=0.0))
            )
    return costs


def _column(lines: Sequence[Mapping[str, str]], name: str) -> list[float]:
    """The numbers in a column; what was not measured ("NA", "-") is left out."""
    values = []
    for line in lines:
        try:
            values.append(float(line[name]))
        except (KeyError, TypeError, ValueError):
            pass
    return values


def own_peak_memory_mib() -> float:
    """The largest resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def read_config(path: Path | None) -> object:
    """The resolved configuration in a JSON file, None for None."""
    try:
        return None if path is None else json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"--config {path}: {error}") from None


def record(
    *,
    wall_time_s: float,
    config: object = None,
    data: Mapping[str, str] | None = None,
    models: Mapping[str, str] | None = None,
    device_name: str | None = None,
    benchmark_files: Sequence[str | os.PathLike] = (),
    **more: object,
) -> dict[str, object]:
    """The content of <target>.provenance.json.

    wall_time_s and peak_memory_mib are those of the jobs in `benchmark_files`, else this program's.
    `data` and `models` are {name: SHA-256 or path}; `more` is added as it is.
    """
    jobs = benchmarks(benchmark_files)
    own = {"wall_time_s": round(wall_time_s, 1), "peak_memory_mib": own_peak_memory_mib()}
    return {
        **more,
        "git": git_state(),
        "config": config,
        "python": platform.python_version(),
        "packages": package_versions(),
        "data": hashes(data or {}),
        "models": hashes(models or {}),
        "device": device(device_name),
        **(jobs if benchmark_files else benchmarks([]) | own),
    }
