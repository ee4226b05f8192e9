"""The jobs of a dry run of Snakemake."""

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnseg.errors import UserError


@dataclass(frozen=True)
class Planned:
    """A job of a dry run."""

    rule: str
    fields: Mapping[str, str]  # as printed: output, log, wildcards, threads, ...

    def files(self, field: str) -> list[str]:
        return [file for file in self.fields.get(field, "").split(", ") if file]

    @property
    def wildcards(self) -> dict[str, str]:
        return dict(re.findall(r"(\w+)=([^,]*)", self.fields.get("wildcards", "")))

    @property
    def gpus(self) -> int:
        found = re.search(r"\bgpu=(\d+)", self.fields.get("resources", ""))
        return int(found[1]) if found else 0

    @property
    def threads(self) -> int:
        return int(self.fields.get("threads", 1))


def read_plan(output: str) -> list[Planned]:
    """The jobs that a dry run prints."""
    block = re.compile(r"^(?:local)?(?:rule|checkpoint) (\w+):\n((?: {4}.*\n)*)", re.M)
    return [
        Planned(rule, dict(line.strip().partition(": ")[::2] for line in lines.splitlines()))
        for rule, lines in block.findall(output)
    ]


def planned(
    goals: Sequence[str], files: Iterable[str | Path], folder: Path, *more: str
) -> list[Planned]:
    """The jobs that make `goals` in `folder` under the configuration in `files`.

    Raises:
        UserError: with Snakemake's last line, if it cannot plan them.
    """
    # more cores than any job uses: with fewer, its threads would be reduced
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1000", *more, *goals]
    named = [str(Path(file).absolute()) for file in files]
    command += ["--configfile", *named] if named else []
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr + done.stdout).strip().splitlines()[-1:]
        raise UserError(f"snakemake -n {' '.join(goals)} in {folder}: {' '.join(last)}")
    return read_plan(done.stdout)


def jobs_for(goal: str, plan: Sequence[Planned]) -> list[Planned]:
    """Jobs of a plan that a file, or a rule without one, depends on; each once."""
    makers = {file: number for number, job in enumerate(plan) for file in job.files("output")}
    waiting = [number for number, job in enumerate(plan) if job.rule == goal]
    waiting += [makers[goal]] if goal in makers else []
    found: set[int] = set()
    while waiting:
        number = waiting.pop()
        if number not in found:
            found.add(number)
            waiting += [makers[file] for file in plan[number].files("input") if file in makers]
    return [plan[number] for number in sorted(found)]
