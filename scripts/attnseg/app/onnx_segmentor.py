"""Photos to a folder of masks by a segmentor as ONNX: numpy, Pillow and onnxruntime, nothing else."""

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


def predict_all(args: argparse.Namespace) -> int:
    """`attnseg predict`; 1 if some photos could not be read, else 0."""
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
            if not np.isfinite(logits).all():
                raise UserError(
                    f"{image_id}: the scores are not finite: export the segmentor again"
                )
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
