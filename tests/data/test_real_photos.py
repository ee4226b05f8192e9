"""Real VOC photos through readers, geometry, queries, a random model and the CRF."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnseg.backbones import load_backbone
from attnseg.core.geometry import Fit, model_input, official_fit, to_photo
from attnseg.datasets.images import read_image, read_mask
from attnseg.datasets.voc import DATASET as voc
from attnseg.settings import Crf, RefinementJob
from attnseg.text2mask.extract import Sample, extract
from attnseg.text2mask.options import Options
from attnseg.text2mask.refine import refine

pytestmark = pytest.mark.data


def ids_of(devkit: Path) -> list[str]:
    return voc.read_split(devkit, "train") + voc.read_split(devkit, "val")


def test_every_photo_reads_and_has_a_mask_of_its_size_with_known_classes(real_voc):
    assert len(ids_of(real_voc)) == 127
    for image_id in ids_of(real_voc):
        photo = read_image(voc.image_path(real_voc, image_id))
        mask = read_mask(voc.mask_path(real_voc, image_id), photo.shape[:2])
        assert photo.dtype == np.uint8 and photo.shape[2] == 3
        assert set(np.unique(mask)) <= {*range(21), 255}
        assert voc.labels(real_voc, image_id, "mask")


def test_sizes_to_the_pixel_and_back(real_voc):
    seen = set()
    for image_id in ids_of(real_voc):
        photo = read_image(voc.image_path(real_voc, image_id))
        if photo.shape in seen:
            continue
        seen.add(photo.shape)
        fit = official_fit(*photo.shape[:2])
        assert all(side % 64 == 0 for side in fit.padded)
        assert max(fit.content) == max(fit.padded)  # the long side needs no padding
        assert all(0 <= p - c < 64 for p, c in zip(fit.padded, fit.content, strict=True))
        ratio = photo.shape[0] / photo.shape[1]
        assert abs(fit.content[0] / fit.content[1] / ratio - 1) < 0.01
        pixels = model_input(photo, fit)
        assert pixels.shape == (3, *fit.padded)
        # the photo, through the model's input and a grid of every eighth cell, is where it was
        cells = torch.nn.functional.avg_pool2d(pixels[None], 8)[0]
        back = to_photo(cells, fit, photo.shape[:2]).permute(1, 2, 0).numpy()
        size = tuple(round(side / 8) for side in fit.content[::-1])
        small = Image.fromarray(photo).resize(size, Image.Resampling.BOX)
        smooth = small.resize(photo.shape[1::-1], Image.Resampling.BILINEAR)
        assert np.corrcoef(back.ravel(), np.asarray(smooth).ravel())[0, 1] > 0.98
    assert len(seen) > 5


def test_two_real_photos_to_masks(tiny_sd, real_voc):
    backbone = load_backbone(tiny_sd, device="cpu")
    chosen = [i for i in ids_of(real_voc) if len(voc.labels(real_voc, i, "mask")) > 1][:2]
    samples = [
        Sample(i, read_image(voc.image_path(real_voc, i)), voc.labels(real_voc, i, "mask"))
        for i in chosen
    ]
    # 64-pixel latents would take long in float32 with 16 blocks; the model's own size is 64 pixels
    tensors, items = extract(backbone, samples, Options(noises=1, resize="native"))
    for sample, item in zip(samples, items, strict=True):
        fit = Fit(tuple(item["content"]), tuple(item["padded"]))
        options = RefinementJob(crf=Crf(iterations=2))
        labels, confidence = refine(
            sample.image, tensors[f"{sample.id}/selfcross"].float(), fit, options
        )
        assert labels.shape == confidence.shape == sample.image.shape[:2]
        assert labels.max() <= len(sample.classes)
        assert np.isfinite(confidence).all() and (confidence > 0).all()
