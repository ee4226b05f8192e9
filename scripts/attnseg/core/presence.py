"""Whether a class that was asked for is in a photo at all. Ours: the papers know what is in a photo."""

import numpy as np

STRONGEST = 0.05  # of the cells


def presence(cross: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """How far the strongest twentieth of each class's Cross stands above its median: [K] in [0, 1].

    The map of a class that is there is high in few places, that of another in many. Scaled to [0, 1]
    each, both reach the top, so their maxima say nothing.

    Args:
        cross: [K, h, w] in [0, 1].
        inside: [h, w] bool, the cells in the photo.
    """
    cells = np.sort(cross[:, inside].astype(np.float32), axis=1)  # [K, N]
    count = max(1, round(STRONGEST * cells.shape[1]))
    return cells[:, -count:].mean(1) - np.median(cells, axis=1)


def best_threshold(scores: np.ndarray, present: np.ndarray) -> tuple[float, float]:
    """The score from which "present" is right most often, by F1, and that F1; the lowest of equals.

    Args:
        scores, present: [N] of pairs of a photo and a class; at least one must be present.
    """
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], present[order].cumsum()
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + hits[-1])
    last = np.r_[scores[1:] < scores[:-1], True]  # equal scores are above a threshold together
    best = len(f1) - 1 - int(np.where(last, f1, -1)[::-1].argmax())
    return float(scores[best]), float(f1[best])
