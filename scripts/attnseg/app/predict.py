"""Predict with a segmentor of your own, as ONNX: needs numpy, Pillow and onnxruntime alone.

    attnseg export work/segmentors/pets/weights.safetensors --format onnx --output pets.onnx
    attnseg predict holiday/ more/*.jpg --segmentor pets.onnx --output masks/

Without the rest of the package's requirements: pip install numpy pillow onnxruntime, and scripts/ of a
clone on PYTHONPATH (python -m attnseg predict ...).

A mask is a palette PNG: 0 is the background, 1, 2, ... the segmentor's classes. The folder is as that of
`attnseg segment`: <photo>.png each, overlays/<photo>.jpg, index.html to look through them, and
manifest.json. The same command resumes an interrupted run. The segmentor sees a photo once, at its
size; masks of photos of more than 2 million pixels are made at that size and enlarged.
"""

import argparse
from pathlib import Path

from attnseg.app.options import add_photos
from attnseg.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_photos(parser)
    parser.add_argument(
        "--segmentor", type=Path, required=True, help=".onnx file of `attnseg export`"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the masks")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="make masks again that another segmentor has made in this folder",
    )


def main(args: argparse.Namespace) -> int:
    if args.output.suffix.lower() == ".png":
        raise UserError(f"--output {args.output}: name a folder; leave out the .png")

    from attnseg.app import onnx_segmentor  # imports numpy: after all that can be said at once

    return onnx_segmentor.predict_all(args)
