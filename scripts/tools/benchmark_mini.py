#!/usr/bin/env python3
"""Print scenes per second of extraction, CRF and segmentor training at mini scale, and peak memory.

    python scripts/tools/benchmark_mini.py

Each figure is the median of --repeats runs in one process, after a warm-up; loading is left out.
Needs resources/mini and assets/mini_sd (make mini makes the first; the second ships).
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from attnseg.backbones import load_backbone  # noqa: E402
from attnseg.config.reading import read_config  # noqa: E402
from attnseg.core.geometry import Fit  # noqa: E402
from attnseg.datasets import load  # noqa: E402
from attnseg.datasets.images import read_image  # noqa: E402
from attnseg.errors import run  # noqa: E402
from attnseg.jobs.settings import segmentor_job  # noqa: E402
from attnseg.settings import Bilateral, Crf, RefinementJob  # noqa: E402
from attnseg.text2mask.extract import Sample, extract  # noqa: E402
from attnseg.text2mask.options import Options  # noqa: E402
from attnseg.text2mask.refine import refine  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root", type=Path, default=REPOSITORY / "resources/mini/VOCdevkit/VOC2012"
    )
    parser.add_argument("--model", default=str(REPOSITORY / "assets/mini_sd"))
    parser.add_argument("--scenes", type=int, default=60, help="scenes a run")
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the median counts")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="of the CRF")
    args = parser.parse_args(argv)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    settings = read_config(REPOSITORY / "config/config.yaml", REPOSITORY / "config/mini.yaml")
    voc = load("voc")
    ids = voc.read_split(args.root, "train")[: args.scenes]
    samples = [
        Sample(i, read_image(voc.image_path(args.root, i)), voc.labels(args.root, i)) for i in ids
    ]
    backbone = load_backbone(args.model, device="cpu")
    for noises in (1, 10):
        options = Options(
            cross_blocks=settings["model"]["cross_blocks"],
            self_block=settings["model"]["self_block"],
            resize="none",
            noises=noises,
        )
        task = partial(extract, backbone, samples, options, settings["extraction"]["batch_size"])
        report(f"extraction, {noises} noise{'s' * (noises > 1)}", args, task)
    tensors, items = extract(backbone, samples, options)
    crf = RefinementJob(crf=Crf(bilateral=Bilateral(sxy=settings["crf"]["bilateral"]["sxy"])))
    jobs = [
        (sample.image, tensors[f"{sample.id}/selfcross"].float().numpy(), item, crf)
        for sample, item in zip(samples, items, strict=True)
        if sample.classes
    ]
    torch.set_num_threads(1)
    with get_context("fork").Pool(args.processes) as pool:
        report(f"CRF, {args.processes} processes", args, lambda: pool.map(refine_job, jobs))
    train(args, settings)
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"{'peak memory of a process':32s} {peak / 2**20:8.2f} GiB")
    return 0


def refine_job(job: tuple) -> None:
    image, maps, item, options = job
    refine(
        image, torch.from_numpy(maps), Fit(tuple(item["content"]), tuple(item["padded"])), options
    )


def report(name: str, args: argparse.Namespace, task: Callable[[], object]) -> None:
    """Run repeatedly and print the median rate."""
    task()
    seconds = []
    for _ in range(args.repeats):
        started = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - started)
    rates = sorted(args.scenes / s for s in seconds)
    print(
        f"{name:32s} {statistics.median(rates):8.1f} scenes/s  ({rates[0]:.1f} to {rates[-1]:.1f})"
    )


def train(args: argparse.Namespace, settings: dict) -> None:
    """Scenes per second of train_segmentor, from the difference between a short and a longer run."""
    segmentor = segmentor_job(settings, "deeplabv2_voc")
    config = json.dumps(segmentor.identity())
    seconds = {}
    for iterations in (5, 35):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            subprocess.run(
                [
                    sys.executable, str(REPOSITORY / "scripts/train_segmentor.py"), "--settings", config,
                    "--set", f"iterations={iterations}", "warmup=1", "--root", str(args.root),
                    "--train-split", "trainaug", "--device", "cpu",
                    "--output", f"{folder}/weights.safetensors",
                ],
                check=True, capture_output=True,
            )  # fmt: skip
            seconds[iterations] = time.perf_counter() - started
    rate = 30 * segmentor.images_per_update / (seconds[35] - seconds[5])
    print(f"{'segmentor training':32s} {rate:8.1f} scenes/s  (one run)")


if __name__ == "__main__":
    sys.exit(run(main))
