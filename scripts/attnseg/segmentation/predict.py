"""Predict with a trained segmentor: its scores, and from them labels and an archive for VOC's server.

Scores are stored small, in shards: the logarithms of the probabilities at the network's resolution, as
fp16, of the classes that reach LEAST somewhere in the photo.
"""

import functools
import io
import itertools
import json
import math
import os
import tarfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from attnseg.core.finite import check_finite
from attnseg.datasets.images import read_image
from attnseg.io.batches import Batches
from attnseg.io.files import sha256, write_atomically
from attnseg.io.gpu import claim_device
from attnseg.io.precision import number_format
from attnseg.io.processes import results
from attnseg.io.runs import forget_once
from attnseg.io.shards import is_complete, manifest_path, members, write_shard
from attnseg.segmentation.crf import refined_item
from attnseg.segmentation.data import Pairs
from attnseg.segmentation.loading import resized
from attnseg.settings import TestJob, read_segmentor
from attnseg.settings.segmentor import Test

if TYPE_CHECKING:
    from attnseg.segmentation.architecture import Segmentor

# consecutive photos of one size pass the network together: so many, of so many pixels in all
TOGETHER, PIXELS = 8, 2**20
SHARD = 100  # photos
LEAST = 0.01  # a class whose probability is smaller everywhere in a photo is not stored


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
    own = resized(photos.shape[1:3], model.short_side)
    found: list[torch.Tensor] = []
    for scale in sorted(test.scales, reverse=True):
        size = [max(1, int(side * scale)) for side in own]
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


def compact(logits: torch.Tensor) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Each photo's classes that reach LEAST, and the logarithms of their probabilities: [K, h, w] fp16.

    logits: [B, C, h, w].
    """
    for scores in logits.log_softmax(1):
        classes = (scores.amax((1, 2)) >= math.log(LEAST)).nonzero()[:, 0]
        yield classes.tolist(), scores[classes].half().cpu()


def write_scores(
    folder: Path,
    pairs: Pairs,
    weights: Path,
    test: TestJob,
    device: str,
    size: int = SHARD,
    anew: bool = True,
) -> list[Path]:
    """Write the compact scores of the photos, `size` in a shard, and return the shards.

    Complete shards of the same weights, photos and scales are kept. The device is claimed, and the
    network loaded, only if one is missing. `anew`: a run that was told to make them again does,
    other than in a job that uses another's scores.
    """
    from attnseg.segmentation.model import load_segmentor

    made_with = {
        "weights": sha256(weights),
        # the version of what the scores depend on: TestJob's is of the CRF, too
        "test": test.but(crf=None, profile="paper").record() | {"version": Test.version},
        "least": LEAST,
    }
    samples = list(zip(pairs.ids, pairs.photos, strict=True))
    shards = {}
    for number in range(math.ceil(len(samples) / size)):
        part = members(samples, number, size)
        photos = [[image_id, path.stat().st_size] for image_id, path in part]
        shards[folder / f"shard-{number:05d}.safetensors"] = part, made_with | {"photos": photos}
    if anew:
        forget_once(folder / ".forced", shards, folder)
    missing = {path: job for path, job in shards.items() if not is_complete(path, job[1])}
    if not missing:
        return list(shards)
    where = claim_device(device)
    model, about = load_segmentor(weights, where)
    precision = number_format(read_segmentor(about["settings"]).precision, where)
    passes = Batches(2 * TOGETHER, "photo")
    done = len(samples) - sum(len(part) for part, _ in missing.values())
    with tqdm(total=len(samples), initial=done, desc="predict", unit="photo", disable=None) as bar:
        for path, (part, parameters) in missing.items():
            tensors: dict[str, torch.Tensor] = {}
            items: list[dict] = []
            for ids, group in same_size((i, read_image(photo, pairs.turned)) for i, photo in part):
                logits = merged_logits(model, group, test, passes)
                check_finite("the scores are", ids, logits.dtype, logits)
                found = compact(logits)
                for image_id, (classes, scores) in zip(ids, found, strict=True):
                    tensors[image_id] = scores
                    items.append({"id": image_id, "size": group.shape[1:3], "classes": classes})
                bar.update(len(ids))
            write_shard(path, tensors, items, parameters, precision=precision)
    return list(shards)


def read_manifests(shards: Iterable[Path]) -> Iterator[tuple[Path, dict]]:
    """Each shard and its manifest."""
    for path in shards:
        yield path, json.loads(manifest_path(path).read_text())


def labelled(
    jobs: Iterable[tuple[Path, dict, Path]], test: TestJob, processes: int, turned: bool = False
) -> Generator[tuple[str, np.ndarray]]:
    """Yield (id, class numbers [H, W] uint8) for (shard, item, photo), in order.

    The processes read the scores themselves, so that no more waits than a few masks for each.
    """
    work = functools.partial(refined_item, test=test, turned=turned)
    if processes == 1:
        yield from map(work, jobs)
    else:
        yield from results(work, jobs, processes, "spawn")


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def write_submission(path: Path, masks: Mapping[str, Path]) -> None:
    """Write an archive for VOC's evaluation server, of palette PNG files by the photos' ids."""
    with write_atomically(path) as partial, tarfile.open(partial, "w:gz") as archive:
        for image_id, mask in masks.items():
            content = mask.read_bytes()
            entry = tarfile.TarInfo(f"results/VOC2012/Segmentation/comp6_test_cls/{image_id}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
