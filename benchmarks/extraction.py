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

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from authors import authors_maps  # noqa: E402
from side_by_side import (  # noqa: E402
    Measured,
    machine,
    measured,
    rate_of,
    rounds_of,
    spread,
    write_block,
    write_csv,
)

from attnseg.backbones import load_backbone  # noqa: E402
from attnseg.backbones.stable_diffusion import StableDiffusion, stable_diffusion  # noqa: E402
from attnseg.config.reading import read_config  # noqa: E402
from attnseg.core.geometry import model_input  # noqa: E402
from attnseg.errors import UserError, run  # noqa: E402
from attnseg.text2mask.attention import attention_maps  # noqa: E402
from attnseg.text2mask.extract import Sample, extract, fit_of, queries_of, sample_noise, views_of  # noqa: E402
from attnseg.text2mask.options import Options  # noqa: E402

CLASSES = ["dog", "sofa"]
PIXELS = {"mini": 96, "sd14": 512}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=list(PIXELS), default="sd14")
    parser.add_argument(
        "--model", type=Path, help="folder of Stable Diffusion 1.4, for --size sd14"
    )
    parser.add_argument("--pixels", type=int, help="side of the photo (default: 96, or 512)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put it into docs/performance.md")
    parser.add_argument("--csv", type=Path, help="write the figures into this file")
    args = parser.parse_args(argv)
    if args.rounds < 1 or args.threads < 1:
        raise UserError("--rounds and --threads: must be 1 or more")
    torch.set_num_threads(args.threads)
    side = args.pixels or PIXELS[args.size]
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or made(args.size, Path(folder))
        backbone = load_backbone(model, device=args.device, dtype=args.dtype)
        jobs = jobs_of(stable_diffusion(backbone), args.size, side)
        found = measured(jobs, args.rounds, backbone.device, args.size)
        rates = rate_of(backbone.device, backbone.dtype)
    text = (
        f"{side}x{side} pixels, {args.dtype}: {machine(backbone.device)}, {rates[0] / 1e9:.0f} GFLOP/s in "
        f"products of matrices and {rates[1] / 1e9:.0f} in convolutions, medians of {args.rounds} "
        f"interleaved rounds.\n\n{table(found, max(rates))}\n{targets(found)}"
    )
    print(text)
    if args.write:
        write_block(f"extraction {args.size} {side} {args.device}", text)
    if args.csv:
        write_csv(args.csv, rounds_of(found))
    return 0


def made(size: str, folder: Path) -> Path:
    """The folder of a model."""
    if size == "mini":
        return REPOSITORY / "assets/mini_sd"
    make = REPOSITORY / "scripts/tools/make_random_sd.py"
    subprocess.run([sys.executable, str(make), "--output", str(folder / "sd")], check=True)
    return folder / "sd"


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


def table(found: dict[str, Measured], rate: float) -> str:
    lines = [
        "| | time (least to most) | TFLOP | bound | of the bound | memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        bound = one.flops / rate
        lines.append(
            f"| {name} | {one.median:.3g} s ({spread(one.seconds)}) | {one.flops / 1e12:.3g} "
            f"| {bound:.3g} s | {bound / one.median:.0%} | {one.peak:.0f} MiB |"
        )
    return "\n".join(lines) + "\n"


def targets(found: dict[str, Measured]) -> str:
    """What was aimed at, and what was measured."""
    plain, part, photo, authors = (
        found[name] for name in ("plain pass", "U-Net part", "photo", "authors")
    )
    further = [
        (two - one) / one
        for two, one in zip(found["two noises"].seconds, part.seconds, strict=True)
    ]
    rows = [
        ("U-Net part, in plain passes", "at most 0.65", part.shares(plain)),
        ("each further noise, in U-Net parts", "at most 1.02", further),
        ("authors' algorithm, in photos", "at least 6.5", authors.shares(photo)),
        ("memory of a photo, in the authors'", "at most 0.2", [photo.peak / authors.peak]),
    ]
    lines = ["| | target | measured (least to most) |", "|---|---|---|"]
    for name, target, values in rows:
        shown = f"{float(np.median(values)):.2f}"
        lines.append(
            f"| {name} | {target} | {shown}{f' ({spread(values)})' if len(values) > 1 else ''} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run(main))
