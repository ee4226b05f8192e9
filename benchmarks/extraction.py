#!/usr/bin/env python3
"""Time and memory of the extraction of a photo's attention, beside the authors' algorithm.

    python benchmarks/extraction.py --size mini
    python benchmarks/extraction.py --size sd14 --rounds 3 --write --csv extraction.csv

One after the other, in each of several rounds (`side_by_side.py` says how), of one photo of noise:

- plain pass: the U-Net conditioned on the text, which nothing watches;
- U-Net part: `attention_maps`, which stops after Self's block, with the class maps and their propagation;
- two noises: the same of two noises in one batch;
- VAE encoder: `encode_images`;
- photo: `extract`, from pixels to the maps of one noise;
- authors: the algorithm of the authors' code, written plainly (`authors.py`), from pixels to the same maps.

`--size sd14` has Stable Diffusion 1.4's configuration with random weights (4.3 GB on the disk, in a
temporary folder unless --model names one of scripts/tools/make_random_sd.py) and takes up to 10 GB of memory; `mini`
is the miniature. One thread, in float32, unless told otherwise.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from authors import authors_maps
from side_by_side import (
    REPOSITORY,
    Measured,
    costs,
    in_words,
    keep,
    machine,
    measured,
    model_of,
    program,
    publish,
    rates_of,
    table,
    told,
    verdict,
)

from attnseg.backbones import load_backbone
from attnseg.backbones.stable_diffusion import StableDiffusion, stable_diffusion
from attnseg.config.reading import read_config
from attnseg.core.geometry import model_input
from attnseg.errors import run
from attnseg.text2mask.attention import attention_maps
from attnseg.text2mask.extract import (
    Sample,
    extract,
    fit_of,
    queries_of,
    sample_noise,
    views_of,
)
from attnseg.text2mask.options import Options

CLASSES = ["dog", "sofa"]
LEAST = {"cpu": 6.5, "cuda": 3.5}
PIXELS = {"mini": 96, "sd14": 512}


def main(argv: list[str] | None = None) -> int:
    parser = program(__doc__, rounds=3, network=True)
    parser.add_argument("--size", choices=list(PIXELS), default="sd14")
    parser.add_argument(
        "--model", type=Path, help="folder of Stable Diffusion 1.4, for --size sd14"
    )
    parser.add_argument("--pixels", type=int, help="side of the photo (default: 96, or 512)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    side = args.pixels or PIXELS[args.size]
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or model_of(args.size, Path(folder))
        backbone = load_backbone(model, device=args.device, dtype=args.dtype)
        jobs = jobs_of(stable_diffusion(backbone), args.size, side)
        found = measured(jobs, args.rounds, backbone.device, args.size)
        rates = rates_of(backbone.device, backbone.dtype)
    name = f"extraction {args.size} {side} {args.device}"
    publish(
        args,
        name,
        f"{side}x{side} pixels, {args.dtype}: {machine(backbone.device)}, {in_words(rates)}, medians of "
        f"{args.rounds} interleaved rounds.\n\n{costs(found, dict.fromkeys(found, max(rates)))}\n"
        f"{table(targets(found, LEAST[args.device]))}",
    )
    keep(args, {name: found})
    return 0


def jobs_of(backbone: StableDiffusion, size: str, side: int) -> dict[str, Callable[[], object]]:
    """What is measured, in order; the warm-up of each job is the first thing that it does."""
    settings = read_config(REPOSITORY / "config/config.yaml", REPOSITORY / "config/mini.yaml")
    blocks = {name: settings["model"][name] for name in ("cross_blocks", "self_block")}
    options = Options(noises=1, resize="none", **(blocks if size == "mini" else {}))
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    sample = Sample("photo", image, CLASSES)
    pixels = model_input(image, fit_of(image, backbone, options))[None]
    (view,) = views_of(backbone, [sample], options)
    ((_, query),) = queries_of(backbone, CLASSES, options)
    text, positions = backbone.encode_text([query.text]), backbone.token_positions(query)
    noise = torch.stack([sample_noise(view.latents.shape, 0, "photo", n) for n in range(2)])
    noisy = backbone.add_noise(view.latents.expand_as(noise), noise, options.timestep)

    def part(count: int) -> Callable[[], object]:
        return lambda: attention_maps(
            backbone, noisy[:count], options.timestep, text[[0] * count], [positions] * count,
            cross_blocks=options.cross_blocks, self_block=options.self_block,
        )  # fmt: skip

    return {
        "plain pass": lambda: backbone.denoise(noisy[:1], options.timestep, text),
        "U-Net part": part(1),
        "two noises": part(2),
        "VAE encoder": lambda: backbone.encode_images(pixels),
        "photo": lambda: extract(backbone, [sample], options),
        "authors": lambda: authors_maps(backbone, "photo", image, CLASSES, options),
    }


def targets(found: dict[str, Measured], least: float) -> list[dict]:
    """What was aimed at, and what was measured; `least`: photos in the time of the authors' algorithm."""
    plain, part, photo, authors = (
        found[name] for name in ("plain pass", "U-Net part", "photo", "authors")
    )
    further = [
        (two - one) / one
        for two, one in zip(found["two noises"].seconds, part.seconds, strict=True)
    ]
    rows = [
        ("U-Net part, in plain passes", "at most", 0.65, part.shares(plain)),
        ("each further noise, in U-Net parts", "at most", 1.02, further),
        ("authors' algorithm, in photos", "at least", least, authors.shares(photo)),
        ("memory of a photo, in the authors'", "at most", 0.2, [photo.peak / authors.peak]),
    ]
    return [
        {
            "": name,
            "target": f"{bound} {target}",
            "measured (least to most)": told(values),
            "verdict": verdict(statistics.median(values), bound, target),
        }
        for name, bound, target, values in rows
    ]


if __name__ == "__main__":
    sys.exit(run(main))
