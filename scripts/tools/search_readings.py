#!/usr/bin/env python3
"""Search the block, timestep and reading of a miniature MM-DiT, on mini dev alone.

    python scripts/tools/search_readings.py --model assets/mini_mmdit --output assets/mini_mmdit/trials.csv

A trial is a timestep, blocks and a reading; its mean IoU, without a CRF and with one noise, is as it is read or
propagated twice by the self-attention of a block. Every trial is a line of the CSV; the best ones of each
reading are printed.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from attnseg.backbones import load_backbone  # noqa: E402
from attnseg.backbones.concepts import concepts_of  # noqa: E402
from attnseg.backbones.stable_diffusion_3 import StableDiffusion3  # noqa: E402
from attnseg.errors import UserError, run  # noqa: E402
from attnseg.io.files import write_atomically  # noqa: E402
from attnseg.mini.evaluation import Dev  # noqa: E402
from attnseg.text2mask.attention import attention_maps  # noqa: E402

COLUMNS = ("trial", "reading", "timestep", "cross_blocks", "self_block", "miou")


@torch.no_grad()
def trials(
    backbone: StableDiffusion3, timesteps: list[int], seed: int, device: str
) -> list[dict[str, Any]]:
    """Lines of the CSV: each block, each two neighbours and all, as they are and propagated by the last of
    them; of each reading the best of both kinds then by every block."""
    dev = Dev(backbone, seed, device)
    lines: list[dict[str, Any]] = []
    count = len(backbone.transformer.transformer_blocks)
    concepts = concepts_of(backbone, dev.queries)
    groups = [[i] for i in range(count)] + [[i, i + 1] for i in range(count - 1)]
    groups.append(list(range(count)))

    def add(reading: str, timestep: int, blocks: list[int], own: int | None) -> None:
        noisy, t, text = inputs
        maps = attention_maps(
            backbone, noisy, t, text, dev.positions, cross_blocks=blocks, self_block=own,
            concepts=concepts if reading == "output" else None,
        )  # fmt: skip
        lines.append(
            {
                "trial": len(lines),
                "reading": reading,
                "timestep": timestep,
                "cross_blocks": " ".join(map(str, blocks)),
                "self_block": "" if own is None else own,
                "miou": dev.miou(
                    [m.selfcross for m in maps]
                ),  # without a block for it Cross itself
            }
        )

    for timestep in timesteps:
        inputs = dev.inputs(timestep)
        for reading in ("attention", "output"):
            for blocks in groups:
                add(reading, timestep, blocks, None)
                add(reading, timestep, blocks, blocks[-1])
    for reading in ("attention", "output"):
        found = [(best["timestep"], best["cross_blocks"]) for best in best_of(lines, reading)]
        for timestep, blocks in dict.fromkeys(found):
            inputs = dev.inputs(timestep)
            for own in range(count):
                add(reading, timestep, list(map(int, blocks.split())), own)
    return lines


def best_of(lines: list[dict[str, Any]], reading: str) -> list[dict[str, Any]]:
    """The best trial of a reading as it is, and the best one propagated."""
    of = [line for line in lines if line["reading"] == reading]
    return [
        max((x for x in of if (x["self_block"] != "") == propagated), key=lambda x: x["miou"])
        for propagated in (False, True)
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of the MM-DiT")
    parser.add_argument("--output", type=Path, required=True, help="CSV of the trials")
    parser.add_argument("--timesteps", type=int, nargs="+", default=[100, 200, 300, 400, 500, 600])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args(argv)
    backbone = load_backbone(args.model, device=args.device)
    if not isinstance(backbone, StableDiffusion3):
        raise UserError(f"{args.model}: a Stable Diffusion 3 is needed; give the miniature MM-DiT")
    lines = trials(backbone, args.timesteps, args.seed, args.device)
    with write_atomically(args.output) as partial, open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**line, "miou": f"{line['miou']:.2f}"} for line in lines)
    for reading in ("attention", "output"):
        for best in best_of(lines, reading):
            print("  ".join(f"{key} {value}" for key, value in best.items()))
    print(f"{args.output}: {len(lines)} trials")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
