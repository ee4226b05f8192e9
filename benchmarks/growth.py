#!/usr/bin/env python3
"""How the extraction's time and memory grow with scenes and shards, of the miniature.

    python benchmarks/growth.py --write --plot docs/growth.svg

Scenes of the mini world are drawn, extracted and written in shards of equal size, as jobs do, each case in a
process of its own: the CPU time without loading the model, and the peak memory with it. A line is fitted
to the medians of the cases of one shard; the most scenes are measured in each number of shards.
"""

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from side_by_side import (
    BLUE,
    PAGE,
    REPOSITORY,
    VERMILION,
    Measured,
    interleaved,
    machine,
    positive,
    program,
    publish,
    table,
    told,
    write_csv,
)

from attnseg.backbones import load_backbone
from attnseg.backbones.interface import Backbone
from attnseg.config.reading import read_config
from attnseg.errors import UserError, run
from attnseg.io.files import write_atomically
from attnseg.io.shards import write_shard
from attnseg.mini.world.splits import voc_scene
from attnseg.text2mask.extract import Sample, extract
from attnseg.text2mask.options import Options

Case = tuple[int, int]  # scenes, shards


def main(argv: list[str] | None = None) -> int:
    parser = program(__doc__, rounds=3)
    parser.add_argument("--scenes", nargs="+", type=positive, default=[100, 400, 1000])
    parser.add_argument("--shards", nargs="+", type=positive, default=[1, 4, 16])
    args = parser.parse_args(argv)
    if len(set(args.scenes)) < 2:
        raise UserError("--scenes: two numbers or more")
    torch.set_num_threads(1)
    settings = read_config(REPOSITORY / "config/config.yaml", REPOSITORY / "config/mini.yaml")
    blocks = {name: settings["model"][name] for name in ("cross_blocks", "self_block")}
    options = Options(noises=1, resize="none", batch_size=32, **blocks)
    backbone = load_backbone(REPOSITORY / "assets/mini_sd", device="cpu")
    most = max(args.scenes)
    cases = [(n, 1) for n in sorted(set(args.scenes))]
    cases += [(most, shards) for shards in sorted(set(args.shards)) if shards > 1]
    jobs = {one: lambda one=one: apart(backbone, options, *one) for one in cases}
    found = {
        one: Measured(seconds=[s for s, _ in values], peak=max(peak for _, peak in values))
        for one, values in interleaved(jobs, args.rounds, "scenes, shards").items()
    }
    rows = [
        {
            "scenes": scenes,
            "shards": shards,
            "CPU time, s": told(one.seconds, ".1f"),
            "of one shard's": told(one.shares(found[scenes, 1])),
            "peak memory, MiB": f"{one.peak:.0f}",
        }
        for (scenes, shards), one in found.items()
    ]
    (slope, start), (growth, _) = fitted(found)
    off = max(abs(found[n, 1].median - slope * n - start) for n, shards in cases if shards == 1)
    text = (
        f"One noise: {machine(backbone.device)}, medians of {args.rounds} interleaved rounds (least to "
        f"most).\n\n{table(rows)}\nOf one shard {1e3 * slope:.1f} ms a scene, from {start:.2f} s on (at most "
        f"{off:.2f} s off the line), and {1e3 * growth:.0f} MiB for 1,000 scenes more.\n"
    )
    if args.plot:
        with write_atomically(args.plot) as partial:
            draw(found, partial)
    if args.plot and args.write:
        text += f"\n![Time and memory by scenes]({os.path.relpath(args.plot, PAGE.parent)})\n"
    publish(args, "growth", text)
    if args.csv:
        write_csv(
            args.csv,
            [
                {"scenes": scenes, "shards": shards, "round": n, "seconds": seconds}
                | {"peak_mib": one.peak}
                for (scenes, shards), one in found.items()
                for n, seconds in enumerate(one.seconds)
            ],
        )
    return 0


def fitted(found: Mapping[Case, Measured]) -> tuple[np.ndarray, np.ndarray]:
    """The lines of time and of memory by the scenes of one shard: (slope, start) of each."""
    counts, times, peaks = zip(
        *((n, one.median, one.peak) for (n, shards), one in found.items() if shards == 1),
        strict=True,
    )
    return np.polyfit(counts, times, 1), np.polyfit(counts, peaks, 1)


def draw(found: Mapping[Case, Measured], path: Path) -> None:
    """Time and memory by scenes with the fitted lines, and by shards of the most scenes."""
    from matplotlib.figure import Figure

    most = max(scenes for scenes, _ in found)
    figure = Figure((8, 5), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    sides = (
        ("scenes, in one shard", {n: one for (n, shards), one in found.items() if shards == 1}),
        (f"shards, of {most} scenes", {n: one for (s, n), one in found.items() if s == most}),
    )
    for column, (label, ones) in zip(axes.T, sides, strict=True):
        for place, one in ones.items():
            column[0].plot([place] * len(one.seconds), one.seconds, ".", color=BLUE)
            column[1].plot(place, one.peak, ".", color=BLUE)
        column[1].set_xlabel(label)
    for axis, line in zip(axes[:, 0], fitted(found), strict=True):
        axis.plot([0, most], np.polyval(line, [0, most]), color=VERMILION)
    for axis in axes.flat:
        axis.set_ylim(bottom=0)  # after all that scales it
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("CPU time, s")
    axes[1, 0].set_ylabel("peak memory, MiB")
    figure.savefig(path)


def apart(backbone: Backbone, options: Options, scenes: int, shards: int) -> tuple[float, float]:
    """CPU seconds and peak MiB of a case, in a process of its own."""
    context = multiprocessing.get_context("fork")  # which spares it the imports and the model
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=case, args=(backbone, options, scenes, shards, theirs))
    worker.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise UserError(f"{scenes} scenes in {shards} shards: the process failed") from None
    finally:
        worker.join()


def case(
    backbone: Backbone, options: Options, scenes: int, shards: int, answer: Connection
) -> None:
    started, size = time.process_time(), -(-scenes // shards)
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, scenes, size):
            drawn = [voc_scene(0, "trainaug", n) for n in range(first, min(first + size, scenes))]
            samples = [
                Sample(f"{first + n}", scene.image, scene.classes())
                for n, scene in enumerate(drawn)
            ]
            tensors, items = extract(backbone, samples, options, options.batch_size)
            path = Path(folder) / f"shard-{first // size:05d}.safetensors"
            write_shard(path, tensors, items, options.identity())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    answer.send((time.process_time() - started, peak))


if __name__ == "__main__":
    sys.exit(run(main))
