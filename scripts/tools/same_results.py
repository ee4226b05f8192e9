#!/usr/bin/env python3
"""Compare the results of two checkouts, before and after a redesign that must not change them.

    python scripts/tools/same_results.py OLD NEW
    python scripts/tools/same_results.py OLD NEW --only attention masks tables
    python scripts/tools/same_results.py OLD NEW --only plan --renamed refine_inversion=refine_masks

One line a group, what differs below it, and status 1 where anything does. Neither checkout is written to.
The first seven groups compare what `make mini` or `make mini-all` left in both; the last two run this
Python on the code of each.

attention    shards of work/mini/attention: names, dtypes, shapes and bytes of their tensors
masks        bytes of the PNG files in work/mini/masks, reliability maps included
generated    shards, images and prompts with their classes, where both have work/mini/generated
inverted     shards of inverted photos, where both have them
loras        weights of adapters, where both have them
personal     weights of trained subjects, if both have them
tables       results/mini/*.csv, all columns but `note`; values of trained segmentors within the
             tolerances of OLD's tests/expected/mini.csv, 3.0 without one
segmentors   what mmengine is told to train each segmentor of both scales, and the losses of the first
             iterations of the paper scale's, narrowed, on six small images
plan         the jobs of both scales from nothing: rules, outputs, threads, gpu, mem_mb and runtime
"""

import argparse
import csv
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import SafetensorError, deserialize

try:
    from attnseg.errors import UserError, run
except ModuleNotFoundError:  # run from its own folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from attnseg.errors import UserError, run
from attnseg.results.costs import read_plan

SHOWN = 10  # differences of a group
TOLERANCE = 3.0  # of a trained segmentor's value that nothing is expected of
LOSS_TOLERANCE = 1e-6
FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
LEFT_BY_RUNS = ("results", "work", "resources", "log", ".snakemake", ".git", ".venv")
SCALES = {"paper": ["config/config.yaml"], "mini": ["config/config.yaml", "config/mini.yaml"]}
PLANS = {
    "paper scale": ["--config", "targets=all"],
    "mini scale": ["--configfile", "config/mini.yaml", "--config", "targets=all"],
    "mini scale's default": ["--configfile", "config/mini.yaml"],
}
Compared = (
    tuple[str, list[str]] | None
)  # (what was compared, what differs); None: nothing to compare


def compare(
    old: Mapping, new: Mapping, reasons: Callable[[object, object], list[str]]
) -> list[str]:
    """Names whose values differ; `reasons` tells why two values of one name do."""
    found = [f"{name}: only in OLD" for name in old if name not in new]
    found += [f"{name}: only in NEW" for name in new if name not in old]
    for name in old:
        if name in new:
            found += [f"{name}: {reason}" for reason in reasons(old[name], new[name])]
    return found


def changed(old: object, new: object) -> list[str]:
    return [] if old == new else [f"{old!r}, now {new!r}"]


def gathered(differences: list[str]) -> list[str]:
    """One line for all names that differ in the same way, for jobs per rule."""
    names: dict[tuple[str, str], list[str]] = {}
    for line in differences:
        name, _, reason = line.partition(": ")
        rule = name.partition(" -> ")[0] if " -> " in name else ""
        names.setdefault((rule, reason), []).append(name)
    return [
        f"{first}{f' and {len(rest):,} more' if rest else ''}: {reason}"
        for (_, reason), (first, *rest) in names.items()
    ]


# -- files that a run left


def files_below(folder: Path, *suffixes: str) -> dict[str, Path]:
    """Files by their path in the folder, without hidden ones, which are unfinished work."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in suffixes)
    names = {str(path.relative_to(folder)): path for path in paths}
    return {name: path for name, path in names.items() if "/." not in f"/{name}"}


def compare_tensors(old: Path, new: Path) -> Compared:
    """Compare all safetensors files of two folders, without their metadata."""
    files, count = files_below(old, ".safetensors"), 0
    if not files:
        return None

    def reasons(one: Path, other: Path) -> list[str]:
        nonlocal count
        try:
            tensors, others = (dict(deserialize(path.read_bytes())) for path in (one, other))
        except SafetensorError as error:
            return [f"not readable ({error})"]
        count += len(tensors)
        return compare(tensors, others, tensor_reasons)

    differences = compare(files, files_below(new, ".safetensors"), reasons)
    return f"{len(files):,} files, {count:,} tensors", differences


def tensor_reasons(old: Mapping, new: Mapping) -> list[str]:
    """The difference of two tensors: their dtypes and shapes, or its size."""
    kinds = [f"{tensor['dtype']} {list(tensor['shape'])}" for tensor in (old, new)]
    if kinds[0] != kinds[1]:
        return changed(*kinds)
    if old["data"] == new["data"]:
        return []
    if old["dtype"] not in FLOATS:
        return ["bytes differ"]
    values, others = (
        np.frombuffer(tensor["data"], FLOATS[tensor["dtype"]]).astype(np.float64)
        for tensor in (old, new)
    )
    return [f"values differ, by {np.abs(values - others).max():.3g} at most"]


def file_reasons(old: Path, new: Path) -> list[str]:
    return [] if old.read_bytes() == new.read_bytes() else ["bytes differ"]


def compare_attention(old: Path, new: Path, args: argparse.Namespace) -> Compared:
    found = compare_tensors(old / "work/mini/attention", new / "work/mini/attention")
    return found and (found[0].replace("files", "shards"), found[1])


def compare_masks(old: Path, new: Path, args: argparse.Namespace) -> Compared:
    masks, others = (
        {
            name: path
            for name, path in files_below(checkout / "work/mini/masks", ".png").items()
            if not name.startswith(tuple(f"{folder.rstrip('/')}/" for folder in args.learnt_masks))
        }
        for checkout in (old, new)
    )
    if not masks:
        return None
    return f"{len(masks):,} masks and reliability maps", compare(masks, others, file_reasons)


def compare_generated(old: Path, new: Path, args: argparse.Namespace) -> Compared:
    folders = [checkout / "work/mini/generated" for checkout in (old, new)]
    images, others = (files_below(folder, ".jpg", ".png", ".jsonl") for folder in folders)
    tensors = compare_tensors(*folders)
    if tensors is None or not folders[1].is_dir():
        return None
    what = f"{tensors[0]}, {len(images):,} images and lists of prompts"
    return what, tensors[1] + compare(images, others, file_reasons)


def compare_where_both(folder: str) -> Callable[[Path, Path, argparse.Namespace], Compared]:
    """Compares tensors of a folder that both checkouts have."""

    def compare_folder(old: Path, new: Path, args: argparse.Namespace) -> Compared:
        if not (new / folder).is_dir():
            return None
        return compare_tensors(old / folder, new / folder)

    return compare_folder


# -- tables


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    """The rows of a CSV by their labels."""
    rows: dict[str, dict[str, str]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = row["id"] if "id" in row else f"{row['method']}, {row['metric']}"
            while name in rows:
                name += " again"
            rows[name] = row
    return rows


def read_tolerances(path: Path) -> dict[str, dict[str, float]]:
    """Target -> the label of a row -> its tolerance."""
    tolerances: dict[str, dict[str, float]] = {}
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                name = f"{row['method']}, {row['metric']}"
                tolerances.setdefault(row["target"], {})[name] = float(row["tolerance"])
    return tolerances


def is_trained(row: Mapping[str, str]) -> bool:
    """True if a row depends on a trained segmentor; the ledger of claims names models in its notes."""
    return "DeepLab" in row.get("model", row.get("note") or "")


def row_reasons(old: Mapping[str, str], new: Mapping[str, str], tolerance: float) -> list[str]:
    """The columns in which two rows of a table differ by more than a tolerance."""

    def is_close(column: str) -> bool:
        try:
            return abs(float(old[column]) - float(new[column])) <= tolerance + 1e-9
        except (KeyError, ValueError):
            return False

    close = {column: old[column] for column in ("ours", "low", "high") if is_close(column)}
    kept, others = (
        {column: value for column, value in row.items() if column != "note"}
        for row in (old, {**new, **close})
    )
    return compare(kept, others, changed)


def compare_tables(old: Path, new: Path, args: argparse.Namespace) -> Compared:
    tables = {path.name: path for path in sorted((old / "results/mini").glob("*.csv"))}
    if not tables:
        return None
    tolerances, count = read_tolerances(old / "tests/expected/mini.csv"), 0

    def reasons(one: Path, other: Path) -> list[str]:
        nonlocal count
        rows, others = read_rows(one), read_rows(other)
        count += len(rows)
        within = {
            name: tolerances.get(one.stem, {}).get(name, TOLERANCE) if is_trained(row) else 0.0
            for name, row in rows.items()
        }
        judged = {name: (row, within[name]) for name, row in rows.items()}
        return compare(judged, others, lambda pair, row: row_reasons(pair[0], row, pair[1]))

    others = {name: new / "results/mini" / name for name in tables}
    others = {name: path for name, path in others.items() if path.is_file()}
    differences = compare(tables, others, reasons)
    return f"{len(tables)} tables, {count:,} rows", differences


# -- segmentors


def print_segmentors(scales: str, toy: str, iterations: str) -> None:
    """Print a checkout's segmentors; this function's source is run inside the checkout.

    Prints JSON: `descriptions`, by scale and segmentor; `losses`, by segmentor of the paper scale.
    """
    import contextlib
    import json
    import sys
    import tempfile
    from pathlib import Path

    from attnseg import config as configuration
    from attnseg.segmentation import train  # before all else of OpenMMLab
    from attnseg.segmentation.data import Pairs

    import mmengine.device.utils  # isort: skip
    import torch
    from mmengine.config import Config
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    try:
        from attnseg.settings import read_segmentor
    except ImportError:
        from attnseg.segmentation.settings import read_settings as read_segmentor
    options_of = getattr(train, "runner_options", None) or train.runner_config
    narrow = {"width": 8, "crop": 64, "batch": 2, "workers": 0, "pretrained": None}
    narrow["frozen_norm"] = None  # of no pretrained network

    def read_config(files):
        try:
            return configuration.read_config(*files)
        except TypeError:
            schema = "workflow/schemas/config.schema.yaml"
            return configuration.read_config(*files, schema=schema)

    def class_names(config, dataset):
        try:
            from attnseg.datasets import load
        except ImportError:
            from attnseg.segmentation.data import class_names, layout

            return class_names(layout(dataset))
        return load(dataset, config["datasets"][dataset]).class_names

    def images_of(config, values):
        chosen = values["train"]
        if chosen["synthesis"] is not None:
            return chosen["images"] or config["synthesis"][chosen["synthesis"]]["count"]
        listed = config["datasets"][chosen["dataset"]]["splits"][chosen["split"]]["images"]
        inversion = config["inversions"].get(chosen["masks"].split("/")[0])
        return (
            min(listed, inversion["images"].get(chosen["split"], listed)) if inversion else listed
        )

    def values_of(config, name):
        values = configuration.resolve_segmentor(config, name)
        return values | {"seed": config["seed"] if values["seed"] is None else values["seed"]}

    def described(config, name):
        values = values_of(config, name)
        count = images_of(config, values)
        settings = read_segmentor(values).with_iterations(count)
        classes = class_names(config, values["train"]["dataset"])
        pairs = Pairs(range(count), [], [])  # how many, and no paths
        options = options_of(settings, pairs, classes, Path("folder"), "cpu", None)
        options = options.to_dict() if isinstance(options, Config) else options
        del options["work_dir"], options["experiment_name"]
        return options | {"images": count, "pretrained": settings.pretrained}

    def first_losses(settings, classes):
        losses = []

        class Losses(Hook):
            def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
                losses.append(float(outputs["loss"]))

        ids = sorted(path.stem for path in Path(toy, "photos").iterdir())
        columns = [[Path(toy, kind, f"{i}.png") for i in ids] for kind in ("photos", "masks")]
        if settings.learner == "beco":
            columns.append([Path(toy, "reliability", f"{i}.png") for i in ids])
        settings = settings.with_iterations(len(ids))
        with tempfile.TemporaryDirectory() as folder:
            pairs = Pairs(ids, *columns)
            options = options_of(settings, pairs, classes, Path(folder), "cpu", None)
            options["train_cfg"]["max_iters"] = int(iterations)  # the schedule stays the whole one
            make = (
                Runner.from_cfg if isinstance(options, Config) else lambda kwargs: Runner(**kwargs)
            )
            runner = make(options)
            runner.register_hook(Losses())
            runner.train()
        return losses

    torch.set_num_threads(1)
    mmengine.device.utils.DEVICE = "cpu"
    found = {"descriptions": {}, "losses": {}}
    with contextlib.redirect_stdout(sys.stderr):
        for scale, files in json.loads(scales).items():
            config = read_config(files)
            for name in config["segmentors"]:
                found["descriptions"][f"{scale} scale, {name}"] = described(config, name)
            if scale != "paper":
                continue
            distinct = {}
            for name in config["segmentors"]:
                settings = read_segmentor(values_of(config, name) | narrow)
                if repr(settings) not in distinct:
                    classes = class_names(config, "voc")
                    distinct[repr(settings)] = first_losses(settings, classes)
                found["losses"][name] = distinct[repr(settings)]
    print(json.dumps(found))


def write_toy(folder: Path) -> None:
    """Six photos of a red or a blue square on grey with noise, masks of it, and reliability maps."""
    generator = np.random.default_rng(0)
    for i in range(6):
        height, width = 72 + 2 * i, 80
        photo = generator.integers(96, 160, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        reliability = np.full((height, width), 255, np.uint8)
        y, x = generator.integers(4, 36, 2)
        photo[y : y + 30, x : x + 30] = (230, 20, 20) if i % 2 else (20, 20, 230)
        mask[y : y + 30, x : x + 30] = 255
        mask[y + 1 : y + 29, x + 1 : x + 29] = 1 if i % 2 else 2
        reliability[: height // 3] = 0
        pictures = {"photos": photo, "masks": mask, "reliability": reliability}
        for kind, pixels in pictures.items():
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{i}.png")


def flat(value: object, at: str = "") -> dict[str, object]:
    """Nested mappings and lists as one mapping: {"optim_wrapper.optimizer.lr": 0.1}."""
    if isinstance(value, list):
        value = {str(i): item for i, item in enumerate(value)}
    if not isinstance(value, dict) or not value:
        return {at: value}
    parts = [flat(item, f"{at}.{key}" if at else key) for key, item in value.items()]
    return {key: item for part in parts for key, item in part.items()}


def description_reasons(old: dict, new: dict) -> list[str]:
    return compare(flat(old), flat(new), changed)


def loss_reasons(old: list[float], new: list[float]) -> list[str]:
    """The first iteration whose loss differs, or the numbers of iterations."""
    for i, (one, other) in enumerate(zip(old, new, strict=False), 1):
        if not abs(one - other) <= LOSS_TOLERANCE:
            return [f"the loss of iteration {i} was {one:.7g}, now {other:.7g}"]
    return changed(len(old), len(new))


def segmentor_differences(old: dict, new: dict) -> list[str]:
    """Compare what `print_segmentors` prints."""
    found = compare(old["descriptions"], new["descriptions"], description_reasons)
    return gathered(found + compare(old["losses"], new["losses"], loss_reasons))


def compare_segmentors(old: Path, new: Path, args: argparse.Namespace) -> Compared:
    if not (old / "config/config.yaml").is_file():
        return None
    code = inspect.getsource(print_segmentors)
    code += "\nimport sys\nprint_segmentors(*sys.argv[1:])\n"
    found = []
    with tempfile.TemporaryDirectory() as toy:
        write_toy(Path(toy))
        for checkout in (old, new):
            command = [sys.executable, "-c", code, json.dumps(SCALES), toy, "5"]
            found.append(json.loads(output_of(command, checkout, checkout).splitlines()[-1]))
    trained = len({tuple(losses) for losses in found[0]["losses"].values()})
    what = f"{len(found[0]['descriptions'])} descriptions, {trained} short trainings"
    return what, segmentor_differences(*found)


# -- the plan


def planned_jobs(output: str) -> dict[str, dict[str, str]]:
    """Parse a dry run: "rule -> outputs" -> threads and resources of a job."""
    jobs = {}
    for planned in read_plan(output):
        fields = planned.fields
        outputs = ", ".join(sorted(fields.get("output", "").split(", ")))
        resources = fields.get("resources", "")
        job = {"threads": fields.get("threads", "1")}
        for name in ("gpu", "mem_mb", "runtime"):
            value = re.search(rf"(?:^|, ){name}=([^,]+)", resources)
            job[name] = value[1] if value else "none"
        key = f"{planned.rule} -> {outputs}"
        while key in jobs:
            key += " again"
        jobs[key] = job
    return dict(sorted(jobs.items()))


def renamed(jobs: dict[str, dict], names: Mapping[str, str]) -> dict[str, dict]:
    """Jobs under the new names of their rules."""
    rules = {key: key.partition(" -> ") for key in jobs}
    return {f"{names.get(rule, rule)} -> {of}": jobs[key] for key, (rule, _, of) in rules.items()}


def plan_differences(old: dict[str, dict], new: dict[str, dict]) -> list[str]:
    """Compare two plans by job."""
    return gathered(compare(old, new, lambda one, other: compare(one, other, changed)))


def jobs_of(checkout: Path, arguments: list[str]) -> dict[str, dict[str, str]]:
    """All jobs of a checkout in which nothing was run."""
    with tempfile.TemporaryDirectory() as folder:
        for path in checkout.iterdir():
            if path.name not in LEFT_BY_RUNS:
                Path(folder, path.name).symlink_to(path)
        # more cores than any job uses: with fewer, its threads would be reduced
        command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1000", *arguments]
        jobs = planned_jobs(output_of(command, checkout, Path(folder)))
    if not jobs:
        raise UserError(
            f"{checkout}: snakemake -n {' '.join(arguments)} plans no job; run it there"
        )
    return jobs


def compare_plans(old: Path, new: Path, args: argparse.Namespace) -> Compared:
    names, what, differences = dict(args.renamed), [], []
    for scale, arguments in PLANS.items():
        jobs = renamed(jobs_of(old, arguments), names)
        what.append(f"{len(jobs):,} jobs of the {scale}")
        found = plan_differences(jobs, jobs_of(new, arguments))
        differences += [f"{scale}: {line}" for line in found]
    return ", ".join(what), differences


def output_of(command: list[str], checkout: Path, folder: Path) -> str:
    """Run a command in a folder with the code of a checkout; return its output."""
    environment = os.environ | {
        "PYTHONPATH": str(checkout / "scripts"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr + done.stdout).strip().splitlines()[-1:]
        raise UserError(f"{checkout}: {' '.join(last)}; its code cannot be asked")
    return done.stdout


GROUPS: dict[str, Callable[[Path, Path, argparse.Namespace], Compared]] = {
    "attention": compare_attention,
    "masks": compare_masks,
    "generated": compare_generated,
    "inverted": compare_where_both("work/mini/inverted"),
    "loras": compare_where_both("work/mini/loras"),
    "personal": compare_where_both("work/mini/personal/subjects"),
    "tables": compare_tables,
    "segmentors": compare_segmentors,
    "plan": compare_plans,
}


def report(group: str, found: Compared) -> str:
    """The line of a group, and its first differences."""
    if found is None:
        return f"{group}: nothing to compare"
    what, differences = found
    if not differences:
        return f"{group}: {what}: equal"
    lines = [f"{group}: {what}: {len(differences):,} difference{'s' * (len(differences) > 1)}"]
    lines += [f"  {line}" for line in differences[:SHOWN]]
    if len(differences) > SHOWN:
        lines.append(f"  and {len(differences) - SHOWN:,} more")
    return "\n".join(lines)


def new_name(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise UserError(f"--renamed {text}: write it as OLD=NEW, two names of a rule")
    return old, new


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, metavar="OLD", help="the checkout before")
    parser.add_argument("new", type=Path, metavar="NEW", help="the checkout after")
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups (default: all)"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 where a group has nothing to compare"
    )
    parser.add_argument(
        "--renamed", nargs="+", type=new_name, default=[], metavar="OLD=NEW", help="rules, of plan"
    )
    parser.add_argument(
        "--learnt-masks",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folders below work/mini/masks that derive from a trained segmentor, left out of masks",
    )
    args = parser.parse_args(argv)
    checkouts = [args.old.resolve(), args.new.resolve()]
    for checkout in checkouts:
        if not (checkout / "Snakefile").is_file():
            raise UserError(
                f"{checkout}: no checkout of this repository; name one with a Snakefile"
            )
    failed = False
    for group in args.only:
        try:
            found = GROUPS[group](*checkouts, args)
        except UserError as error:
            print(f"{group}: {error}", flush=True)
            failed = True
            continue
        print(report(group, found), flush=True)
        failed |= args.strict if found is None else bool(found[1])
    return int(failed)


if __name__ == "__main__":
    sys.exit(run(main))
