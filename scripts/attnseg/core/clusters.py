"""Segments from a self-attention affinity (Text2Mask, Section 5.3, and the CBP row of Table 5)."""

import numpy as np
import torch
from scipy.spatial.distance import cdist

from attnseg.core.maps import min_max

OUTSIDE = -1  # label of cells that belong to no segment


def cbp_scores(
    affinity: torch.Tensor, cross: torch.Tensor, segments: int = 5, seed: int = 0
) -> torch.Tensor:
    """Give each self-attention segment its mean Cross (Patashnik et al. 2023, Section 4.2).

    `affinity`: [N, N], row i is the attention of cell i to all cells. `cross`: [K, h, w] with
    h w = N, min-max normalised per class here. Returns [K, h, w] float32 in [0, 1], constant within
    a segment.
    """
    labels = attention_segments(affinity, segments, seed)
    values = min_max(cross.float()).flatten(1)  # [K, N]
    return segment_means(values, labels)[:, labels].unflatten(1, cross.shape[1:])


def attention_segments(affinity: torch.Tensor, segments: int = 5, seed: int = 0) -> torch.Tensor:
    """Cluster the rows of the affinity by k-means: [N, N] -> [N] int64 in [0, segments)."""
    from sklearn.cluster import KMeans  # importing it takes a second, and few jobs need it

    rows = affinity.float().cpu().numpy()
    segments = min(segments, len(np.unique(rows, axis=0)))
    means = KMeans(segments, n_init=10, random_state=seed).fit(rows)
    return torch.from_numpy(means.labels_.astype(np.int64))


def segment_means(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of each row over each segment: [K, N], [N] int64 -> [K, S].

    Cells with a negative label are ignored; an empty segment gets 0.
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
    """Cluster the foreground's cells spectrally.

    Args:
        affinity: [N, N], made symmetric here.
        foreground: [h, w] bool with h w = N.
        segments: their number S, reduced to the number of foreground cells where that is smaller.
        locality: standard deviation, in cells, of a Gaussian spatial prior on the affinity, for
            models whose self-attention links similar objects; None for no prior.

    Returns:
        [h, w] int64: 0 to S - 1 in the foreground, `OUTSIDE` elsewhere.
    """
    inside = foreground.flatten().cpu().numpy()
    labels = np.full(inside.size, OUTSIDE, np.int64)
    cells = int(inside.sum())
    from sklearn.cluster import SpectralClustering

    if cells <= segments:  # nothing to cluster: each cell is a segment
        labels[inside] = np.arange(cells)
    elif segments == 1:
        labels[inside] = 0
    else:
        weights = affinity.float().cpu().numpy()[np.ix_(inside, inside)].astype(np.float64)
        weights = (weights + weights.T) / 2
        if locality is not None:
            place = np.argwhere(inside.reshape(foreground.shape))
            weights *= np.exp(-cdist(place, place, "sqeuclidean") / (2 * locality**2))
        # The normalised Laplacian needs a connected graph.
        weights += 1e-6 * weights.mean()
        clustering = SpectralClustering(
            segments, affinity="precomputed", assign_labels="kmeans", random_state=seed
        )
        labels[inside] = clustering.fit(weights).labels_
    return torch.from_numpy(labels).unflatten(0, tuple(foreground.shape))
