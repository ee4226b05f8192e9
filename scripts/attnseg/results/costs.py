"""What making targets costs before anything runs: Snakemake's plan times the costs of one unit of work.

What a unit costs is written in config/costs.yaml, and corrected by the records of finished jobs
(attnseg.io.costs).
"""

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import yaml

from attnseg.config.resolved import real_path
from attnseg.datasets.completeness import parts_of, read_registry
from attnseg.io.costs import read_jobs
from attnseg.jobs import Jobs
from attnseg.results import check_target
from attnseg.results.planned import Planned, jobs_for, planned
from attnseg.results.targets import Targets
from attnseg.results.work import Units, Work

CLONE = Path(__file__).parents[3]


@dataclass(frozen=True)
class Cost:
    """GPU and CPU seconds, bytes fetched and bytes left on the disk, of so many jobs."""

    jobs: int = 0
    gpu: float = 0
    cpu: float = 0
    download: float = 0
    disk: float = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*map(operator.add, astuple(self), astuple(other)))

    def text(self) -> str:
        """In words, without downloads."""
        disk = f"{self.disk / 1e9:,.0f} GB, " if self.disk else ""
        gpu = f"{hours(self.gpu)} GPU hours, " if self.gpu else ""
        return f"{gpu}{hours(self.cpu)} CPU hours, {disk}{self.jobs:,} jobs"


def hours(seconds: float) -> str:
    """Two digits of what is below ten."""
    value = seconds / 3600
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def read_costs() -> dict:
    """config/costs.yaml."""
    return yaml.safe_load((CLONE / "config" / "costs.yaml").read_text())


def is_mini(config: Mapping) -> bool:
    """Whether no model is to be downloaded, and none is as large as Stable Diffusion."""
    return config["model"]["revision"] is None and config["device"] == "cpu"


@dataclass(frozen=True)
class Prices:
    """The cost of jobs, by unit costs and by what finished jobs of the same kind have taken."""

    work: Work
    factors: Mapping[tuple[str, ...], float]  # measured / estimated, by kind

    def of(self, jobs: Iterable[Planned]) -> Cost:
        return sum(map(self.of_job, jobs), Cost())

    def of_job(self, job: Planned) -> Cost:
        units = self.work.units(job)
        cost = self.estimate(job.rule, units)
        factor = self.factors.get((job.rule, *units), 1)
        return Cost(1, cost.gpu * factor, cost.cpu * factor, cost.download, cost.disk)

    def estimate(self, rule: str, units: Units) -> Cost:
        """The cost of so many units, by config/costs.yaml."""
        costs = self.work.costs
        if is_mini(self.work.config):
            return Cost(1, cpu=costs["mini"].get(rule, costs["mini"]["other"]))
        known = costs["units"].get(rule, {"job": costs["other"]})
        total: Counter[str] = Counter()
        for unit, count in units.items():
            for name, each in known.get(unit, {}).items():
                if name != "source":
                    total[name] += count * each
        disk = total["bytes"] + total["download"]
        return Cost(1, total["gpu"], total["cpu"], total["download"], disk)

    def of_data(self, jobs: Iterable[Planned]) -> Cost:
        """The archives that the downloads among `jobs` fetch, and what lies on the disk afterwards."""
        registry, cost = read_registry(), Cost()
        for job in jobs:
            if job.rule != "download_dataset":
                continue
            name = job.wildcards["dataset"]
            entry = self.work.config["datasets"][name]
            layout = entry["layout"] or name
            if entry["source"] != "download":
                continue
            known = self.work.costs["archives"]
            parts = parts_of(registry.get(layout, {}), list(entry["splits"]))
            size = sum(
                part.get("bytes", known.get(f"{layout}/{key}", 0)) for key, part in parts.items()
            )
            by_hand = self.work.costs["by_hand"].get(layout, 0)
            # an archive is kept beside what is unpacked from it
            cost += Cost(download=size, disk=2 * size + by_hand)
        return cost


def measured(
    plan: Iterable[Planned], work: Work, folder: Path
) -> dict[tuple[str, ...], tuple[int, float]]:
    """By kind of job, (finished jobs, what they took / what they were estimated to take).

    A job with a GPU takes time, another one the time of cores. `folder`: the working directory.
    """
    benchmarks = folder / work.config["paths"]["work"] / "benchmarks"
    records = {str(job.path.with_suffix("")): job for job in read_jobs(benchmarks)}
    prices = Prices(work, {})
    sums: dict[tuple[str, ...], tuple[int, float, float]] = {}
    for job in plan:
        log = job.fields.get("log", "").removesuffix(".log")
        record = records.get(log.rpartition("/logs/")[2])
        if record is None or not all((folder / file).exists() for file in job.files("output")):
            continue
        units = work.units(job)
        cost = prices.estimate(job.rule, units)
        expected = cost.gpu + cost.cpu / job.threads if cost.gpu else cost.cpu
        taken = record.seconds if cost.gpu else record.cpu_seconds
        count, all_taken, all_expected = sums.get((job.rule, *units), (0, 0.0, 0.0))
        sums[(job.rule, *units)] = (count + 1, all_taken + taken, all_expected + expected)
    return {kind: (n, taken / expected) for kind, (n, taken, expected) in sums.items() if expected}


# -- all together


@dataclass(frozen=True)
class Estimate:
    """The cost of each target and of all, and what of it was measured here."""

    rows: dict[str, Cost]  # the last is all, each job once
    left: Cost | None  # what is still to be done of all; None where nothing has run
    measured: dict[tuple[str, ...], tuple[int, float]]


def estimate(
    names: Sequence[str], config: Mapping, files: Sequence[str | Path], folder: Path
) -> Estimate:
    """The cost of targets, rules or files in `folder`; of no name, of what `snakemake` alone makes.

    `config`: with every default, as read from the repository's and from `files`.
    """
    targets = Targets(Jobs(config))
    rows: dict[str, str] = {}
    for name in names or ["all"]:
        for made in targets_of(name, targets):
            rows[Path(made).stem] = real_path(made, config)
    goals = [*dict.fromkeys([*(names or ["all"])])]
    goals = [name if name.startswith("all") else rows[Path(name).stem] for name in goals]
    plan = planned(goals, files, folder, "--forceall")
    work = Work(targets.jobs, read_costs())
    found = measured(plan, work, folder)
    prices = Prices(work, {kind: factor for kind, (_, factor) in found.items()})

    def cost(jobs: list[Planned]) -> Cost:
        return prices.of(jobs) + prices.of_data(jobs)

    costs = {name: cost(jobs_for(goal, plan)) for name, goal in rows.items()}
    left = cost(planned(goals, files, folder)) if found else None
    return Estimate(costs | {"together": cost(plan)}, left, found)


def targets_of(name: str, targets: Targets) -> list[str]:
    """The files of a target, of a rule that makes several, or of a file itself."""
    makes: dict[str, Callable[[], list[str]]] = {
        "all": lambda: [targets.file(target) for target in targets.wanted],
        "all_tables": lambda: [targets.file(target) for target in targets.available],
    }
    if name in makes:
        return makes[name]()
    if name.startswith("all_"):
        return targets.group(name.removeprefix("all_"))
    if "/" in name:
        return [name]
    check_target(name)
    return [targets.file(name)]


def table(found: Estimate) -> list[list[str]]:
    """Rows of text, the first with the columns' names."""
    rows = [["target", "jobs", "GPU hours", "CPU hours", "download GB", "disk GB"]]
    costs = found.rows | ({"still to do": found.left} if found.left else {})
    for name, cost in costs.items():
        sizes = [f"{size / 1e9:,.1f}" if size else "-" for size in (cost.download, cost.disk)]
        times = [hours(seconds) for seconds in (cost.gpu, cost.cpu)]
        rows.append([name, f"{cost.jobs:,}", *times, *sizes])
    return rows
