#!/usr/bin/env python3
"""Train a segmentor (DeepLabV2 or DeepLabv3+) on a folder of masks.

Masks are palette PNG files, <id>.png; pixels of 255 are ignored. To resume an interrupted training
from its last checkpoint, run the same command again.

With the setting learner=beco two networks are trained jointly (BECO): on the masks where these are
reliable, elsewhere on each other's predictions. --reliability is a folder of reliability maps, grey
PNG files, <id>.png, 0 where unreliable; by default a mask is reliable where it is not 255. The weights
of both networks are in one file.

With --gpus each batch is split among several GPUs.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from attnseg.app import flags
from attnseg.errors import Ended, UserError, run
from attnseg.io.digests import check_files
from attnseg.segmentation.data import listed_pairs, split_pairs
from attnseg.settings import Segmentor, read_segmentor
from attnseg.settings.cli import given_values


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = flags.program(
        __doc__, "--dataset --device", output="weights to write (.safetensors)", settings=Segmentor
    )
    flags.add(parser, "--root", required=False)
    parser.add_argument(
        "--train-images",
        type=Path,
        help="folder of the photos that the manifest of --train-masks names, in place of a split",
    )
    parser.add_argument(
        "--train-masks",
        type=Path,
        help="folder of the masks (default: the data set's ground truth)",
    )
    parser.add_argument(
        "--reliability",
        type=Path,
        help="folder of the masks' reliability maps, for learner=beco (default: where a mask is not 255)",
    )
    parser.add_argument("--train-split", help="split to train on, such as trainaug")
    parser.add_argument(
        "--val-split", help="split whose mIoU, single scale, is printed during the training"
    )
    parser.add_argument(
        "--gpus",
        type=int,
        default=1,
        help="GPUs that share each batch, a process each; with --device cpu, processes (default: 1)",
    )
    args = parser.parse_args(argv)
    if args.train_images and not args.train_masks:
        raise UserError("--train-images needs --train-masks: the folder of refine_synthetic")
    if not args.train_images and not (args.root and args.train_split):
        raise UserError("nothing to train on: give --root and --train-split, or --train-images")
    if args.val_split and not args.root:
        raise UserError("--val-split needs --root: the folder of the data set")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    # not at the top: importing it takes seconds, also for --help and wrong arguments
    from attnseg.io.gpu import claim_device, pick_device
    from attnseg.io.precision import number_format

    settings = read_segmentor(given_values(args))
    if args.reliability and settings.learner != "beco":
        raise UserError("--reliability: only learner=beco uses it; set that, or leave it out")
    masks = (args.train_masks, args.reliability)
    if args.train_images:
        classes, pairs = listed_pairs(args.dataset, args.train_images, *masks)
    else:
        classes, pairs = split_pairs(args.dataset, args.root, args.train_split, *masks)
    theirs = args.dataset.masks == f"{args.train_masks}/{{id}}.png"  # finished, edited perhaps
    if args.train_masks and not theirs and "LOCAL_RANK" not in os.environ:
        names = [f"{image_id}.png" for image_id in pairs.ids]
        if args.reliability == args.train_masks / "reliability":
            names += [f"reliability/{name}" for name in names]
        check_files(args.train_masks, names)
    pairs.check("make the masks first" if args.train_masks else "check the data set")
    validation = None
    if args.val_split:
        _, validation = split_pairs(args.dataset, args.root, args.val_split)
        validation.check("check the data set")
    images = settings.images_per_update
    if args.gpus < 1 or images % args.gpus:
        raise UserError(f"--gpus {args.gpus}: a batch of {images} cannot be shared evenly")
    started_here = "LOCAL_RANK" not in os.environ  # torchrun sets it
    if started_here:
        pairs.check_masks(classes, threads=settings.workers)
        device = claim_device(args.device, args.gpus)
        if args.gpus > 1:
            return torchrun(args.gpus, sys.argv[1:] if argv is None else argv)
    else:
        device = pick_device(args.device)
    about = {
        "dataset": args.dataset.name,
        "precision": number_format(settings.precision, device),
        "train": {
            "split": args.train_split,
            "images": len(pairs.ids),
            "masks": str(args.train_masks or "truth"),
            **({"reliability": str(args.reliability)} if args.reliability else {}),
            "fingerprint": pairs.fingerprint(),
        },
    }
    from attnseg.segmentation.train import train

    train(
        settings,
        pairs,
        classes,
        args.output,
        device=device.type,
        validation=validation,
        about=about,
    )
    if os.environ.get("RANK", "0") == "0":
        print(
            f"{settings.name}, {settings.iterations} iterations on {len(pairs.ids)} images: "
            f"{args.output}"
        )
    return 0


def torchrun(processes: int, argv: list[str]) -> int:
    """Run the same command in several processes, on the GPUs that this one has reserved."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(processes), __file__, *argv),
    ]
    with subprocess.Popen(command) as started:
        try:
            return started.wait()
        except Ended:
            started.terminate()  # it passes this on, and is waited for
            raise


if __name__ == "__main__":
    sys.exit(run(main))
