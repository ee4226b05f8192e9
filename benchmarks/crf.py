#!/usr/bin/env python3
"""Time of the dense CRF of one photo, of several refinements of it, and of many photos by a pool.

    python benchmarks/crf.py                 # the tables
    python benchmarks/crf.py --write         # the same into docs/performance.md

The photo is of scikit-learn (china.jpg), at 500 x 375 pixels, with the kernels of Text2Mask's code. Its
scores are of blobs with noise. In "all likely" each label is likely somewhere; in "few likely" all but
three are, at most, a hundred-thousandth likely in each pixel. In each of several rounds, one after the other:

- pydensecrf: the inference of all labels;
- ours: `crf_probabilities`, which leaves out labels that are nowhere likely;
- five refinements: of five backgrounds, each alone, and with the photo's lattices kept from one to the next;
- a pool: the scores of photos in shards, refined as `evaluate_segmentor.py` does, by one and by two processes.

Time of one process is its CPU time, with one thread, since other programs may load the machine. A pool's
is that of all its processes, and beside it the time on the wall, which such programs lengthen. Medians of
rounds, least to most in brackets. Memory is the peak of one process of each kind, less that before.
"""

import argparse
import csv
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "scripts"), str(REPOSITORY / "benchmarks")]

from recording import PAGE, processor, write_block  # noqa: E402

from attnseg.core import crf  # noqa: E402
from attnseg.errors import UserError, run  # noqa: E402
from attnseg.settings import Crf, TestJob  # noqa: E402

SIZE = (375, 500)
LABELS = (2, 3, 21, 81)
LIKELY = 3  # labels of "few likely"
REFINEMENTS = 5


def photo() -> np.ndarray:
    """[375, 500, 3] uint8 RGB."""
    from sklearn.datasets import load_sample_image

    return cv2.resize(load_sample_image("china.jpg"), SIZE[::-1], interpolation=cv2.INTER_AREA)


def scores_of(labels: int, likely: int, seed: int = 0) -> np.ndarray:
    """Probabilities [L, H, W] float32: smooth at a sixteenth of the size, of the first `likely` labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (labels, SIZE[0] // 16, SIZE[1] // 16)).astype(np.float32)
    grown = np.stack([cv2.resize(one, SIZE[::-1]) for one in logits])
    scores = np.exp(grown - grown[:likely].max(0))
    scores[likely:] = 0
    scores /= scores.sum(0)
    scores[likely:] = 1e-5
    return scores


def seconds_of(job: Callable[[], object]) -> float:
    """CPU seconds of a job."""
    started = time.process_time()
    job()
    return time.process_time() - started


def rounds_of(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each job in each round, after one that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(-1, rounds):
        for name in list(jobs)[:: 1 if turn % 2 else -1]:  # neither is always after the same
            seconds = seconds_of(jobs[name])
            if turn >= 0:
                found[name].append(seconds)
                print(f"round {turn}, {name}: {seconds:.2f} s", file=sys.stderr)
    return found


def told(values: list[float], digits: int = 2) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def peak_of(job: Callable[[], object]) -> float:
    """MiB that a job adds to the peak of a process of its own."""

    def measure(pipe: object) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        job()
        pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)  # type: ignore[attr-defined]

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=measure, args=(there,))
    process.start()
    grown = here.recv() / 1024
    process.join()
    return grown


def one_photo(rounds: int) -> list[dict]:
    """A row for each number of labels, all or few of them likely."""
    image, rows = photo(), []
    for labels in LABELS:
        for likely in sorted({min(LIKELY, labels), labels}):
            scores = scores_of(labels, likely)
            jobs = {
                "pydensecrf": lambda scores=scores: crf.inferred(image, scores, Crf()),
                "ours": lambda scores=scores: crf.crf_probabilities(image, scores, Crf()),
            }
            found = rounds_of(jobs, rounds)
            plain, short = (job().argmax(0) for job in jobs.values())
            rows.append(
                {
                    "labels": labels,
                    "likely": likely,
                    **{f"{name}, s": told(seconds) for name, seconds in found.items()},
                    "quotient": told([a / b for a, b in zip(*found.values(), strict=True)]),
                    "pixels changed, %": f"{100 * (plain != short).mean():.4f}",
                    **{f"{name}, MiB": f"{peak_of(job):.0f}" for name, job in jobs.items()},
                }
            )
    return rows


def refinements(rounds: int) -> list[dict]:
    """A row for each number of labels: several refinements of a photo, each alone and with lattices kept."""
    image, rows = photo(), []
    for labels in (3, 21):
        many = [scores_of(labels, labels, seed) for seed in range(REFINEMENTS)]

        def alone(many: list = many) -> None:
            for scores in many:
                crf.crf_probabilities(image, scores, Crf())

        def kept(many: list = many) -> None:
            lattices: dict = {}
            for scores in many:
                crf.crf_probabilities(image, scores, Crf(), lattices=lattices)

        found = rounds_of({"each alone": alone, "lattices kept": kept}, rounds)
        rows.append(
            {
                "labels": labels,
                **{f"{name}, s": told(seconds) for name, seconds in found.items()},
                "quotient": told([a / b for a, b in zip(*found.values(), strict=True)]),
            }
        )
    return rows


def pools(rounds: int, photos: int) -> list[dict]:
    """A row for each number of processes: photos of 21 labels, of which three are likely."""
    import torch
    from PIL import Image

    from attnseg.io.shards import manifest_path, write_shard
    from attnseg.segmentation.predict import labelled, read_manifests

    found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder, "photo.png")
        Image.fromarray(photo()).save(at)
        shard, tensors, items = Path(folder, "shard-00000.safetensors"), {}, []
        for number in range(photos):
            logits = np.random.default_rng(number).normal(0, 2, (LIKELY, 47, 63))
            tensors[str(number)] = torch.tensor(logits).half()
            items.append({"id": str(number), "size": SIZE, "classes": list(range(LIKELY))})
        write_shard(shard, tensors, items, {}, precision="float32")
        assert manifest_path(shard).is_file()
        ((_, manifest),) = read_manifests([shard])
        jobs = [(shard, item, at) for item in manifest["items"]]
        for turn in range(-1, rounds):
            for processes in list(found)[:: 1 if turn % 2 else -1]:
                test, before, started = TestJob(crf=Crf()), cpu_seconds(), time.perf_counter()
                for _ in labelled(jobs, test, processes):
                    pass
                wall, cpu = time.perf_counter() - started, cpu_seconds() - before
                if turn >= 0:
                    found[processes].append((wall, cpu))
                    print(f"{processes} processes: {wall:.1f} s, {cpu:.1f} CPU", file=sys.stderr)
    return [
        {
            "processes": processes,
            "wall, s": told([wall for wall, _ in values], 1),
            "CPU, s": told([cpu for _, cpu in values], 1),
            "cores used": told([cpu / wall for wall, cpu in values]),
            "wall, quotient of one": told(
                [one / wall for (one, _), (wall, _) in zip(found[1], values, strict=True)]
            ),
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
    parser.add_argument("--csv", type=Path, help="a folder for <table>.csv each")
    parser.add_argument("--write", action="store_true", help=f"put it into {PAGE.name}")
    args = parser.parse_args(argv)
    if min(args.rounds, args.photos) < 1:
        raise UserError("--rounds and --photos: 1 or more")
    about = f"{processor()}, one thread a process, medians of {args.rounds} interleaved rounds."
    for name, rows in (
        ("photo", one_photo(args.rounds)),
        ("refinements", refinements(args.rounds)),
        ("pool", pools(args.rounds, args.photos)),
    ):
        text = f"{about}\n\n{table(rows)}"
        print(f"{name}: {text}", flush=True)
        if args.csv:
            args.csv.mkdir(parents=True, exist_ok=True)
            with open(args.csv / f"{name}.csv", "w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        if args.write:
            write_block(f"crf {name}", text)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
