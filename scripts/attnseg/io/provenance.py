"""Where a result comes from: date, revision, configuration, packages, data, device, time and memory."""

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from attnseg.errors import UserError
from attnseg.io import costs
from attnseg.io.files import parsed, sha256


def _output(command: Sequence[str]) -> str | None:
    """Standard output of a command, None if it is absent or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def git_state(folder: str | os.PathLike | None = None) -> dict[str, str | bool | None]:
    """{revision, dirty} of the git working tree at `folder`, by default the code's; else None."""
    git = ["git", "-C", str(folder or Path(__file__).resolve().parent)]
    revision = _output([*git, "rev-parse", "--verify", "HEAD"])
    changes = _output([*git, "status", "--porcelain"])
    return {
        "revision": revision.strip() if revision else None,
        "dirty": None if changes is None else bool(changes.strip()),
    }


def package_versions() -> dict[str, str]:
    """Versions of all installed distributions, sorted by name."""
    found = {d.metadata["Name"]: d.version for d in metadata.distributions() if d.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def device(name: str | None = None) -> dict[str, object]:
    """Description of the machine: processor, cores and GPUs; `name` is the configured device."""
    processor = platform.processor() or platform.machine()
    try:
        information = Path("/proc/cpuinfo").read_text()
        processor = re.findall(r"model name\s*:\s*(.+)", information)[0].strip()
    except (OSError, IndexError):
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
    """SHA-256 of a file, or of a folder's relative names and contents in sorted order.

    Hidden files, such as a download's records, are ignored.
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
    """Replace paths by their digest; values that are already a SHA-256 are kept."""
    return {
        name: value if re.fullmatch(r"[0-9a-f]{64}", value) else digest(value)
        for name, value in named.items()
    }


def cost(files: Sequence[str | os.PathLike], folder: str | os.PathLike | None) -> dict:
    """Number, total seconds and peak memory of the jobs behind `files`; `folder`: their records."""
    jobs = costs.jobs_behind(files, costs.read_jobs(folder)) if folder else []
    return {
        "jobs": len(jobs),
        "wall_time_s": round(sum(job.seconds for job in jobs), 1) if jobs else None,
        "peak_memory_mib": round(max(job.peak_mib for job in jobs), 1) if jobs else None,
    }


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe a table's or figure's provenance."""
    parser.add_argument(
        "--config", type=Path, help="the resolved configuration as JSON, for the provenance"
    )
    parser.add_argument("--device", help="the device of the run, for the provenance")
    parser.add_argument("--benchmarks", type=Path, help="folder of the jobs' cost records")


def read_config(path: Path | None) -> object:
    """Read the resolved configuration from a JSON file; None for None."""
    try:
        return None if path is None else parsed(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"--config {path}: {error}") from None


def record(
    args: argparse.Namespace,
    files: Mapping[str, Sequence[str | os.PathLike]],
    *,
    data: Mapping[str, str] | None = None,
    models: Mapping[str, str] | None = None,
    **more: object,
) -> dict[str, object]:
    """The content of <target>.provenance.json.

    Args:
        args: parsed options of `add_flags`.
        files: metrics.json of each run, by evaluation.
        data, models: {name: SHA-256 or path}.
        more: further entries.

    wall_time_s and peak_memory_mib cover all jobs behind `files`; they are null without records.
    """
    used = [path for paths in files.values() for path in paths]
    return {
        "evaluations": {
            name: [{"file": str(path), "sha256": sha256(path)} for path in paths]
            for name, paths in files.items()
        },
        **more,
        "date": datetime.now(UTC).date().isoformat(),
        "git": git_state(),
        "config": read_config(args.config),
        "python": platform.python_version(),
        "packages": package_versions(),
        "data": hashes(data or {}),
        "models": hashes(models or {}),
        "device": device(args.device),
        **cost(used, args.benchmarks),
    }
