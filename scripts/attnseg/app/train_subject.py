"""Teach Stable Diffusion a subject from a few photos of it (Custom Diffusion).

    attnseg train-subject --photos my_photos --class mug --output my_mug

Learns the embedding of a new word, <new1>, and the keys and values of the cross-attention, while
generated images of the class (or those of --regularisation) preserve what the class means. Several
subjects are learnt together where --photos, --class and --token are given several times. The
defaults are the paper's: about 6 minutes on two A100s.

Interrupted, the same command goes on from its last checkpoint and ends with the same weights. The
output folder is what `attnseg segment --personal` takes, and loads into a stock diffusers pipeline as
well: see attnseg.personalised.custom_diffusion.
"""

import argparse
from pathlib import Path

from attnseg.app import flags
from attnseg.app.options import count
from attnseg.settings import Model, SubjectTrainingJob
from attnseg.settings.cli import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, SubjectTrainingJob)
    parser.add_argument(
        "--photos", type=Path, action="append", default=[], help="folder of 5 to 10 photos"
    )
    parser.add_argument(
        "--class", dest="classes", action="append", default=[], help="its word, as mug"
    )
    parser.add_argument(
        "--token", action="append", help="the new word (default <new1>, <new2>, ...)"
    )
    flags.add(parser, "--output", help="folder for the weights")
    parser.add_argument(
        "--model", help=f"folder or hub id of a Stable Diffusion (default {Model().path})"
    )
    flags.add(parser, "--revision --device")
    parser.add_argument(
        "--regularisation",
        type=Path,
        action="append",
        help="folder of images of the class; missing ones are generated there "
        "(default: beside the output, regularisation/<class>)",
    )
    parser.add_argument(
        "--workdir", type=Path, help="for checkpoints (default: <output>.checkpoints)"
    )
    parser.add_argument("--threads", type=count, help="CPU threads (default: PyTorch's choice)")


def main(args: argparse.Namespace) -> int:
    from attnseg.app import subject  # imports torch: --help does not

    subject.teach(args, {args.output: subject.given(args)})
    return 0
