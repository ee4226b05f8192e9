"""Instances of a class from self-attention, by repeated normalised cuts (Shi and Malik, 2000).

Ours: the papers cluster a known number of objects (Text2Mask, Section 5.3); here it is not known.
"""

import numpy as np
from scipy.linalg import eigh
from scipy.spatial.distance import cdist

# chosen on the mini world's dev
REACH = 1 / 8  # of the grid's longer side: standard deviation of how near cells of one object are
ROOT = 4  # of the affinity, whose values differ by orders of magnitude
COST = 0.2  # of a cut that is still made; 0 to 2
LEAST = 1 / 4  # of the cells: a smaller part is not cut off


def instances_of_cells(affinity: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The instances among the cells of a class.

    Args:
        affinity: [N, N] from 0 on, as Self; made symmetric here.
        inside: [h, w] bool with h w = N; the cells of the class.

    Returns:
        [h, w] int32: 0 outside, 1, 2, ... the instances.
    """
    found = np.zeros(inside.shape, np.int32)
    chosen, places = np.flatnonzero(inside), np.argwhere(inside)
    weights = affinity[np.ix_(chosen, chosen)].astype(np.float64)
    weights = ((weights + weights.T) / 2) ** (1 / ROOT)
    reach = REACH * max(inside.shape)
    weights *= np.exp(-cdist(places, places, "sqeuclidean") / (2 * reach**2))
    weights += 1e-6 * weights.mean()  # each cell reaches each other
    uncut, number = [np.arange(len(chosen))], 0
    while uncut:
        cells = uncut.pop()
        first = cheapest_cut(weights[np.ix_(cells, cells)])
        if first is None:
            number += 1
            found.flat[chosen[cells]] = number
        else:
            uncut += [cells[~first], cells[first]]
    return found


def cheapest_cut(weights: np.ndarray) -> np.ndarray | None:
    """One side of the cheapest cut of a graph with these weights [n, n], as [n] bool, or None if it
    costs more than `COST`, or cuts off less than `LEAST`.

    Of the cuts between cells in the order of the second eigenvector of the normalised Laplacian.
    """
    count, least = len(weights), max(2, LEAST * len(weights))
    if count < 2 * least:
        return None
    degree = weights.sum(1)
    normalised = weights / np.sqrt(np.outer(degree, degree))
    _, vectors = eigh(normalised, subset_by_index=[count - 2, count - 2])
    order = np.argsort(vectors[:, 0] / np.sqrt(degree), kind="stable")
    before = degree[order].cumsum()[:-1]  # the degrees of the first 1, 2, ... cells
    within = weights[np.ix_(order, order)].cumsum(0).cumsum(1).diagonal()[:-1]
    cost = (before - within) * (1 / before + 1 / (degree.sum() - before))
    best = int(cost.argmin())
    if cost[best] > COST or not least <= best + 1 <= count - least:
        return None
    first = np.zeros(count, bool)
    first[order[: best + 1]] = True
    return first
