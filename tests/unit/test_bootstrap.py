"""Intervals of differences: the bootstrap over images and training runs."""

import numpy as np
import pytest

from attnseg.results.bootstrap import (
    Counts,
    Resampler,
    correlation,
    difference,
    image_weights,
    spread,
)
from attnseg.results.iou import miou


def draw_masks(rng, right, ease):
    """tp, fp, fn [N, C] of images whose pixels are found with probability `ease` [N, 1] * `right` [C].

    With a mean ease of 1 the population's IoU of a class is 41 right / (41 + 5).
    """
    pixels = rng.poisson(40, (len(ease), len(right))) + 1
    tp = rng.binomial(pixels, ease * right)
    return tp, rng.poisson(5, pixels.shape), pixels - tp


def counts(tp, fp, fn):
    return Counts(tp.astype(float), (tp + fp + fn).astype(float))


def test_the_interval_covers_a_known_effect_in_93_to_97_per_cent_of_1000_trials():
    rng = np.random.default_rng(0)
    better, worse = np.array([0.72, 0.70, 0.60]), np.array([0.67, 0.70, 0.50])
    effect = 100 * (41 * (better - worse) / 46).mean()
    covered = 0
    for trial in range(1000):
        ease = rng.beta(8, 2, (120, 1)) / 0.8  # what is hard for one is hard for the other
        ours, others = (counts(*draw_masks(rng, right, ease)) for right in (better, worse))
        found = difference([ours], [[others]], Resampler(120, 500, trial))
        covered += found.low <= effect <= found.high
    assert 930 <= covered <= 970


def test_the_interval_covers_a_known_effect_of_trainings_with_seeds_of_their_own():
    """Three seeds are few: the interval is narrower than it should be, but not blind to them."""
    rng = np.random.default_rng(1)
    covered = {1: 0, 3: 0, 10: 0}
    for runs in covered:
        for trial in range(200):
            ease = rng.beta(8, 2, (120, 1)) / 0.8
            networks = [
                [
                    counts(*draw_masks(rng, np.array([right + 0.03 * rng.normal()]), ease))
                    for _ in range(runs)
                ]
                for right in (0.6, 0.6)
            ]
            found = difference(networks[0], [networks[1]], Resampler(120, 200, trial))
            covered[runs] += found.low <= 0 <= found.high
    assert covered[1] < 0.8 * 200 <= covered[3]
    assert 0.9 * 200 <= covered[10]


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(2)
    ease = rng.beta(2, 2, (200, 1)) * 1.2
    ours = counts(*draw_masks(rng, np.array([0.6]), ease))
    same = counts(*draw_masks(rng, np.array([0.55]), ease))
    shuffled = Counts(rng.permutation(same.numerators), same.denominators)
    resampler = Resampler(200, 1000)
    paired, unpaired = (difference([ours], [[b]], resampler) for b in (same, shuffled))
    assert paired.high - paired.low < 0.8 * (unpaired.high - unpaired.low)


def test_all_images_once_give_the_mean_iou_of_the_dataset():
    rng = np.random.default_rng(3)
    tp, fp, fn = draw_masks(rng, np.array([0.9, 0.5, 0.2]), np.ones((50, 1)))
    tp[:, 1] = fp[:, 1] = fn[:, 1] = 0  # a class that occurs nowhere
    found = counts(tp, fp, fn).values(np.ones((1, 50)))[0]
    assert found == pytest.approx(miou(tp, fp, fn))


def test_a_resample_is_the_mean_iou_of_the_images_drawn_class_by_class():
    rng = np.random.default_rng(4)
    tp, fp, fn = draw_masks(rng, np.array([0.9, 0.5, 0.2]), np.ones((6, 1)))
    for array in (tp, fp, fn):
        array[1:, 2] = 0  # a class of one image alone
    weights = image_weights(6, 40, rng)
    assert (weights.sum(1) == 6).all()
    found = counts(tp, fp, fn).values(weights)
    for drawn, quality in zip(weights.astype(int), found, strict=True):
        images = np.repeat(np.arange(6), drawn)
        assert quality == pytest.approx(miou(tp[images], fp[images], fn[images]))


def test_weights_come_in_parts_and_are_the_same_for_every_quality():
    resampler = Resampler(3_000_000, 3, seed=5)
    first, second = (list(resampler.parts()) for _ in range(2))
    assert [part.shape[0] for part in first] == [1, 1, 1]
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert not (first[0] == first[1]).all()


def test_the_best_of_several_is_what_must_be_beaten():
    rng = np.random.default_rng(6)
    runs = [[counts(*draw_masks(rng, np.array([p]), np.ones((100, 1))))] for p in (0.6, 0.5, 0.7)]
    resampler = Resampler(100, 500)
    assert difference(runs[0], runs[1:2], resampler).low > 0
    assert difference(runs[0], runs[1:], resampler).high < 0


def test_the_spread_is_the_largest_less_the_smallest():
    rng = np.random.default_rng(7)
    runs = [[counts(*draw_masks(rng, np.array([p]), np.ones((400, 1))))] for p in (0.6, 0.5, 0.7)]
    found = spread(runs, Resampler(400, 500))
    values = [run[0].values(np.ones((1, 400)))[0] for run in runs]
    assert found.value == pytest.approx(max(values) - min(values))
    assert found.low < 100 * 0.2 * 41 / 46 < found.high


def test_the_correlation_is_pearson_s_and_its_interval_that_of_fisher():
    rng = np.random.default_rng(8)
    x = rng.normal(size=800)
    y = -0.5 * x + rng.normal(size=800)
    found = correlation(x, y, Resampler(800, 2000))
    r = np.corrcoef(x, y)[0, 1]
    assert found.value == pytest.approx(r)
    fisher = np.tanh(np.arctanh(r) + np.array([-1.96, 1.96]) / np.sqrt(797))
    assert [found.low, found.high] == pytest.approx(fisher, abs=0.015)
