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
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attnseg.app.folders import make_masks, pictures, read, write_entry
from attnseg.core.sizes import enlarged_labels, reduced
from attnseg.errors import UserError
from attnseg.io.files import sha256

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="a photo (JPEG, PNG, ...), a folder of photos, or a pattern such as 'holiday/*.jpg'",
    )
    parser.add_argument(
        "--segmentor", type=Path, required=True, help=".onnx file of `attnseg export`"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the masks")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="make masks again that another segmentor has made in this folder",
    )
    parser.add_argument(
        "--exif",
        choices=("turn", "ignore"),
        default="turn",
        help="turn photos upright by their EXIF orientation, or read them as they are stored",
    )


def main(args: argparse.Namespace) -> int:
    if args.output.suffix.lower() == ".png":
        raise UserError(f"--output {args.output}: name a folder; leave out the .png")
    session, names = opened(args.segmentor)
    first = 0 if names[0] == "background" else 1  # the number of the first logit
    numbers = {n: name for n, name in enumerate(names, first) if n}
    found, problems = pictures(args.photos, args.output)
    classes = list(numbers.values())
    made_with = {"segmentor": sha256(args.segmentor), "exif": args.exif, "classes": classes}

    def make(todo: dict[str, Path]) -> Iterator[tuple[str, dict]]:
        for image_id, image in read(todo, args.exif == "turn"):
            if isinstance(image, str):
                yield image_id, {"problem": image}
                continue
            small = reduced(image)
            logits = logits_of(session, small)
            labels = first + enlarged_labels(logits, image.shape[:2])
            shown = first + logits.argmax(0).astype(np.uint8)
            yield image_id, write_entry(args.output, image_id, small, shown, labels, numbers)

    labels = dict.fromkeys(found, classes)
    return make_masks(args.output, made_with, found, labels, problems, args.overwrite, make)


def opened(path: Path) -> tuple["InferenceSession", list[str]]:
    """(the segmentor, its classes, one a logit) of a file of `attnseg export`."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            "`attnseg predict` needs the package onnxruntime: pip install onnxruntime"
        ) from None
    if not path.is_file():
        raise UserError(f"--segmentor {path}: no such file; make it with `attnseg export`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.log_severity_level = 3  # errors
    usual = ("CUDAExecutionProvider", "CPUExecutionProvider")
    there = [name for name in usual if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=there)
        return session, json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    except Exception:  # onnxruntime's errors have no common class
        raise UserError(
            f"--segmentor {path}: not a segmentor of `attnseg export --format onnx`; export it again"
        ) from None


def logits_of(session: "InferenceSession", photo: np.ndarray) -> np.ndarray:
    """Logits [C, H, W] float32 of a photo [H, W, 3] uint8."""
    return session.run(["logits"], {"photos": photo[None]})[0][0]
