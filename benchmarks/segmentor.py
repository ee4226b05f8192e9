#!/usr/bin/env python3
"""Time and memory of a segmentor's training iteration and of its prediction of a photo, by number format.

    python benchmarks/segmentor.py --size mini --write
    python benchmarks/segmentor.py --size paper --batch 1 --rounds 3 --write

One after the other, in each of several rounds (`side_by_side.py` says how), of noise and random labels:

- training: an iteration with the optimizer's step, without reading photos, of --batch crops;
- prediction: `merged_logits` of one photo at the scales of its evaluation, without the CRF (`crf.py`);

each in float32 and in bfloat16 (autocast; emulated, and slow, where the processor does not compute it), with
weights in channels-last, as they are, and contiguous. `--size mini` has the mini scale's DeepLabV2 and one network of its
DeepLabv3+ (BECO trains two), `paper` the paper's DeepLabV2 of ResNet-101 at 321 x 321 pixels and photos of
500 x 375; with random weights, one thread unless told otherwise. A bound is by the rates of the number format.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from side_by_side import (
    REPOSITORY,
    Measured,
    costs,
    in_words,
    keep,
    machine,
    measured,
    positive,
    program,
    publish,
    rates_of,
    table,
    told,
)

from attnseg.config.reading import read_config
from attnseg.config.resolved import resolve_segmentor
from attnseg.errors import run
from attnseg.io.precision import computes_bfloat16
from attnseg.segmentation.data import Pairs
from attnseg.segmentation.model import build_model
from attnseg.segmentation.predict import merged_logits
from attnseg.segmentation.train import runner_options
from attnseg.settings import Segmentor, TestJob, read_segmentor

from mmengine.logging import MMLogger  # isort: skip  after attnseg, which imports it in its own way
from mmengine.optim import build_optim_wrapper  # isort: skip
from mmengine.structures import PixelData  # isort: skip
from mmseg.structures import SegDataSample  # isort: skip

CLASSES = ["background", *map(str, range(1, 21))]
NAMES = {
    "mini": {"DeepLabV2": "deeplabv2_voc", "DeepLabv3+": "beco_voc"},
    "paper": {"DeepLabV2": "deeplabv2_voc"},
}
PHOTO = {"mini": (96, 96), "paper": (375, 500)}
LAYOUTS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}


def main(argv: list[str] | None = None) -> int:
    parser = program(__doc__, network=True)
    parser.add_argument("--size", choices=list(NAMES), default="mini")
    parser.add_argument("--batch", type=positive, help="crops (default: the configuration's)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    MMLogger.get_instance("mmengine", log_level="ERROR")  # else it tells of each weight
    jobs = jobs_of(args.size, args.batch, device)
    found = measured(jobs, args.rounds, device, args.size)
    rates = {name: rates_of(device, getattr(torch, name)) for name in ("float32", "bfloat16")}
    bounds = {name: max(rates["bfloat16" if "bfloat16" in name else "float32"]) for name in found}
    native = "native" if computes_bfloat16(device) else "emulated"
    name = f"segmentor {args.size} {args.device}"
    publish(
        args,
        name,
        f"Random weights: {machine(device)}; float32: {in_words(rates['float32'])}; bfloat16, {native}: "
        f"{in_words(rates['bfloat16'])}; medians of {args.rounds} interleaved rounds.\n\n"
        f"{costs(found, bounds)}\n{table(quotients(found))}",
    )
    keep(args, {name: found})
    return 0


def jobs_of(size: str, batch: int | None, device: torch.device) -> dict[str, Callable[[], object]]:
    files = [REPOSITORY / "config/config.yaml"]
    config = read_config(*files, *([REPOSITORY / "config/mini.yaml"] if size == "mini" else []))
    jobs: dict[str, Callable[[], object]] = {}
    for title, name in NAMES[size].items():
        values = resolve_segmentor(config, name)
        settings = read_segmentor(values).but(learner="supervised")
        settings = settings.but(batch=batch or settings.batch, accumulate=1)
        test = TestJob(scales=values["test"]["scales"], crf=None)
        scales = " ".join(map(str, test.scales))
        for precision in ("float32", "bfloat16"):
            for layout in LAYOUTS:
                one = settings.but(precision=precision)
                about = f"{precision}, {layout}"
                label = f"{title}, training, {one.batch} crops, {about}"
                jobs[label] = training(one, layout, device)
                label = f"{title}, prediction, scales {scales}, {about}"
                jobs[label] = prediction(one, layout, device, test, PHOTO[size])
    return jobs


def network(settings: Segmentor, layout: str, device: torch.device) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build_model(settings, len(CLASSES))
    model.init_weights()
    return model.to(device, memory_format=LAYOUTS[layout])


def training(settings: Segmentor, layout: str, device: torch.device) -> Callable[[], object]:
    """An iteration: its losses."""
    model = network(settings, layout, device).train()
    nothing = Pairs((), (), ())
    options = runner_options(settings, nothing, CLASSES, Path("unused"), device.type, None)
    wrapper = build_optim_wrapper(model, options["optim_wrapper"])
    shape = (settings.batch, settings.crop, settings.crop)
    photos = torch.randint(0, 256, (settings.batch, 3, *shape[1:]), dtype=torch.uint8)
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=labels[None]))
        for labels in torch.randint(0, len(CLASSES), shape)
    ]
    data = {"inputs": list(photos), "data_samples": samples}

    @torch.enable_grad()
    def iteration() -> object:
        return model.train_step(data, wrapper)

    return iteration


def prediction(
    settings: Segmentor, layout: str, device: torch.device, test: TestJob, size: tuple[int, int]
) -> Callable[[], object]:
    """The merged logits of one photo."""
    model = network(settings, layout, device).eval()
    photo = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    return lambda: merged_logits(model, photo, test)


def quotients(found: dict[str, Measured]) -> list[dict]:
    """How many times as fast bfloat16 is as float32, and channels-last as contiguous."""
    rows = []
    for name, one in found.items():
        if not name.endswith("bfloat16, channels-last"):
            continue
        what = name.removesuffix(", bfloat16, channels-last")
        float32 = found[f"{what}, float32, channels-last"]
        rows.append(
            {
                "": what,
                "bfloat16, times as fast as float32": told(float32.shares(one)),
                "channels-last, times as fast as contiguous": told(
                    found[f"{what}, float32, contiguous"].shares(float32)
                ),
                "the same in bfloat16": told(found[f"{what}, bfloat16, contiguous"].shares(one)),
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(run(main))
