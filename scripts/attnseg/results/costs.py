"""What making targets costs before anything runs: Snakemake's plan times the costs of one unit of work.

The jobs are those of a dry run; the units of a job (passes, images, megapixels, ...) follow from the
settings; what a unit costs is written in config/costs.yaml, and corrected by the records of finished
jobs (attnseg.io.costs).
"""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from attnseg.config.resolved import real_path
from attnseg.datasets.completeness import parts_of, read_registry
from attnseg.errors import UserError
from attnseg.io.costs import read_jobs
from attnseg.jobs import Jobs
from attnseg.jobs.settings import (
    class_images_job,
    extraction_job,
    generation_job,
    inversion_job,
    labelling_job,
    lora_job,
    refinement_job,
    segmentor_job,
    subject_training_job,
    test_job,
)
from attnseg.results import check_target
from attnseg.results.targets import Targets

CLONE = Path(__file__).parents[3]
Units = dict[str, float]  # how many of each unit a job has


# -- the plan


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


# -- how much there is to do


@dataclass(frozen=True)
class Work:
    """The units of jobs, from the settings."""

    jobs: Jobs
    costs: Mapping  # of config/costs.yaml

    def units(self, job: Planned) -> Units:
        """How many of each unit a job has; no passes where another job's predictions are refined."""
        count = getattr(self, job.rule, None)
        units = {"job": 1} | (count(**job.wildcards) if count else {})
        if not job.gpus and "label update" in units:
            units.pop("pass", None)
        return units

    @property
    def config(self) -> Mapping:
        return self.jobs.config

    def labels(self, dataset: str) -> float:
        """Classes of a photo, on average."""
        layout = self.config["datasets"][dataset]["layout"] or dataset
        return self.costs["labels"].get(layout, self.costs["labels"]["other"])

    # by the names and the wildcards of rules

    def extract_attention(self, dataset: str, split: str, variant: str, shard: str) -> Units:
        settings = extraction_job(self.config, variant)
        photos = in_shard(self.jobs.data.images(dataset, split), settings.shard_size, shard)
        classes = photos * self.labels(dataset)
        asked = photos if settings.query.composed else classes
        return {"pass": asked * settings.noises, "class": classes}

    def refine_masks(self, dataset: str, split: str, variant: str, refinement: str) -> Units:
        crf = refinement_job(self.config, variant, refinement).crf
        photos = self.jobs.data.images(dataset, split)
        labels = photos * (self.labels(dataset) + 1)
        return {"photo": photos, "label update": labels * (crf.iterations if crf else 0)}

    def generate_images(self, synthesis: str, shard: str) -> Units:
        settings = generation_job(self.config)
        count = self.config["synthesis"][synthesis]["count"]
        images = in_shard(count, settings.shard_size, shard)
        return {"step": images * settings.steps, "image": images}

    def refine_synthetic(self, synthesis: str, labelling: str, number: str) -> Units:
        dataset = self.config["synthesis"][synthesis]["dataset"]
        return self._labelled(int(number), dataset, labelling)

    def refine_inversion(self, dataset: str, split: str, inversion: str, labelling: str) -> Units:
        photos = self.jobs.masks.inverted_images(dataset, split, inversion)
        return self._labelled(photos, dataset, labelling)

    def _labelled(self, images: int, dataset: str, labelling: str) -> Units:
        settings = labelling_job(self.config, labelling)
        updates = settings.crf.iterations if settings.post == "crf" else 0
        return {"photo": images, "label update": images * (self.labels(dataset) + 1) * updates}

    def invert_image(self, dataset: str, split: str, inversion: str, shard: str) -> Units:
        settings = inversion_job(self.config, inversion)
        photos = self.jobs.masks.inverted_images(dataset, split, inversion)
        photos = in_shard(photos, settings.shard_size, shard)
        # DDIM's inversion, then at each step both texts, and the updates there and back
        passes = settings.steps * (1 + 2 + 3 * settings.inner_iterations)
        return {"pass": photos * passes, "class": photos * self.labels(dataset)}

    def train_segmentor(self, segmentor: str) -> Units:
        settings = segmentor_job(self.config, segmentor)
        crops = settings.iterations * settings.images_per_update
        kind = "beco" if settings.learner == "beco" else settings.architecture
        return {f"megapixel of {kind}": crops * settings.crop**2 / 1e6}

    def predict_segmentor(self, segmentor: str, split: str) -> Units:
        photos = self.jobs.data.images(self.jobs.segmentors.training(segmentor).dataset, split)
        settings = test_job(self.config, segmentor)
        return {"pass": photos * len(settings.scales) * (2 if settings.flip else 1)}

    def evaluate_segmentor(self, segmentor: str, split: str) -> Units:
        dataset = self.jobs.segmentors.training(segmentor).dataset
        crf = test_job(self.config, segmentor).crf
        labels = self.jobs.data.images(dataset, split) * len(
            self.jobs.data.facts[dataset].class_names
        )
        updates = labels * (crf.iterations if crf else 0)
        return self.predict_segmentor(segmentor, split) | {"label update": updates}

    make_submission = evaluate_segmentor

    def evaluate_masks(self, dataset: str, split: str, **_: str) -> Units:
        return {"photo": self.jobs.data.images(dataset, split)}

    make_reference_masks = write_true_masks = measure_similarity = evaluate_masks

    def train_dreambooth_lora(self, lora: str) -> Units:
        settings = lora_job(self.config, lora)
        return {"image": settings.steps * settings.batch_size}

    def generate_class_images(self) -> Units:
        return {"image": class_images_job(self.config).regularisation_images}

    def train_custom_diffusion(self, number: str) -> Units:
        settings = subject_training_job(self.config)
        subjects = self.costs["subjects"] / self.config["personalised"]["jobs"]
        # as many photos as images of the class
        return {"subject": subjects, "image": subjects * settings.steps * 2 * settings.batch_size}

    def segment_instances(self) -> Units:
        return {"question": self.jobs.data.images("mug19", "all")}


def in_shard(images: int, size: int, shard: str) -> int:
    """How many images a shard holds."""
    return min(size, images - int(shard) * size)


# -- what it costs


@dataclass(frozen=True)
class Cost:
    """GPU and CPU seconds, bytes fetched and bytes left on the disk, of so many jobs."""

    jobs: int = 0
    gpu: float = 0
    cpu: float = 0
    download: float = 0
    disk: float = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, name) + getattr(other, name) for name in FIELDS))

    def text(self) -> str:
        """In words, without downloads."""
        disk = f"{self.disk / 1e9:,.0f} GB, " if self.disk else ""
        gpu = f"{hours(self.gpu)} GPU hours, " if self.gpu else ""
        return f"{gpu}{hours(self.cpu)} CPU hours, {disk}{self.jobs:,} jobs"


def hours(seconds: float) -> str:
    """Two digits of what is below ten."""
    value = seconds / 3600
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


FIELDS = ("jobs", "gpu", "cpu", "download", "disk")


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
