"""How sure a measured difference is: a paired bootstrap over images, and over training runs.

Every quality here is a mean of ratios of sums over images (IoU a class, accuracy, labels a second),
so that a resample of the images is one product of a matrix of weights with the counts of the images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 95  # per cent


@dataclass(frozen=True)
class Counts:
    """What the images of one run add to a quality: numerators and denominators [N, C] float64.

    The quality is `scale` times the mean over the C columns of sum(numerators) / sum(denominators);
    columns whose denominator is 0 do not count, as absent classes do not in the mean IoU.
    """

    numerators: np.ndarray
    denominators: np.ndarray
    scale: float = 100.0

    def qualities(self, weights: np.ndarray) -> np.ndarray:
        """One value a row of `weights` [R, N]; nan where every column's denominator is 0."""
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
    """How often each image is drawn, [resamples, images] float64; every row adds up to `images`."""
    drawn = rng.integers(images, size=(resamples, images))
    drawn += images * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * images).reshape(resamples, images) * 1.0


class Resampler:
    """The same resamples of the images for every quality: that is what pairs them.

    Training runs are drawn anew for each quality, since runs of two networks have nothing in common.
    """

    def __init__(self, images: int, resamples: int = 2000, seed: int = 0):
        self.images, self.resamples = images, resamples
        self._rng = np.random.default_rng(seed)
        # in parts: a matrix for COCO's 40,137 images would take 640 MB
        rows = max(1, 4_000_000 // max(1, images))
        sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
        self._seeds = list(zip(sizes, self._rng.integers(2**62, size=len(sizes)), strict=True))

    def parts(self) -> Iterator[np.ndarray]:
        """The weights of the images, [some resamples, N] at a time; every call yields the same."""
        for size, seed in self._seeds:
            yield image_weights(self.images, size, np.random.default_rng(seed))

    def qualities(self, runs: Sequence[Counts]) -> tuple[float, np.ndarray]:
        """The mean over the runs, and the same of each resample [R] of runs and images."""
        ones = np.ones((1, self.images))
        value = float(np.mean([run.qualities(ones)[0] for run in runs]))
        of_runs = np.stack(
            [np.concatenate([run.qualities(w) for w in self.parts()]) for run in runs]
        )
        drawn = self._rng.integers(len(runs), size=(len(runs), self.resamples))
        return value, of_runs[drawn, np.arange(self.resamples)].mean(0)


def interval(value: float, draws: np.ndarray) -> Interval:
    """The percentile interval of the draws that are no nan."""
    tail = (100 - LEVEL) / 2
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def difference(
    ours: Sequence[Counts], others: Sequence[Sequence[Counts]], resampler: Resampler
) -> Interval:
    """`ours` less the best of `others`, each a list of runs over the same images in one order."""
    value, draws = resampler.qualities(ours)
    against = [resampler.qualities(runs) for runs in others]
    return interval(
        value - max(other for other, _ in against),
        draws - np.max([other for _, other in against], axis=0),
    )


def spread(several: Sequence[Sequence[Counts]], resampler: Resampler) -> Interval:
    """The largest less the smallest of several qualities.

    A resample's spread is larger than that of the images on average: the interval errs upwards.
    """
    values, draws = zip(*(resampler.qualities(runs) for runs in several), strict=True)
    return interval(max(values) - min(values), np.max(draws, axis=0) - np.min(draws, axis=0))


def correlation(x: np.ndarray, y: np.ndarray, resampler: Resampler) -> Interval:
    """Pearson's r of two values an image, both [N]."""

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
