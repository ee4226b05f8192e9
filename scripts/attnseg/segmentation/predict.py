"""Predictions of a trained segmentor: probabilities over scales and mirrors, CRF, files."""

import io
import multiprocessing
import os
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from attnseg.batches import Batches
from attnseg.files import write_atomically
from attnseg.segmentation.crf import crf_labels
from attnseg.settings import Crf


@torch.inference_mode()
def probabilities(
    model: nn.Module,
    photo: np.ndarray,
    scales: Sequence[float],
    flip: bool,
    passes: Batches | None = None,
) -> np.ndarray:
    """Mean softmax over the scales and, with `flip`, the mirrored photo.

    photo: HWC uint8 RGB -> [C, H, W] float32.
    """
    passes = passes or Batches(2, "photo")
    preprocessor = model.data_preprocessor
    device = preprocessor.mean.device
    pixels = torch.from_numpy(photo.copy()).to(device).permute(2, 0, 1).float()
    pixels = ((pixels - preprocessor.mean) / preprocessor.std)[None]  # [1, 3, H, W]
    total = 0
    for scale in scales:
        size = [max(1, round(side * scale)) for side in photo.shape[:2]]
        inputs = F.interpolate(pixels, size, mode="bilinear")
        if flip:
            inputs = torch.cat([inputs, inputs.flip(3)])

        def scored(rows: torch.Tensor) -> torch.Tensor:
            logits = F.interpolate(model.logits(rows), photo.shape[:2], mode="bilinear")
            return logits.softmax(1)

        scores = torch.cat([result for _, result in passes.over(inputs, scored)])
        if flip:
            scores = torch.stack([scores[0], scores[1].flip(2)])
        total = total + scores.mean(0)
    return (total / len(scales)).cpu().numpy()


def predictions(
    model: nn.Module,
    photos: Iterable[tuple[str, np.ndarray]],
    *,
    scales: Sequence[float],
    flip: bool,
    crf: Crf | None = None,
    processes: int = 1,
) -> Iterator[tuple[str, np.ndarray]]:
    """(id, HW uint8 classes) of (id, HWC uint8 RGB) photos, in their order.

    The CRF's processes work while the network sees the next photos.
    """
    passes = Batches(2, "photo")
    if crf is None:
        for image_id, photo in photos:
            scores = probabilities(model, photo, scales, flip, passes)
            yield image_id, scores.argmax(0).astype(np.uint8)
        return
    waiting: deque[tuple[str, Future]] = deque()
    with _pool(processes) as pool:
        for image_id, photo in photos:
            scores = probabilities(model, photo, scales, flip, passes)
            waiting.append((image_id, pool.submit(crf_labels, photo, scores, crf)))
            while len(waiting) > 4 * processes or (waiting and waiting[0][1].done()):
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def _pool(processes: int) -> Executor:
    # spawn: a fork of a process whose torch has threads or a GPU may hang
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


class Submission:
    """An archive in the form that VOC's evaluation server takes."""

    folder = "results/VOC2012/Segmentation/comp6_test_cls"

    def __init__(self, path: Path, palette: np.ndarray):
        self.palette = palette
        self._writing = write_atomically(path)
        self._partial = self._writing.__enter__()
        self._archive = tarfile.open(self._partial, "w:gz")  # noqa: SIM115

    def add(self, image_id: str, mask: np.ndarray) -> None:
        buffer = io.BytesIO()
        image = Image.fromarray(mask)
        image.putpalette(self.palette.tobytes())
        image.save(buffer, "PNG")
        entry = tarfile.TarInfo(f"{self.folder}/{image_id}.png")
        entry.size = buffer.tell()
        buffer.seek(0)
        self._archive.addfile(entry, buffer)

    def __enter__(self) -> "Submission":
        return self

    def __exit__(self, *raised: object) -> None:
        self._archive.close()
        self._writing.__exit__(*raised)
