"""Scores, the CRF and the confident copy."""

import numpy as np
import pytest
import torch

from attnseg.core.crf import crf_probabilities
from attnseg.core.geometry import Fit
from attnseg.core.scores import with_background
from attnseg.settings import Bilateral, Crf, RefinementJob
from attnseg.text2mask.refine import refine, source_maps


def test_background_is_the_papers_square_and_the_officials_for_coco():
    maps = torch.tensor([[[0.2, 0.9]], [[0.5, 0.1]]])
    torch.testing.assert_close(with_background(maps)[0], torch.tensor([[0.25, 0.01]]))
    torch.testing.assert_close(with_background(maps, 0.7)[0], torch.tensor([[0.04, 0.04]]))
    assert with_background(maps).shape == (3, 1, 2)


def mean_field(image: np.ndarray, scores: np.ndarray, o: Crf) -> np.ndarray:
    """Dense mean field with both kernels as full matrices, normalised symmetrically."""
    labels, h, w = scores.shape
    y, x = np.mgrid[:h, :w]
    place = np.stack([x, y], -1).reshape(-1, 2).astype(float)
    colour = image.reshape(-1, 3).astype(float)

    def kernel(features: np.ndarray) -> np.ndarray:
        distance = ((features[:, None] - features[None]) ** 2).sum(-1)
        matrix = np.exp(-distance / 2)
        norm = 1 / np.sqrt(matrix.sum(1) + 1e-20)
        return norm[:, None] * matrix * norm[None]

    near = kernel(place / o.gaussian.sxy)
    alike = kernel(np.concatenate([place / o.bilateral.sxy, colour / o.bilateral.srgb], 1))
    unary = -np.log(np.clip(scores, 1e-5, None)).reshape(labels, -1)
    q = np.exp(-unary) / np.exp(-unary).sum(0)
    for _ in range(o.iterations):
        message = o.gaussian.compat * q @ near + o.bilateral.compat * q @ alike
        q = np.exp(-unary + message)
        q /= q.sum(0)
    return q.reshape(labels, h, w)


def test_crf_agrees_with_a_dense_mean_field():
    rng = np.random.default_rng(0)
    image = np.zeros((14, 14, 3), np.uint8)
    image[:, 7:] = (200, 60, 30)
    scores = 0.3 + 0.1 * rng.random((2, 14, 14))
    scores[0, :, :7] += 0.3
    scores[1, :, 7:] += 0.3
    options = Crf(bilateral=Bilateral(sxy=5, srgb=20), iterations=5)
    ours = crf_probabilities(image, scores, options)
    exact = mean_field(image, scores, options)
    assert (ours.argmax(0) == exact.argmax(0)).all()
    # pydensecrf filters on a permutohedral lattice, an approximation
    assert np.abs(ours - exact).mean() < 0.02
    np.testing.assert_allclose(ours.sum(0), 1, atol=1e-5)


def test_crf_moves_the_boundary_to_the_edge_in_the_image():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 255
    maps = torch.zeros(1, 40, 40)
    maps[:, :, 24:] = 0.9  # four columns late
    maps[:, :, 16:24] = 0.35
    fit = Fit((40, 40), (40, 40))
    plain, _ = refine(image, maps, fit, RefinementJob(crf=None))
    sharp, confidence = refine(
        image, maps, fit, RefinementJob(crf=Crf(bilateral=Bilateral(sxy=10)))
    )
    assert (plain[:, 20:24] == 0).all()
    assert (sharp[:, 20:] == 1).mean() > 0.95 and (sharp[:, :20] == 0).mean() > 0.95
    assert confidence.min() > 0 and confidence.max() <= 1 + 1e-6


def test_labels_at_the_grid_are_blocks():
    maps = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    image, fit = np.zeros((32, 32, 3), np.uint8), Fit((32, 32), (32, 32))
    labels, _ = refine(image, maps, fit, RefinementJob(profile="official", crf=None))
    expected = np.kron(with_background(maps).argmax(0).numpy(), np.ones((8, 8)))
    np.testing.assert_array_equal(labels, expected)


def test_upsampling_comes_before_the_arg_max():
    maps = torch.zeros(1, 2, 2)
    maps[0, :, 1] = 1
    image, fit = np.zeros((8, 8, 3), np.uint8), Fit((8, 8), (8, 8))
    labels, _ = refine(image, maps, fit, RefinementJob(crf=None))
    # bilinear: 0, 0, 1/8, 3/8, 5/8, 7/8, 1, 1; the class wins where m > (1 - m)^2, m > 0.382
    np.testing.assert_array_equal(labels[0], [0, 0, 0, 0, 1, 1, 1, 1])


def test_the_sum_of_two_sources_is_their_mean():
    kinds = {"cross": torch.rand(2, 3, 3), "selfcross": torch.rand(2, 3, 3)}
    expected = (kinds["cross"] + kinds["selfcross"]) / 2
    torch.testing.assert_close(source_maps(kinds, "cross+selfcross"), expected)
    with pytest.raises(KeyError):
        source_maps(kinds, "cbp")
