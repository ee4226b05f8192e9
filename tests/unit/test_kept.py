"""Attention that is kept gives, without a further pass, what extraction with other settings gives."""

import numpy as np
import pytest
import torch

from attnseg.core.maps import min_max
from attnseg.text2mask.extract import Sample, extract
from attnseg.text2mask.kept import look
from attnseg.text2mask.options import options_for


def photo(size=(48, 80), classes=("dog", "cat")) -> Sample:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return Sample("photo", pixels, list(classes))


@pytest.mark.parametrize("classes", [["dog", "cat"], [f"traffic light {i}" for i in range(30)]])
def test_maps_of_any_number_of_propagations_are_those_of_extraction(sharp_backbone, classes):
    sample = photo(classes=classes)
    kept = look(sharp_backbone, sample, options_for(sharp_backbone, noises=2))
    assert kept.passes == 2 * len(kept.sentences) and (len(classes) == 2) == (kept.passes == 2)
    for iterations in (0, 1, 2, 5):
        options = options_for(sharp_backbone, noises=2, iterations=iterations)
        tensors, _ = extract(sharp_backbone, [sample], options, batch_size=8)
        torch.testing.assert_close(
            kept.maps(iterations), tensors["photo/selfcross"].float(), rtol=0, atol=0
        )


def test_a_block_s_map_is_cross_of_that_block_alone(sharp_backbone):
    sample, blocks = photo(), [4, 6]
    kept = look(sharp_backbone, sample, options_for(sharp_backbone, blocks, noises=2)).blocks()
    for block, maps in zip(blocks, kept, strict=True):
        tensors, _ = extract(
            sharp_backbone, [sample], options_for(sharp_backbone, [block], noises=2)
        )
        torch.testing.assert_close(maps, tensors["photo/cross"].float(), rtol=0, atol=2e-3)


def test_a_pixel_s_row_is_that_of_the_matrix(sharp_backbone):
    """Self of a photo of 64x64 by its definition, from the queries and keys of a pass of our own."""
    sample, options = photo((64, 64)), options_for(sharp_backbone, noises=1)
    kept = look(sharp_backbone, sample, options)
    grid = kept.maps(0).shape[1:]
    (record,) = kept.sentences[0][1]
    rows = []
    for query, key in zip(*(part[0].numpy() for part in record.selves[0][:2]), strict=True):
        weights = np.exp(query @ key.T / np.sqrt(query.shape[1]))
        rows.append(weights / weights.sum(1, keepdims=True))
    matrix = np.mean(rows, 0)
    for y, x in ((0, 0), (63, 63), (17, 42)):
        cell = (y * grid[0] // 64) * grid[1] + x * grid[1] // 64
        row = kept.attended(y, x)
        assert np.allclose(row.numpy().ravel(), matrix[cell], atol=1e-6)
        assert row.sum().item() == pytest.approx(1, abs=1e-5)
    # Cross propagated by that matrix is the map of one propagation
    cross = record.crosses.mean(0).flatten(1).numpy()
    spread = torch.from_numpy(cross @ matrix.T).float().unflatten(1, grid)
    torch.testing.assert_close(kept.maps(1), min_max(spread), rtol=0, atol=2e-3)
