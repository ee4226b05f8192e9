"""Segments from a self-attention affinity (Text2Mask, Section 5.3, and the CBP row of Table 5)."""

import numpy as np
import torch
from scipy.spatial.distance import cdist

from attnseg.core.maps import min_max

OUTSIDE = -1  # the segment number of the cells that belong to none


def cbp_scores(
    affinity: torch.Tensor, cross: torch.Tensor, segments: int = 5, seed: int = 0
) -> torch.Tensor:
    """Each self-attention segment gets its mean Cross (Patashnik et al. 2023, Section 4.2).

    `affinity`: [N, N], rows are a cell's attention to all cells; `cross`: [K, h, w] with h w = N,
    min-max'ed a class before the mean. Returns [K, h, w] float32 in [0, 1], constant in a segment.
    """
    labels = attention_segments(affinity, segments, seed)
    values = min_max(cross.float()).flatten(1)  # [K, N]
    return segment_means(values, labels)[:, labels].unflatten(1, cross.shape[1:])


def attention_segments(affinity: torch.Tensor, segments: int = 5, seed: int = 0) -> torch.Tensor:
    """k-means on the rows of the affinity: [N, N] -> [N] int64 in [0, segments)."""
    from sklearn.cluster import KMeans  # a second, which few jobs need

    rows = affinity.float().cpu().numpy()
    segments = min(segments, len(np.unique(rows, axis=0)))
    means = KMeans(segments, n_init=10, random_state=seed).fit(rows)
    return torch.from_numpy(means.labels_.astype(np.int64))


def segment_means(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of each row over each segment: [K, N], [N] int64 -> [K, S].

    Cells whose label is negative count nowhere; a segment without cells gets 0.
    """
    inside = labels >= 0
    count = int(labels.max()) + 1
    member = torch.nn.functional.one_hot(labels[inside], count).to(values)  # [n, S]
    return values[:, inside] @ member / member.sum(0).clamp_min(1)


def spectral_segments(
    affinity: torch.Tensor,
    foreground: torch.Tensor,
    segments: int,
    seed: int = 0,
    locality: float | None = None,
) -> torch.Tensor:
    """Spectral clustering of the foreground's cells.

    `affinity`: [N, N], made symmetric here; `foreground`: [h, w] bool with h w = N. Returns [h, w]
    int64: 0 to S - 1 within the foreground, `OUTSIDE` elsewhere. S is `segments`, or the number of
    foreground cells where there are fewer. With `locality` cells further apart are less alike, by a
    Gaussian of that many cells: for a model whose self-attention joins like objects.
    """
    inside = foreground.flatten().cpu().numpy()
    labels = np.full(inside.size, OUTSIDE, np.int64)
    cells = int(inside.sum())
    from sklearn.cluster import SpectralClustering

    if cells <= segments:  # nothing to cluster: a cell a segment
        labels[inside] = np.arange(cells)
    elif segments == 1:
        labels[inside] = 0
    else:
        weights = affinity.float().cpu().numpy()[np.ix_(inside, inside)].astype(np.float64)
        weights = (weights + weights.T) / 2
        if locality is not None:
            place = np.argwhere(inside.reshape(foreground.shape))
            weights *= np.exp(-cdist(place, place, "sqeuclidean") / (2 * locality**2))
        # A small floor keeps the graph connected, which the normalised Laplacian wants.
        weights += 1e-6 * weights.mean()
        clustering = SpectralClustering(
            segments, affinity="precomputed", assign_labels="kmeans", random_state=seed
        )
        labels[inside] = clustering.fit(weights).labels_
    return torch.from_numpy(labels).unflatten(0, tuple(foreground.shape))
