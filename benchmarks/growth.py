#!/usr/bin/env python3
"""How the extraction's time and memory grow with scenes and shards, of the miniature.

    python benchmarks/growth.py --write

Scenes of the mini world are drawn, extracted and written in shards of equal size, as jobs do, each case in a
process of its own: the CPU time without loading the model, and the peak memory with it. A line is fitted
to the cases of one shard, and the shards of the most scenes are set beside it.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from side_by_side import machine, write_block, write_csv  # noqa: E402

from attnseg.backbones import load_backbone  # noqa: E402
from attnseg.backbones.interface import Backbone  # noqa: E402
from attnseg.config.reading import read_config  # noqa: E402
from attnseg.errors import UserError, run  # noqa: E402
from attnseg.io.shards import write_shard  # noqa: E402
from attnseg.mini.world.splits import voc_scene  # noqa: E402
from attnseg.text2mask.extract import Sample, extract  # noqa: E402
from attnseg.text2mask.options import Options  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", nargs="+", type=int, default=[100, 400, 1000])
    parser.add_argument("--shards", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--write", action="store_true", help="put it into docs/performance.md")
    parser.add_argument("--csv", type=Path, help="write the figures into this file")
    args = parser.parse_args(argv)
    if len(set(args.scenes)) < 2 or min(args.scenes + args.shards) < 1:
        raise UserError("--scenes: two numbers or more; --shards: 1 or more")
    torch.set_num_threads(1)
    settings = read_config(REPOSITORY / "config/config.yaml", REPOSITORY / "config/mini.yaml")
    blocks = {name: settings["model"][name] for name in ("cross_blocks", "self_block")}
    options = Options(noises=1, resize="none", batch_size=32, **blocks)
    backbone = load_backbone(REPOSITORY / "assets/mini_sd", device="cpu")
    most = max(args.scenes)
    cases = [(n, 1) for n in sorted(set(args.scenes))]
    cases += [(most, shards) for shards in sorted(set(args.shards)) if shards > 1]
    rows = []
    for scenes, shards in cases:
        seconds, peak = apart(backbone, options, scenes, shards)
        rows.append({"scenes": scenes, "shards": shards, "seconds": seconds, "peak_mib": peak})
        print(rows[-1], file=sys.stderr, flush=True)
    single = [row for row in rows if row["shards"] == 1]
    counts, times, peaks = (
        np.array([row[name] for row in single]) for name in ("scenes", "seconds", "peak_mib")
    )
    (slope, start), (growth, _) = np.polyfit(counts, times, 1), np.polyfit(counts, peaks, 1)
    off = np.abs(times - slope * counts - start).max()
    lines = [
        f"One noise: {machine(backbone.device)}, one run each.",
        "",
        "| scenes | shards | CPU time | peak memory |",
        "|---|---|---|---|",
        *(
            f"| {row['scenes']} | {row['shards']} | {row['seconds']:.1f} s | {row['peak_mib']:.0f} MiB |"
            for row in rows
        ),
        "",
        f"Of one shard {1e3 * slope:.1f} ms a scene, from {start:.1f} s on (at most {off:.2f} s off the line), and "
        f"{1e3 * growth:.0f} MiB for 1,000 scenes more.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.write:
        write_block("growth", text)
    if args.csv:
        write_csv(args.csv, rows)
    return 0


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


def case(backbone: Backbone, options: Options, scenes: int, shards: int, answer: object) -> None:
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
