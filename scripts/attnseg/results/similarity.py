"""Similarity of an image's classes against its mean IoU (Text2Mask, Figures 6 and D.9)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from attnseg.results.measured import read_counts, read_measured

GROUPS = 13  # the published r and p belong together for about 13 points only


def image_miou(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """Mean IoU of each image in per cent, over its classes and the background: [N, C] -> [N]."""
    union = (tp + fp + fn).astype(np.float64)
    ratios = np.divide(tp, union, out=np.zeros_like(union), where=union > 0)
    return 100 * ratios.sum(1) / np.maximum((union > 0).sum(1), 1)


def cosines(embeddings: np.ndarray) -> np.ndarray:
    """Pairwise cosines: [K, D] -> [K, K]."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return unit @ unit.T


@dataclass(frozen=True)
class Pairs:
    """Similarity of the pairs of classes of one image."""

    mean: float
    closest: float  # of the most similar pair
    names: tuple[str, str]  # the most similar pair


def pairs_of(present: Sequence[str], classes: Sequence[str], similarity: np.ndarray) -> Pairs:
    """Similarity of an image's classes `present`, two or more; `similarity`: [K, K] of `classes`."""
    numbers = [classes.index(name) for name in present]
    rows, columns = np.triu_indices(len(numbers), 1)
    found = similarity[np.ix_(numbers, numbers)][rows, columns]
    best = int(found.argmax())
    names = (present[int(rows[best])], present[int(columns[best])])
    return Pairs(float(found.mean()), float(found[best]), names)


def grouped(x: np.ndarray, y: np.ndarray, groups: int = GROUPS) -> tuple[np.ndarray, np.ndarray]:
    """Means of x and y over groups of equal size, in the order of x: [groups] each."""
    order = np.argsort(x, kind="stable")
    parts = np.array_split(order, groups)
    return np.array([x[part].mean() for part in parts]), np.array(
        [y[part].mean() for part in parts]
    )


def regression(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float]:
    """Linear regression: slope, intercept, r, and p of the hypothesis that the slope is zero."""
    line = stats.linregress(x, y)
    return float(line.slope), float(line.intercept), float(line.rvalue), float(line.pvalue)


def failures(
    similarity: np.ndarray, scores: np.ndarray, names: np.ndarray, count: int
) -> list[int]:
    """Select images as failures: the worst one of each of the most similar pairs of classes.

    `similarity`: of an image's most similar pair; `scores`: its mean IoU; `names`: that pair. Each
    pair is shown once.
    """
    worst: dict[str, int] = {}
    for i, name in enumerate(names):
        if name not in worst or scores[i] < scores[worst[name]]:
            worst[name] = i
    return sorted(worst.values(), key=lambda i: -similarity[i])[:count]


def worst_of_the_similar(folder: Path, count: int) -> dict[str, str]:
    """Id of a photo -> what stands beside it: its most similar classes and their cosine."""
    read_measured(folder / "metrics.json")
    arrays = read_counts(folder, "per_image.npz")
    ids, closest, pair, miou = (arrays[k] for k in ("ids", "closest", "pair", "miou"))
    return {
        str(ids[i]): f"{str(pair[i]).replace(' and ', chr(10))}\ncosine {closest[i]:.2f}"
        for i in failures(closest, miou, pair, count)
    }
