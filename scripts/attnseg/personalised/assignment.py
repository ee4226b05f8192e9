"""Assign segments to queries: independently, jointly, by ground truth (Text2Mask, Section 5.3).

`correlation`: [I, S], of I queries with S segments. Assignments are [I] int64 segment numbers,
`NONE` for a query without a segment (S < I).
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

NONE = -1


def alone(correlation: np.ndarray) -> np.ndarray:
    """Assign to each query its best segment, independently of the other queries."""
    if correlation.shape[1] == 0:
        return np.full(len(correlation), NONE)
    return correlation.argmax(1)


def together(correlation: np.ndarray) -> np.ndarray:
    """Assign each segment to at most one query, maximising the sum of correlations."""
    rows, columns = linear_sum_assignment(correlation, maximize=True)
    return _filled(len(correlation), rows, columns)


def true_segments(segments: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """Match ground-truth instances with segments, minimising the sum of distances of their centres.

    `segments`: [S, H, W] bool, `instances`: [I, H, W] bool. Empty segments are not assigned.
    """
    kept = np.flatnonzero(segments.any((1, 2)))
    distances = np.linalg.norm(centres(instances)[:, None] - centres(segments[kept])[None], axis=-1)
    rows, columns = linear_sum_assignment(distances)
    return _filled(len(instances), rows, kept[columns])


def centres(regions: np.ndarray) -> np.ndarray:
    """Mean row and column of each region's pixels: [R, H, W] bool -> [R, 2] float64."""
    found = [
        np.argwhere(region).mean(0) if region.any() else (np.inf, np.inf) for region in regions
    ]
    if np.isinf(found).any():
        raise ValueError("an empty region has no centre")
    return np.asarray(found, np.float64).reshape(len(regions), 2)


def _filled(count: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    assigned = np.full(count, NONE)
    assigned[rows] = columns
    return assigned
