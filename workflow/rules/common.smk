"""The checked configuration, and what rules derive from it."""

import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# not workflow.basedir: in a module, that is the basedir of the workflow which includes it
REPOSITORY = Path(str(workflow.current_basedir)).parents[1]
CAPTIONS = REPOSITORY / "workflow" / "report"
sys.path.insert(0, str(REPOSITORY / "scripts"))

from attnseg.config.reading import prepare
from attnseg.config.resolved import real_path
from attnseg.errors import UserError, one_line
from attnseg.evaluations import GIVEN
from attnseg.io.runs import failures, guard
from attnseg.jobs import REFERENCES, Jobs, device, flags
from attnseg.jobs import settings as settings_of
from attnseg.results import GENERATED_PICTURES, PICTURES, TABLES, check_target
from attnseg.results.competitors import with_methods
from attnseg.results.targets import Targets, masks_of

# `python` in a rule is the interpreter that runs Snakemake, unless a conda env puts its own first
os.environ.update(
    PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
)


def checked_config():
    """The configuration with its defaults, and the tables with its methods. A mistake in it ends the
    run with one line."""
    try:
        checked = prepare(config, workflow.configfiles)
        if checked["targets"] != "all":
            for target in checked["targets"]:
                check_target(target, (*checked["pictures"], *checked["predictions"]))
        return checked, with_methods(TABLES, checked)
    except UserError as error:
        raise SystemExit(f"error: {one_line(error)}")


def in_a_shell(path):
    """A path of the repository's files from here, which commands hold as it is."""
    if shlex.quote(path) != path:
        raise SystemExit(
            f"error: {one_line(path)}: a shell takes this path for something else; run from the clone, or "
            "move it to a folder whose name has letters, digits and . _ - alone"
        )
    return path


CHECKED, TABLES = checked_config()
config.update(CHECKED)
jobs = Jobs(config)
targets = Targets(jobs, TABLES)
WANTED_TARGETS, result_of = targets.wanted, targets.file
guard(workflow, config["paths"]["work"])

# Where a cluster sends SIGTERM to a job and its shell, the shell waits: else the job would be over, and
# its program killed, before a checkpoint is written. The rest is Snakemake's own.
shell.prefix("set -euo pipefail; trap : TERM; ")


pathvars:
    results=config["paths"]["results"],
    work=config["paths"]["work"],
    resources=config["paths"]["resources"],
    logs=f"{config['paths']['work']}/logs",
    benchmarks=f"{config['paths']['work']}/benchmarks",
    # relative to the repository, which need not be the working directory
    scripts=in_a_shell(os.path.relpath(REPOSITORY / "scripts")),
    assets=in_a_shell(os.path.relpath(REPOSITORY / "assets")),
    published=in_a_shell(os.path.relpath(REPOSITORY / "config" / "published")),
    captions=in_a_shell(os.path.relpath(CAPTIONS)),


def one_of(names):
    """A wildcard's constraint to names; of none, what matches nothing."""
    return "|".join(names) or "(?!)"


wildcard_constraints:
    dataset="|".join(config["datasets"]),
    split=r"[\w-]+",
    variant=one_of(
        [*config["variants"], *config["inversions"], *config["methods"], "reference"]
    ),
    refinement=one_of(
        [*config["refinements"], *config["labellings"], *REFERENCES, GIVEN]
    ),
    synthesis=one_of(config["synthesis"]),
    lora=one_of(config["loras"]),
    inversion=one_of(config["inversions"]),
    labelling=one_of(config["labellings"]),
    number=r"\d+",
    width=r"\d+",
    segmentor=rf"({'|'.join(config['segmentors'])})(@\d+)?",
    shard=r"\d{5}",
    target="|".join(TABLES),


def granted(needed):
    """A job's GPUs, as a resource; a run that grants fewer is refused, not slowed down."""

    def gpus(wildcards):
        limit = workflow.global_resources.get("gpu").value
        if config["device"] != "cpu" and limit is not None and limit < needed:
            raise WorkflowError(
                f"this job needs {needed} GPU and the run grants {limit} (--resources gpu={limit}); "
                f"grant gpu={needed}, or set `device: cpu` in the configuration"
            )
        return needed

    return gpus


gpus = granted(config["resources"]["gpu_per_job"])


def growing(most):
    """A resource that grows with every attempt of a job, up to `most`."""
    return lambda amount: lambda wildcards, attempt: min(amount * attempt, most)


megabytes = growing(config["resources"]["most"]["mem_mb"])
minutes = growing(config["resources"]["most"]["runtime"])


def of(function, *names):
    """`function` of the values of these wildcards, as an input or a param; a mapping becomes flags."""

    def from_wildcards(wildcards):
        try:
            value = function(*[wildcards[name] for name in names])
        except UserError as error:
            raise WorkflowError(str(error))
        return flags(**value) if isinstance(value, dict) else value

    return from_wildcards


split_manifest = of(jobs.data.manifest, "dataset", "split")
dataset_flags = of(jobs.data.split_flags, "dataset", "split")
model_files = of(jobs.models.files)


def settings_for(job, *names):
    """The settings of a job, as a param: those that are not the default and can change the result.

    `job` is a function of attnseg.jobs.settings; `names` are the wildcards that it takes.
    """
    return of(lambda *values: {"settings": job(config, *values).identity()}, *names)


def speed_for(job, *names, **more):
    """The settings of a job that cannot change its result, and its device: a resource rather than
    a param, as a job whose params change is run again."""

    def speed(*values):
        settings = job(config, *values).speed()
        assignments = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        return {"set": assignments or None, "device": device(config), **more}

    return of(speed, *names)
