#!/usr/bin/env python3
"""Train the mini scale's backbone: a narrow ResNet that classifies scenes with one thing.

It is a stand-in for the ImageNet-pretrained ResNet from which segmentors start at the paper scale. No
masks are used.
"""

import sys
import time

from attnseg.app import flags
from attnseg.errors import UserError, run


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, "--seed --device", output="weights (.safetensors)")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--width", type=int, default=32, help="channels of the first stage")
    parser.add_argument("--scenes", type=int, default=5000)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    flags.add(parser, "--processes", help="that draw scenes")
    args = parser.parse_args(argv)
    for name in ("scenes", "iterations", "batch"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: give at least 1")
    if args.scenes < args.batch:
        raise UserError(f"--scenes {args.scenes}: give at least one batch of {args.batch}")
    from attnseg.io.gpu import claim_device
    from attnseg.mini.world.classification import CLASSES, named_scenes
    from attnseg.segmentation.pretraining import train_classifier
    from attnseg.settings import read_segmentor

    settings = read_segmentor(
        {
            "architecture": "deeplabv3plus",
            "loss_scales": [1.0],
            "backbone": args.backbone,
            "width": args.width,
            "stem": "small",
            "output_stride": 16,
            "rates": [1, 1, 1, 1],
            "batch": args.batch,
            "iterations": args.iterations,
            "lr": args.lr,
            "precision": args.precision,
            "seed": args.seed,
        },
        "the command line",
    )
    started = time.monotonic()
    images, labels = named_scenes(args.seed, args.scenes, args.processes)
    print(
        f"{args.scenes} scenes of {len(CLASSES)} classes in {time.monotonic() - started:.0f} s",
        flush=True,
    )
    device = claim_device(args.device)
    accuracy = train_classifier(settings, images, labels, len(CLASSES), args.output, device)
    print(
        f"accuracy over the last tenth of the training: {100 * accuracy:.1f} %; "
        f"{time.monotonic() - started:.0f} s -> {args.output}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
