#!/usr/bin/env python3
"""Time and memory of generating images with their attention, beside diffusers' own pipeline.

    python benchmarks/generation.py --size mini
    python benchmarks/generation.py --size sd14 --width 40 --write

One after the other, in each of several rounds (`side_by_side.py` says how), with the same networks, sampler,
steps, guidance and batch:

- stock: diffusers' StableDiffusionPipeline, from texts to images;
- captured: `generate`, from texts to images and the classes' maps, of all blocks at one step.

`--size sd14` has Stable Diffusion 1.4's configuration with random weights, --width / 320 as wide. One thread,
in float32, unless told otherwise.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from side_by_side import (
    costs,
    in_words,
    keep,
    machine,
    measured,
    model_of,
    positive,
    program,
    publish,
    rates_of,
    told,
    verdict,
)

from attnseg.attn2mask.generate import ddpm_scheduler, generate
from attnseg.attn2mask.prompt_sets import Prompt
from attnseg.backbones import load_backbone
from attnseg.backbones.stable_diffusion import stable_diffusion
from attnseg.errors import UserError, run
from attnseg.settings import Generation

TEXT = "a photo of a dog on the grass"
GUIDANCE = 7.5


def main(argv: list[str] | None = None) -> int:
    parser = program(__doc__, network=True)
    parser.add_argument("--size", choices=("mini", "sd14"), default="mini")
    parser.add_argument("--width", type=int, default=320, help="of sd14 (default: its own, 320)")
    parser.add_argument("--pixels", type=int, help="side of the images (default: the model's)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=positive, default=2, help="images at a time")
    args = parser.parse_args(argv)
    if args.steps < 2:
        raise UserError("--steps: must be 2 or more")
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = model_of(args.size, Path(folder), "--width", str(args.width))
        backbone = stable_diffusion(load_backbone(model, device=args.device, dtype=args.dtype))
    side = args.pixels or backbone.size[0]
    pipeline = backbone.pipeline(ddpm_scheduler(backbone.scheduler, args.steps))
    pipeline.set_progress_bar_config(disable=True)
    start = TEXT.index("dog")
    prompts = [
        Prompt(str(seed), TEXT, ["dog"], [[[start, start + 3]]], seed) for seed in range(args.batch)
    ]
    sampling = Generation(
        steps=args.steps, attention_step=args.steps // 2, guidance=GUIDANCE, size=side
    )

    def stock() -> list:
        generators = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
        return pipeline(
            [TEXT] * len(prompts), num_inference_steps=args.steps, guidance_scale=GUIDANCE,
            height=side, width=side, generator=generators, output_type="np",
        ).images  # fmt: skip

    def captured() -> list:
        return list(generate(backbone, prompts, sampling, len(prompts)))

    jobs = {"stock": stock, "captured": captured}
    found = measured(jobs, args.rounds, backbone.device, args.size)
    (ours,) = captured() if args.size == "mini" else ([],)
    if ours:  # the same images, or something else was measured
        difference = np.abs(stock() * 255 - np.stack([one.image for one in ours])).mean()
        print(f"mean difference of the images in grey levels: {difference:.3f}", file=sys.stderr)
    shares = found["captured"].shares(found["stock"])
    rates = rates_of(backbone.device, backbone.dtype)
    wide = f", {args.width} / 320 as wide" if args.size == "sd14" else ""
    width = f" {args.width}" if args.size == "sd14" else ""
    name = f"generation {args.size}{width} {args.device}"
    publish(
        args,
        name,
        f"{side}x{side} pixels{wide}, {args.dtype}, {args.batch} images at a time, {args.steps} steps: "
        f"{machine(backbone.device)}, {in_words(rates)}, medians of {args.rounds} interleaved rounds.\n\n"
        f"{costs(found, dict.fromkeys(found, max(rates)))}\n"
        f"Captured in stock's: {told(shares, '.3f')}; at most 1.03 was aimed at: {verdict(statistics.median(shares), 'at most', 1.03)}.\n",
    )
    keep(args, {name: found})
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
