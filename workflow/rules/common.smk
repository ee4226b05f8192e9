"""The checked configuration, and what rules derive from it."""

import json
import math
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# not workflow.basedir: as a module of another workflow, that is the other's
REPOSITORY = Path(str(workflow.current_basedir)).parents[1]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from attnseg import config as settings_of
from attnseg import datasets
from attnseg.config import prepare, resolve_segmentor, resolve_variant
from attnseg.errors import UserError
from attnseg.evaluations import Evaluation
from attnseg.io.runs import guard
from attnseg.settings import PROFILES, read_segmentor
from attnseg.results import FIGURES, GENERATED_PICTURES, PICTURES, TABLES, TARGETS
from attnseg.results import check_target, evaluations_needed
from attnseg.results import claims as ledger

# `python` in a rule is the interpreter that runs Snakemake, unless a conda env puts its own first
os.environ.update(
    PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
)


def checked_config():
    """The configuration with its defaults. A mistake in it ends the run with one line."""
    try:
        checked = prepare(config, workflow.configfiles)
        if checked["targets"] != "all":
            for target in checked["targets"]:
                check_target(target)
        return checked
    except UserError as error:
        raise SystemExit(f"error: {error}")


config.update(checked_config())
DATASETS = {
    name: datasets.load(name, entry) for name, entry in config["datasets"].items()
}
guard(workflow, config["paths"]["work"])


pathvars:
    results=config["paths"]["results"],
    work=config["paths"]["work"],
    resources=config["paths"]["resources"],
    logs=f"{config['paths']['work']}/logs",
    benchmarks=f"{config['paths']['work']}/benchmarks",
    # of the repository, which need not be the working directory
    scripts=os.path.relpath(REPOSITORY / "scripts"),
    assets=os.path.relpath(REPOSITORY / "assets"),
    published=os.path.relpath(REPOSITORY / "config" / "published"),
    captions=os.path.relpath(REPOSITORY / "workflow" / "report"),


# model-free baselines
REFERENCES = ["all_background", "random_labels"]


def one_of(names):
    """A wildcard's constraint to names; of none, what matches nothing."""
    return "|".join(names) or "(?!)"


wildcard_constraints:
    dataset="|".join(config["datasets"]),
    split=r"[\w-]+",
    variant=one_of([*config["variants"], *config["inversions"], "reference"]),
    refinement=one_of([*config["refinements"], *config["labellings"], *REFERENCES]),
    synthesis=one_of(config["synthesis"]),
    lora=one_of(config["loras"]),
    inversion=one_of(config["inversions"]),
    labelling=one_of(config["labellings"]),
    number=r"\d+",
    width=r"\d+",
    segmentor=rf"({'|'.join(config['segmentors'])})(@\d+)?",
    shard=r"\d{5}",
    target="|".join(TABLES),
    picture=one_of(config["pictures"]),


def granted_gpus(needed):
    """So many GPUs; a run that grants fewer is refused, not slowed down."""
    granted = workflow.global_resources.get("gpu").value
    if config["device"] != "cpu" and granted is not None and granted < needed:
        raise WorkflowError(
            f"this job needs {needed} GPU and the run grants {granted} (--resources gpu={granted}); "
            f"grant gpu={needed}, or set `device: cpu` in the configuration"
        )
    return needed


def gpus(wildcards):
    """GPUs of a job that needs one."""
    return granted_gpus(config["resources"]["gpu_per_job"])


def device():
    """What programs are told: with a GPU granted to the job, no quiet fall back on the CPU."""
    if config["device"] == "auto" and config["resources"]["gpu_per_job"] > 0:
        return "cuda"
    return config["device"]


def growing(amount):
    """A resource that grows with every retry of a job."""
    return lambda wildcards, attempt: amount * attempt


def split_settings(dataset, split):
    """What is configured for a split."""
    splits = config["datasets"][dataset]["splits"]
    if split not in splits:
        raise WorkflowError(
            f"datasets.{dataset}.splits has no {split!r}; configured are {', '.join(splits)}"
        )
    return splits[split]


def dataset_manifest(dataset, split):
    """The manifest that says a data set is there, with every split that is configured."""
    split_settings(dataset, split)
    return f"<resources>/{dataset}.json"


def split_manifest(wildcards):
    """Manifest of the job's split, as an input function."""
    return dataset_manifest(wildcards.dataset, wildcards.split)


def images_listed(wildcards):
    """How many images a split lists."""
    return split_settings(wildcards.dataset, wildcards.split)["images"]


def dataset_argument(name):
    """What a program is told of a data set: its name, or what is configured of one's own."""
    return datasets.argument(name, config["datasets"][name])


def dataset_flags(wildcards):
    """The flags of every program that reads a split."""
    return flags(
        dataset=dataset_argument(wildcards.dataset),
        root=config["datasets"][wildcards.dataset]["root"],
        split=wildcards.split,
    )


def photos_named(dataset, split):
    """What a program is told that reads the photos named by an earlier one."""
    by_split = "{split}" in (DATASETS[dataset].photos or "")
    return {
        "dataset": dataset_argument(dataset),
        "root": config["datasets"][dataset]["root"],
        "split": split if by_split else None,
    }


def dataset_name(dataset):
    """The name printed in tables."""
    return config["datasets"][dataset]["name"] or dataset


def flags(**values):
    """Command line flags: key=value becomes --key value, True a bare flag, None and False nothing."""
    words = []
    for key, value in values.items():
        if value is None or value is False:
            continue
        words.append(f"--{key.replace('_', '-')}")
        if isinstance(value, (list, tuple)):
            words += map(str, value)
        elif isinstance(value, dict):
            words.append(json.dumps(value, sort_keys=True, separators=(",", ":")))
        elif value is not True:
            words.append(str(value))
    return shlex.join(words)


def settings_for(job, *names):
    """The settings of a job, as a param: those that are not the default and can change the result.

    `job` is a function of attnseg.config; `names` are the wildcards that it takes.
    """

    def settings(wildcards):
        told = job(config, *[wildcards[name] for name in names])
        return flags(settings=told.identity())

    return settings


def speed_for(job, *names):
    """The settings of a job that cannot change its result, and its device: a resource rather than
    a param, as a job whose params change is run again."""

    def speed(wildcards):
        told = job(config, *[wildcards[name] for name in names]).speed()
        assignments = [f"{key}={json.dumps(value)}" for key, value in told.items()]
        return flags(set=assignments or None, device=device())

    return speed


def label_source(dataset, profile):
    """Where image-level labels are read; the official code takes them from the true masks."""
    if PROFILES[profile].labels_from_masks:
        return "mask"
    return next(iter(DATASETS[dataset].label_sources), None)


def vocabulary(dataset):
    """The data set whose words its classes are asked for by; None for one's own."""
    name = config["datasets"][dataset]["vocabulary"] or dataset
    own = name == dataset and dataset_argument(name) != name
    return None if own else dataset_argument(name) if name in DATASETS else name


def shard_numbers(images, size):
    """The numbers of the shards of a list, as they stand in file names."""
    return [f"{number:05d}" for number in range(math.ceil(images / size))]


def photos_of(dataset, split):
    """The folder below which a split's photos lie."""
    folder = DATASETS[dataset].photo_folder(split)
    if folder is None:
        raise WorkflowError(
            f"photos of datasets.{dataset} lie in no one folder and cannot be adapted to or inverted"
        )
    return f"{config['datasets'][dataset]['root']}/{folder}"


def images_inverted(dataset, split, inversion):
    """How many photos of a split are inverted."""
    listed = split_settings(dataset, split)["images"]
    return min(listed, config["inversions"][inversion]["images"].get(split, listed))
