"""Confidence intervals by a paired bootstrap over images and training runs.

Every metric here is a mean of ratios of sums over images (IoU per class, accuracy, labels per
second), so that resampling images is a product of a weight matrix with per-image counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 95  # per cent


@dataclass(frozen=True)
class Counts:
    """Per-image counts of one run for a metric: numerators and denominators [N, C] float64.

    The metric is `scale` times the mean over the C columns of sum(numerators) / sum(denominators).
    Columns whose denominator is 0 are left out, like absent classes in the mean IoU.
    """

    numerators: np.ndarray
    denominators: np.ndarray
    scale: float = 100.0

    def values(self, weights: np.ndarray) -> np.ndarray:
        """The metric for each row of weights: [R, N] -> [R]; nan if all denominators are 0."""
        above, below = weights @ self.numerators, weights @ self.denominators
        ratios = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        present = (below > 0).sum(1)
        mean = np.divide(
            ratios.sum(1), present, out=np.full(len(present), np.nan), where=present > 0
        )
        return self.scale * mean


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def image_weights(images: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Number of times each image is drawn, [resamples, images] float64; rows sum to `images`."""
    drawn = rng.integers(images, size=(resamples, images))
    drawn += images * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * images).reshape(resamples, images) * 1.0


class Resampler:
    """Resamples of images, the same for every metric, so that comparisons are paired.

    Training runs are resampled independently per metric, since runs of two networks are unpaired.
    """

    def __init__(self, images: int, resamples: int = 2000, seed: int = 0):
        self.images, self.resamples = images, resamples
        self._rng = np.random.default_rng(seed)
        # in chunks, because the whole matrix for COCO's 40,137 images would take 640 MB
        rows = max(1, 4_000_000 // max(1, images))
        sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
        self._seeds = list(zip(sizes, self._rng.integers(2**62, size=len(sizes)), strict=True))

    def parts(self) -> Iterator[np.ndarray]:
        """The weights of the images, [some resamples, N] at a time; every call yields the same."""
        for size, seed in self._seeds:
            yield image_weights(self.images, size, np.random.default_rng(seed))

    def values(self, runs: Sequence[Counts]) -> tuple[float, np.ndarray]:
        """The metric's mean over runs, and that of each resample of runs and images [R]."""
        ones = np.ones((1, self.images))
        value = float(np.mean([run.values(ones)[0] for run in runs]))
        of_runs = np.stack([np.concatenate([run.values(w) for w in self.parts()]) for run in runs])
        drawn = self._rng.integers(len(runs), size=(len(runs), self.resamples))
        return value, of_runs[drawn, np.arange(self.resamples)].mean(0)


def interval(value: float, draws: np.ndarray) -> Interval:
    """The percentile interval of the draws, ignoring nan."""
    tail = (100 - LEVEL) / 2
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def difference(
    ours: Sequence[Counts], others: Sequence[Sequence[Counts]], resampler: Resampler
) -> Interval:
    """`ours` minus the best of `others`; each is a list of runs over the same images, in order."""
    value, draws = resampler.values(ours)
    against = [resampler.values(runs) for runs in others]
    return interval(
        value - max(other for other, _ in against),
        draws - np.max([other for _, other in against], axis=0),
    )


def spread(several: Sequence[Sequence[Counts]], resampler: Resampler) -> Interval:
    """The largest minus the smallest of several values.

    On average a resample's spread exceeds that of the images, so the interval is biased upwards.
    """
    values, draws = zip(*(resampler.values(runs) for runs in several), strict=True)
    return interval(max(values) - min(values), np.max(draws, axis=0) - np.min(draws, axis=0))


def correlation(x: np.ndarray, y: np.ndarray, resampler: Resampler) -> Interval:
    """Pearson's r of two values per image, [N] each."""

    def of(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(1)
        mean_x, mean_y = weights @ x / total, weights @ y / total
        covariance = weights @ (x * y) / total - mean_x * mean_y
        variance = (weights @ x**2 / total - mean_x**2) * (weights @ y**2 / total - mean_y**2)
        return np.divide(
            covariance,
            np.sqrt(np.maximum(variance, 0)),
            out=np.full(len(total), np.nan),
            where=variance > 1e-24,
        )

    value = float(of(np.ones((1, len(x))))[0])
    return interval(value, np.concatenate([of(weights) for weights in resampler.parts()]))
