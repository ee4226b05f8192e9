#!/usr/bin/env python3
"""Time of the dense CRF of one photo, of several refinements of it, and of many photos by a pool.

    python benchmarks/crf.py                 # the tables
    python benchmarks/crf.py --write         # the same into docs/performance.md

The photo is scikit-learn's china.jpg at 500 x 375 pixels, with the kernels of Text2Mask's code. Of its
labels three, or both of two, are likely somewhere, in blobs with noise, the others nowhere: 1e-5. In each
of several rounds, one after the other:

- photo: `inferred`, which gives pydensecrf all labels, beside `crf_probabilities`, which leaves out those
  that are nowhere likely;
- refinements: five of the photo with three labels, each alone, and with its lattices kept for the next;
- pool: photos whose scores are in a shard, refined as `evaluate_segmentor.py` does, by one and by two processes,
  with their start; it imports torch here, for seconds, and not there, so that many photos show more.

Time is CPU time, since other programs may load the machine; of a pool it is that of all processes, beside
the time on the wall, which such programs lengthen. Memory is what a job adds to the peak of a process.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from side_by_side import (
    Jobs,
    Measured,
    interleaved,
    keep,
    machine,
    positive,
    program,
    publish,
    seconds_of,
    table,
    told,
)

from attnseg.core import crf
from attnseg.errors import run
from attnseg.io.shards import write_shard
from attnseg.segmentation.predict import labelled
from attnseg.settings import Crf, TestJob

CPU = torch.device("cpu")
SIZE = (375, 500)
LABELS = (2, 3, 21, 81)
LIKELY = 3
REFINEMENTS = 5
Found = dict[str, Measured]


def photo() -> np.ndarray:
    """[375, 500, 3] uint8 RGB."""
    from sklearn.datasets import load_sample_image

    return cv2.resize(load_sample_image("china.jpg"), SIZE[::-1], interpolation=cv2.INTER_AREA)


def scores_of(labels: int, seed: int = 0) -> np.ndarray:
    """Probabilities [L, 375, 500] float32, smooth at a sixteenth of the size."""
    likely = min(LIKELY, labels)
    logits = np.random.default_rng(seed).normal(0, 2, (likely, 23, 31)).astype(np.float32)
    scores = np.exp([cv2.resize(one, SIZE[::-1]) for one in logits])
    rest = np.full((labels - likely, *SIZE), 1e-5, np.float32)
    return np.concatenate([scores / scores.sum(0), rest])


def measured(jobs: Jobs, rounds: int, peaks: tuple[float, ...], title: str) -> Found:
    timed = {name: lambda job=job: seconds_of(job, CPU) for name, job in jobs.items()}
    found = interleaved(timed, rounds, title)
    return {name: Measured(found[name], peak) for name, peak in zip(jobs, peaks, strict=True)}


def warmed(job: Callable[[], object]) -> tuple[object, float]:
    """What a job returns, and the MiB that it adds to the peak of a process of its own."""

    def measure(there: Connection) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = job()
        there.send((result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=measure, args=(there,))
    process.start()
    there.close()
    result, grown = here.recv()
    process.join()
    return result, grown / 1024


def one_photo(rounds: int) -> tuple[list[dict], Found]:
    """A row for each number of labels."""
    image, rows, kept = photo(), [], {}
    for labels in LABELS:
        scores = scores_of(labels)
        jobs: Jobs = {
            f"pydensecrf, {labels} labels": lambda scores=scores: crf.inferred(
                image, scores, Crf()
            ).argmax(0),
            f"ours, {labels} labels": lambda scores=scores: crf.crf_probabilities(
                image, scores, Crf()
            ).argmax(0),
        }
        (plain, most), (own, least) = (warmed(job) for job in jobs.values())
        found = measured(jobs, rounds, (most, least), "photo")
        theirs, ours = found.values()
        kept |= found
        rows.append(
            {
                "labels": labels,
                "pydensecrf, s": told(theirs.seconds),
                "ours, s": told(ours.seconds),
                "times as fast": told(theirs.shares(ours)),
                "pixels changed": f"{100 * np.mean(plain != own):.3f} %",
                "memory, MiB": f"{most:.0f}, {least:.0f}",
            }
        )
    return rows, kept


def refinements(rounds: int) -> tuple[list[dict], Found]:
    """One row."""
    image, many = photo(), [scores_of(3, seed) for seed in range(REFINEMENTS)]

    def refined(lattices: Callable[[], dict | None]) -> None:
        for scores in many:
            crf.crf_probabilities(image, scores, Crf(), lattices=lattices())

    def together() -> None:
        one: dict = {}
        refined(lambda: one)

    jobs = {"each alone": lambda: refined(lambda: None), "lattices kept": together}
    found = measured(jobs, rounds, tuple(warmed(job)[1] for job in jobs.values()), "refinements")
    alone, kept = found.values()
    shown = {f"{name}, s": told(one.seconds) for name, one in found.items()}
    times = told(alone.shares(kept))
    return [{"refinements": REFINEMENTS, **shown, "times as fast": times}], found


def pools(rounds: int, photos: int) -> tuple[list[dict], Found]:
    """A row for each number of processes."""
    with tempfile.TemporaryDirectory() as folder:
        at, shard = Path(folder, "photo.png"), Path(folder, "shard-00000.safetensors")
        Image.fromarray(photo()).save(at)
        logits = {str(n): torch.randn(LIKELY, 47, 63).half() for n in range(photos)}
        items = [{"id": name, "size": SIZE, "classes": list(range(LIKELY))} for name in logits]
        write_shard(shard, logits, items, {}, precision="float32")

        def refined(processes: int) -> tuple[float, float]:
            """Seconds on the wall, and of CPUs."""
            before, started = cpu_seconds(), time.perf_counter()
            for _ in labelled([(shard, i, at) for i in items], TestJob(crf=Crf()), processes):
                pass
            return time.perf_counter() - started, cpu_seconds() - before

        jobs = {processes: lambda n=processes: refined(n) for processes in (1, 2)}
        found = interleaved(jobs, rounds, "pool, processes")
    walls = {count: [wall for wall, _ in seconds] for count, seconds in found.items()}
    rows = [
        {
            "processes": count,
            "wall, s": told(walls[count], ".1f"),
            "times as fast": told(a / b for a, b in zip(walls[1], walls[count], strict=True)),
            "CPU, s": told((cpu for _, cpu in seconds), ".1f"),
            "cores had": told(cpu / wall for wall, cpu in seconds),
        }
        for count, seconds in found.items()
    ]
    kept = {
        f"{count} processes, {kind}": Measured(list(values), float("nan"))
        for count, seconds in found.items()
        for kind, values in zip(("wall", "CPU"), zip(*seconds, strict=True), strict=True)
    }
    return rows, kept


def cpu_seconds() -> float:
    """Of this process and those that it waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, kinds))


def main(argv: list[str] | None = None) -> int:
    parser = program(__doc__)
    parser.add_argument("--photos", type=positive, default=40, help="that a pool refines")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    about = f"{machine(CPU)}, medians of {args.rounds} interleaved rounds (least to most)."
    jobs = {
        "crf photo": lambda: one_photo(args.rounds),
        "crf refinements": lambda: refinements(args.rounds),
        "crf pool": lambda: pools(args.rounds, args.photos),
    }
    kept = {}
    for name, job in jobs.items():
        rows, kept[name] = job()
        publish(args, name, f"{about[0].upper()}{about[1:]}\n\n{table(rows)}")
    keep(args, kept)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
