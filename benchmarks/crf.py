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
- pool: photos whose scores are in a shard, refined as `evaluate_segmentor.py` does, by one and by two processes.

Time is CPU time, since other programs may load the machine; of a pool it is that of all processes, beside
the time on the wall, which such programs lengthen. Memory is what a job adds to the peak of a process.
"""

import argparse
import multiprocessing
import resource
import statistics
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from side_by_side import machine, seconds_of, spread, write_block, write_csv  # noqa: E402

from attnseg.core import crf  # noqa: E402
from attnseg.errors import UserError, run  # noqa: E402
from attnseg.io.shards import write_shard  # noqa: E402
from attnseg.segmentation.predict import labelled  # noqa: E402
from attnseg.settings import Crf, TestJob  # noqa: E402

CPU = torch.device("cpu")
SIZE = (375, 500)
LABELS = (2, 3, 21, 81)
LIKELY = 3
REFINEMENTS = 5
Jobs = dict[str, Callable[[], object]]


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


def rounds_of(jobs: Jobs, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each job in each round."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds):
        for name in list(jobs)[:: 1 if turn % 2 else -1]:  # neither is always after the same
            found[name].append(seconds_of(jobs[name], CPU))
            print(f"round {turn}, {name}: {found[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return found


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
    result, grown = here.recv()
    process.join()
    return result, grown / 1024


def told(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({spread(values, digits)})"


def quotients(above: list[float], below: list[float]) -> str:
    return told([a / b for a, b in zip(above, below, strict=True)])


def one_photo(rounds: int) -> list[dict]:
    """A row for each number of labels."""
    image, rows = photo(), []
    for labels in LABELS:
        scores = scores_of(labels)
        jobs: Jobs = {
            "pydensecrf": lambda scores=scores: crf.inferred(image, scores, Crf()).argmax(0),
            "ours": lambda scores=scores: crf.crf_probabilities(image, scores, Crf()).argmax(0),
        }
        (plain, most), (ours, least) = (warmed(job) for job in jobs.values())
        found = rounds_of(jobs, rounds)
        rows.append(
            {
                "labels": labels,
                **{f"{name}, s": told(seconds) for name, seconds in found.items()},
                "times as fast": quotients(*found.values()),
                "pixels changed": f"{100 * np.mean(plain != ours):.3f} %",
                "memory, MiB": f"{most:.0f}, {least:.0f}",
            }
        )
    return rows


def refinements(rounds: int) -> list[dict]:
    """One row."""
    image, many = photo(), [scores_of(3, seed) for seed in range(REFINEMENTS)]

    def refined(lattices: Callable[[], dict | None]) -> None:
        for scores in many:
            crf.crf_probabilities(image, scores, Crf(), lattices=lattices())

    def kept() -> None:
        one: dict = {}
        refined(lambda: one)

    found = rounds_of({"each alone": lambda: refined(lambda: None), "lattices kept": kept}, rounds)
    shown = {f"{name}, s": told(seconds) for name, seconds in found.items()}
    return [{"refinements": REFINEMENTS, **shown, "times as fast": quotients(*found.values())}]


def pools(rounds: int, photos: int) -> list[dict]:
    """A row for each number of processes."""
    found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        at, shard = Path(folder, "photo.png"), Path(folder, "shard-00000.safetensors")
        Image.fromarray(photo()).save(at)
        logits = {str(n): torch.randn(LIKELY, 47, 63).half() for n in range(photos)}
        items = [{"id": name, "size": SIZE, "classes": list(range(LIKELY))} for name in logits]
        write_shard(shard, logits, items, {}, precision="float32")
        for turn in range(rounds):
            for processes in list(found)[:: 1 if turn % 2 else -1]:
                before, started = cpu_seconds(), time.perf_counter()
                for _ in labelled([(shard, i, at) for i in items], TestJob(crf=Crf()), processes):
                    pass
                wall, cpu = time.perf_counter() - started, cpu_seconds() - before
                found[processes].append((wall, cpu))
                print(f"{processes}: {wall:.1f} s, {cpu:.1f} s CPU", file=sys.stderr, flush=True)
    alone = [wall for wall, _ in found[1]]
    return [
        {
            "processes": processes,
            "wall, s": told([wall for wall, _ in values], 1),
            "times as fast": quotients(alone, [wall for wall, _ in values]),
            "CPU, s": told([cpu for _, cpu in values], 1),
            "cores had": told([cpu / wall for wall, cpu in values]),
        }
        for processes, values in found.items()
    ]


def cpu_seconds() -> float:
    """Of this process and those that it waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, kinds))


def table(rows: list[dict]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=40, help="that a pool refines")
    parser.add_argument("--csv", type=Path, help="a folder for a <table>.csv each")
    parser.add_argument("--write", action="store_true", help="put it into docs/performance.md")
    args = parser.parse_args(argv)
    if min(args.rounds, args.photos) < 1:
        raise UserError("--rounds and --photos must be 1 or more")
    torch.set_num_threads(1)
    about = f"{machine(CPU)}, medians of {args.rounds} interleaved rounds (least to most)."
    jobs = {
        "photo": lambda: one_photo(args.rounds),
        "refinements": lambda: refinements(args.rounds),
        "pool": lambda: pools(args.rounds, args.photos),
    }
    for name, job in jobs.items():
        rows = job()
        text = f"{about[0].upper()}{about[1:]}\n\n{table(rows)}"
        print(f"{name}: {text}", flush=True)
        if args.csv:
            args.csv.mkdir(parents=True, exist_ok=True)
            write_csv(args.csv / f"{name}.csv", rows)
        if args.write:
            write_block(f"crf {name}", text)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
