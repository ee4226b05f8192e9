"""Intersection over union, from per-image counts.

Counts add up over images, so any subset can be scored later from per_image.npz. Pixels whose ground
truth is `ignore` are left out.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnseg.errors import UserError
from attnseg.results.measured import read_counts, read_measured, write_measured


def counts(
    prediction: np.ndarray, truth: np.ndarray, classes: int, ignore: int = 255
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, false positives and false negatives per class, [C] int64 each.

    prediction: [H, W] integers in [0, classes); truth: [H, W] integers in [0, classes) or `ignore`.

    Raises:
        ValueError: for other shapes or values; a prediction must not contain `ignore`.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"shapes differ: prediction {prediction.shape}, truth {truth.shape}")
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if not np.issubdtype(mask.dtype, np.integer):
            raise ValueError(f"the {name} holds {mask.dtype}, not integers")
    valid = truth != ignore
    for name, values in (("prediction", prediction), ("truth", truth[valid])):
        if values.size and (values.min() < 0 or values.max() >= classes):
            strange = np.unique(values[(values < 0) | (values >= classes)])
            raise ValueError(f"the {name} holds {strange[:5].tolist()}, outside 0 to {classes - 1}")
    pairs = truth[valid].astype(np.int64) * classes + prediction[valid]
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    tp = np.diagonal(confusion).astype(np.int64)
    return tp, confusion.sum(axis=0) - tp, confusion.sum(axis=1) - tp


def iou(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """IoU per class in per cent, [C] float64; nan for a class neither present nor predicted."""
    union = np.asarray(tp + fp + fn, np.float64)
    return np.divide(100.0 * tp, union, out=np.full(union.shape, np.nan), where=union > 0)


def class_iou(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """IoU per class over all images in per cent, [N, C] -> [C]; counts are summed before dividing."""
    return iou(tp.sum(axis=0), fp.sum(axis=0), fn.sum(axis=0))


def miou(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> float:
    """Mean IoU over all images in per cent, over the classes present or predicted; from [N, C]."""
    present = class_iou(tp, fp, fn)
    present = present[~np.isnan(present)]
    return float(present.mean()) if present.size else float("nan")


def pixel_accuracy(tp: np.ndarray, fn: np.ndarray) -> float:
    """Percentage of labelled pixels that are predicted correctly, from [N, C]."""
    pixels = int(tp.sum() + fn.sum())
    return 100.0 * int(tp.sum()) / pixels if pixels else float("nan")


def _or_null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def write_metrics(
    folder: str | os.PathLike,
    ids: Sequence[str],
    tp: np.ndarray,
    fp: np.ndarray,
    fn: np.ndarray,
    *,
    dataset: str,
    split: str,
    classes: Sequence[str],
    model: str | None = None,
    seed: int | None = None,
    parameters: dict | None = None,
    **more: object,
) -> dict:
    """Write per_image.npz (ids [N]; tp, fp, fn [N, C] int64), then metrics.json, each atomically.

    classes: C names, the background first. more: further entries. Returns the content of
    metrics.json: values in per cent, null for a class neither present nor predicted.

    Raises:
        UserError: if the ground truth has no class but the background, which any blank mask would match.
    """
    shape = (len(ids), len(classes))
    arrays: dict[str, Any] = {
        name: np.asarray(a, np.int64) for name, a in (("tp", tp), ("fp", fp), ("fn", fn))
    }
    for name, array in arrays.items():
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, not {shape}")
    tp, fp, fn = arrays.values()
    if classes[0] == "background" and not (tp + fn)[:, 1:].any():
        raise UserError(
            f"{dataset} {split}: no pixel of the ground truth has a class but the background; check its masks"
        )
    metrics = {
        "dataset": dataset,
        "split": split,
        "n_images": len(ids),
        "classes": list(classes),
        "iou": [_or_null(value) for value in class_iou(tp, fp, fn)],
        "miou": _or_null(miou(tp, fp, fn)),
        "pixel_accuracy": _or_null(pixel_accuracy(tp, fn)),
        "model": model,
        "seed": seed,
        "parameters": parameters or {},
        **more,
    }
    arrays = {"ids": np.asarray(list(ids), dtype=str)} | arrays
    write_measured(folder, "per_image.npz", arrays, metrics)
    return metrics


def read_metrics(folder: str | os.PathLike) -> tuple[dict, dict[str, np.ndarray]]:
    """Read metrics.json and per_image.npz ({ids, tp, fp, fn}) of an evaluation."""
    folder = Path(folder)
    metrics = read_measured(folder / "metrics.json")
    return metrics, read_counts(folder, "per_image.npz")
