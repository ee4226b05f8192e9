"""Beta, thresholds, Otsu and reliability, against per-pixel loops and scikit-image."""

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu

from attnseg.attn2mask.labelling import dataset_labels, synthetic_mask
from attnseg.core.crf import crf_probabilities
from attnseg.core.reliability import crf_input, normalised, reliability, with_beta_background
from attnseg.core.threshold import otsu_labels, threshold_labels
from attnseg.errors import UserError
from attnseg.settings import LabellingJob, SimpleCrf, read_settings


@pytest.fixture
def maps() -> np.ndarray:
    return np.random.default_rng(0).random((3, 7, 9)).astype(np.float32)


def test_background_is_what_no_class_takes_less_beta(maps):
    scores = with_beta_background(torch.from_numpy(maps), beta=0.2).numpy()
    for y in range(7):
        for x in range(9):
            assert scores[0, y, x] == pytest.approx(1 - max(maps[:, y, x]) - 0.2, abs=1e-6)
            assert (scores[1:, y, x] == maps[:, y, x]).all()


def test_larger_beta_leaves_less_background(maps):
    shares = [
        float((with_beta_background(torch.from_numpy(maps), b).argmax(0) == 0).float().mean())
        for b in (0.0, 0.2, 0.4)
    ]
    assert shares[0] > shares[1] > shares[2]


def test_crf_input_is_clipped_as_in_simple_crf_and_not_normalised(maps):
    scores = with_beta_background(torch.from_numpy(maps), 0.9).numpy()
    assert scores.min() < 0 and scores.max() > 0.99
    given = crf_input(scores, 0.01)
    for y in range(7):
        for x in range(9):
            assert given[:, y, x] == pytest.approx(
                [min(max(s, 0.01), 0.99) for s in scores[:, y, x]]
            )


def test_without_its_kernels_the_crf_is_the_softmax_of_the_clipped_unary(maps):
    unweighted = {"gaussian": {"compat": 0.0}, "bilateral": {"compat": 0.0}}
    crf = read_settings(SimpleCrf, unweighted)
    scores = with_beta_background(torch.from_numpy(maps), 0.9).numpy()
    unary = -np.log(np.clip(scores, 0.01, 0.99))
    expected = np.exp(-unary) / np.exp(-unary).sum(0)
    found = crf_probabilities(np.zeros((7, 9, 3), np.uint8), crf_input(scores, crf.clip), crf)
    assert found == pytest.approx(expected, abs=1e-5)


def test_reliability_counts_the_background(maps):
    scores = with_beta_background(torch.from_numpy(maps * 0.6), 0.2).numpy()
    found = reliability(scores, 0.5)
    for y in range(7):
        for x in range(9):
            assert found[y, x] == (max(scores[:, y, x]) >= 0.5)
    assert 0 < found.mean() < 1
    assert reliability(np.array([[[0.5]], [[0.1]]]), 0.5).all()


def test_fixed_thresholds_are_of_255(maps):
    for theta in (64, 128):
        labels = threshold_labels(maps, theta)
        for y in range(7):
            for x in range(9):
                pixel = maps[:, y, x]
                expected = 1 + int(np.argmax(pixel)) if 255 * max(pixel) >= theta else 0
                assert labels[y, x] == expected


def test_otsu_is_scikit_images_threshold_on_the_largest_score():
    rng = np.random.default_rng(1)
    maps = rng.normal(0.15, 0.03, (2, 16, 16))
    maps[1, 4:12, 4:12] = rng.normal(0.8, 0.03, (8, 8))
    labels = otsu_labels(maps)
    threshold = threshold_otsu(maps.max(0))
    assert 0.1 < threshold < 0.8
    for y in range(16):
        for x in range(16):
            pixel = maps[:, y, x]
            assert labels[y, x] == (1 + int(np.argmax(pixel)) if max(pixel) > threshold else 0)
    assert (labels[4:12, 4:12] == 2).all()


def test_a_constant_map_has_no_foreground_under_otsu():
    assert not otsu_labels(np.full((2, 4, 4), 0.3)).any()


def test_normalisations():
    maps = torch.tensor([[[0.02, 0.04], [0.03, 0.06]], [[0.0, 0.0], [0.0, 0.0]]])
    low_high = normalised(maps, "minmax")
    torch.testing.assert_close(low_high[0], torch.tensor([[0.0, 0.5], [0.25, 1.0]]))
    torch.testing.assert_close(normalised(maps, "max")[0], maps[0] / 0.06)
    assert normalised(maps, "none") is maps
    assert not normalised(maps, "max")[1].any()
    with pytest.raises(UserError, match="choose one of minmax, max, none"):
        normalised(maps, "softmax")


def test_the_scaling_of_one_map_moves_fixed_thresholds_but_not_otsus():
    image, maps = square()
    maps = maps + 0.02  # a floor

    def labels(**options) -> list[np.ndarray]:
        scaled = (LabellingJob(normalise=how, **options) for how in ("minmax", "max"))
        return [synthetic_mask(image, maps, job)[0] for job in scaled]

    low_high, by_maximum = labels(post="otsu")
    assert 0 < low_high.mean() < 1 and (low_high == by_maximum).all()
    low_high, by_maximum = labels(post="threshold", theta=64)
    # a pixel of the map in 255ths: 255 (x - 0.02) / 0.05 and 255 x / 0.07, whose floor is 73
    assert by_maximum.all() and 0 < low_high.mean() < 1


def square(size: int = 24) -> tuple[np.ndarray, torch.Tensor]:
    """A bright square on black, and low-resolution attention that is somewhat larger."""
    image = np.zeros((size, size, 3), np.uint8)
    image[6:18, 6:18] = 230
    maps = torch.zeros(1, 6, 6)
    maps[0, 1:5, 1:5] = 0.05
    return image, maps


def test_the_crf_follows_the_image_where_thresholds_follow_the_map():
    image, maps = square()
    truth = image[..., 0] > 0
    narrow = {"gaussian": {"sxy": 1}, "bilateral": {"sxy": 8}}

    def iou(**options) -> float:
        labels, _ = synthetic_mask(image, maps, read_settings(LabellingJob, options))
        return float(((labels == 1) & truth).sum() / ((labels == 1) | truth).sum())

    assert iou(post="crf", crf=narrow) > max(iou(post="threshold", theta=64), iou(post="none"))


def test_each_post_processing_uses_the_maps_at_the_images_size():
    image, maps = square()
    for post in ("crf", "threshold", "otsu", "none"):
        labels, sure = synthetic_mask(image, maps, LabellingJob(post=post))
        assert labels.shape == sure.shape == (24, 24)
        assert labels.dtype == np.uint8 and sure.dtype == bool
        assert set(np.unique(labels)) == {0, 1}


def test_without_scaling_every_pixel_would_be_background():
    image, maps = square()
    labels, _ = synthetic_mask(image, maps, LabellingJob(post="none", normalise="none"))
    assert not labels.any()


def test_simple_crf_has_the_docstrings_numbers():
    assert SimpleCrf().dump() == {
        "iterations": 5,
        "gaussian": {"sxy": 3, "compat": 3},
        "bilateral": {"sxy": 80, "srgb": 15, "compat": 10},
        "clip": 0.01,
    }


def test_labels_become_the_data_sets_numbers():
    labels = np.array([[0, 1], [2, 1]], np.uint8)
    assert dataset_labels(labels, [15, 3], 0).tolist() == [[0, 15], [3, 15]]
    assert dataset_labels(labels, [0, 18], 255).tolist() == [[255, 0], [18, 0]]
