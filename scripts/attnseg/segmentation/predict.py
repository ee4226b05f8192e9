"""Predict with a trained segmentor: test-time augmentation, CRF, VOC submission."""

import io
import itertools
import multiprocessing
import os
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from attnseg.io.batches import Batches
from attnseg.io.files import write_atomically
from attnseg.segmentation.components import resized
from attnseg.segmentation.crf import crf_labels
from attnseg.settings import Crf

if TYPE_CHECKING:
    from attnseg.segmentation.components import Segmentor

# consecutive photos of one size pass the network together: so many, of so many pixels in all
TOGETHER, PIXELS = 8, 2**20


@torch.inference_mode()
def probabilities(
    model: "Segmentor",
    photos: np.ndarray,
    scales: Sequence[float],
    flip: bool,
    passes: Batches | None = None,
) -> np.ndarray:
    """Mean softmax over scales and, with `flip`, mirrored photos: [B, C, H, W] float32.

    photos: [B, H, W, 3] uint8 RGB.
    """
    passes = passes or Batches(2 * len(photos), "photo")
    preprocessor = model.data_preprocessor
    device = preprocessor.mean.device
    pixels = torch.tensor(photos, device=device).permute(0, 3, 1, 2).float()
    pixels = (pixels - preprocessor.mean) / preprocessor.std  # [B, 3, H, W]
    own = photos.shape[1:3]
    total = torch.zeros((), device=device)
    for scale in scales:
        size = [max(1, round(side * scale)) for side in resized(own, model.short_side)]
        inputs = F.interpolate(pixels, size, mode="bilinear")
        if flip:
            inputs = torch.cat([inputs, inputs.flip(3)])
        logits = torch.cat([result for _, result in passes.over(inputs, model.logits)])
        scores = F.interpolate(logits, own, mode="bilinear").softmax(1)
        if flip:
            plain, mirrored = scores.chunk(2)
            scores = (plain + mirrored.flip(3)) / 2
        total = total + scores
    return (total / len(scales)).cpu().numpy()


def same_size(
    photos: Iterable[tuple[str, np.ndarray]],
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Batch consecutive (id, photo) of one size as (ids, [B, H, W, 3]), in order."""
    for (height, width, _), run in itertools.groupby(photos, key=lambda item: item[1].shape):
        most = min(TOGETHER, max(1, PIXELS // (height * width)))
        while part := list(itertools.islice(run, most)):
            yield [image_id for image_id, _ in part], np.stack([photo for _, photo in part])


def predictions(
    model: "Segmentor",
    photos: Iterable[tuple[str, np.ndarray]],
    *,
    scales: Sequence[float],
    flip: bool,
    crf: Crf | None = None,
    processes: int = 1,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (id, classes [H, W] uint8) for (id, photo [H, W, 3] uint8 RGB), in order.

    Photos of one size are batched. The CRF's processes work while the network predicts the next ones.
    """
    passes = Batches(2 * TOGETHER, "photo")
    scored = (
        (image_id, photo, scores)
        for ids, group in same_size(photos)
        for image_id, photo, scores in zip(
            ids, group, probabilities(model, group, scales, flip, passes), strict=True
        )
    )
    if crf is None:
        for image_id, _, scores in scored:
            yield image_id, scores.argmax(0).astype(np.uint8)
        return
    waiting: deque[tuple[str, Future]] = deque()
    with _pool(processes) as pool:
        for image_id, photo, scores in scored:
            waiting.append((image_id, pool.submit(crf_labels, photo, scores, crf)))
            while len(waiting) > 4 * processes or (waiting and waiting[0][1].done()):
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def _pool(processes: int) -> Executor:
    # spawn: forking a process in which torch has threads or a GPU may hang
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


class Submission:
    """An archive in the format of VOC's evaluation server."""

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

    def __exit__(self, *raised: Any) -> None:
        self._archive.close()
        self._writing.__exit__(*raised)
