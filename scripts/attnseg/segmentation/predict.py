"""Predict with a trained segmentor: test-time augmentation, CRF, VOC submission."""

import io
import itertools
import multiprocessing
import os
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from attnseg.io.batches import Batches
from attnseg.io.files import write_atomically
from attnseg.segmentation.crf import crf_labels
from attnseg.settings import TestJob

if TYPE_CHECKING:
    from attnseg.segmentation.components import Segmentor

# consecutive photos of one size pass the network together: so many, of so many pixels in all
TOGETHER, PIXELS = 8, 2**20


@torch.inference_mode()
def merged_logits(
    model: "Segmentor", photos: np.ndarray, test: TestJob, passes: Batches | None = None
) -> torch.Tensor:
    """Logits of all scales and, with `test.flip`, of the mirrored photos as one: [B, C, h, w] float32.

    They are merged at the resolution of the largest scale's logits, as kazuto1011 and CLIMS do.
    photos: [B, H, W, 3] uint8 RGB.
    """
    passes = passes or Batches(2 * len(photos), "photo")
    preprocessor = model.data_preprocessor
    device = preprocessor.mean.device
    pixels = torch.tensor(photos, device=device).permute(0, 3, 1, 2).float()
    pixels = (pixels - preprocessor.mean) / preprocessor.std  # [B, 3, H, W]
    found: list[torch.Tensor] = []
    for scale in sorted(test.scales, reverse=True):
        size = [max(1, int(side * scale)) for side in photos.shape[1:3]]
        inputs = F.interpolate(pixels, size, mode="bilinear")
        if test.flip:
            inputs = torch.cat([inputs, inputs.flip(3)])
        logits = torch.cat([result for _, result in passes.over(inputs, model.logits)])
        if found:
            logits = F.interpolate(logits, found[0].shape[2:], mode="bilinear")
        plain, *mirrored = logits.split(len(photos))
        found += [plain, *(one.flip(3) for one in mirrored)]
    if test.merge == "maximum":
        return torch.stack(found).amax(0)
    return torch.stack([one.log_softmax(1) for one in found]).logsumexp(0)


def probabilities(
    model: "Segmentor", photos: np.ndarray, test: TestJob, passes: Batches | None = None
) -> np.ndarray:
    """Softmax of the merged logits at the photos' size: [B, C, H, W] float32."""
    logits = merged_logits(model, photos, test, passes)
    return F.interpolate(logits, photos.shape[1:3], mode="bilinear").softmax(1).cpu().numpy()


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
    test: TestJob,
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
            ids, group, probabilities(model, group, test, passes), strict=True
        )
    )
    if test.crf is None:
        for image_id, _, scores in scored:
            yield image_id, scores.argmax(0).astype(np.uint8)
        return
    waiting: deque[tuple[str, Future]] = deque()
    with _pool(processes) as pool:
        for image_id, photo, scores in scored:
            waiting.append(
                (image_id, pool.submit(crf_labels, photo, scores, test.crf, test.profile))
            )
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
