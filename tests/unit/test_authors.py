"""The extraction and its masks against the authors' algorithm written plainly (benchmarks/authors.py)."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from attnseg.settings import RefinementJob
from attnseg.text2mask.extract import Sample, queries_of, query_maps, views_of
from attnseg.text2mask.options import Options
from attnseg.text2mask.refine import refine

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from authors import authors_maps  # noqa: E402

SIZES = [(64, 64), (40, 96), (72, 50)]


def photo(size: tuple[int, int]) -> Sample:
    """Blocks of colour, so that regions differ."""
    rng = np.random.default_rng(sum(size))
    coarse = rng.integers(0, 256, (-(-size[0] // 16), -(-size[1] // 16), 3), np.uint8)
    image = np.repeat(np.repeat(coarse, 16, 0), 16, 1)[: size[0], : size[1]]
    return Sample(f"{size[0]}x{size[1]}", np.ascontiguousarray(image), ["dog", "cat", "bird"])


@pytest.mark.parametrize("profile", ["paper", "official"])
@pytest.mark.parametrize("noises", [1, 10])
def test_maps_and_masks_are_those_of_the_authors_algorithm(
    sharp_backbone, one_thread, profile, noises
):
    box = 0.2 if profile == "official" else None
    options = Options(resize="none", profile=profile, noises=noises, box_threshold=box)
    same = pixels = 0
    for size in SIZES:
        sample = photo(size)
        expected = authors_maps(sharp_backbone, sample.id, sample.image, sample.classes, options)
        (view,) = views_of(sharp_backbone, [sample], options)
        ((_, query),) = queries_of(sharp_backbone, sample.classes, options)
        (found,) = query_maps(sharp_backbone, [(view, query)], options)
        torch.testing.assert_close(found.kinds["selfcross"], expected, atol=1e-4, rtol=0)
        masks = [
            refine(sample.image, maps, view.fit, RefinementJob(crf=None, profile=profile))[0]
            for maps in (found.kinds["selfcross"], expected)
        ]
        assert len(np.unique(masks[1])) > 1
        same += int((masks[0] == masks[1]).sum())
        pixels += masks[0].size
    assert same >= 0.9999 * pixels
