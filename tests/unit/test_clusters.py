"""Segments of self-attention and the scores that they get from Cross."""

import numpy as np
import pytest
import torch

from attnseg.core.clusters import OUTSIDE, cbp_scores, segment_means, spectral_segments


def block_affinity(groups: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
    """Row-stochastic [N, N]: cells attend to their own group only, up to some noise."""
    same = (groups[:, None] == groups[None]).float()
    same += noise * torch.rand(same.shape, generator=torch.Generator().manual_seed(3))
    return same / same.sum(1, keepdim=True)


def groups_of(height: int = 8, width: int = 12) -> torch.Tensor:
    """Six groups: three columns of four cells times two rows of four."""
    rows = torch.arange(height)[:, None] // 4
    columns = torch.arange(width)[None] // 4
    return (rows * 3 + columns).flatten()


def same_partition(a: torch.Tensor, b: torch.Tensor) -> bool:
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


def test_cbp_gives_each_segment_the_mean_of_the_normalised_cross():
    groups = groups_of()
    cross = torch.rand(2, 8, 12, generator=torch.Generator().manual_seed(0)) * 3 + 1
    scores = cbp_scores(block_affinity(groups, 0.01), cross, segments=6, seed=0)
    for k in range(2):
        values = cross[k].flatten().numpy()
        values = (values - values.min()) / (values.max() - values.min())
        for group in range(6):
            cells = groups.numpy() == group
            got = scores[k].flatten().numpy()[cells]
            np.testing.assert_allclose(got, values[cells].mean(), rtol=1e-5)


def test_cbp_is_the_same_for_the_same_seed_and_does_not_change_with_the_scale_of_cross():
    affinity = block_affinity(torch.arange(64) // 8, 1.0)
    cross = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1))
    once, again = (cbp_scores(affinity, cross, seed=4) for _ in range(2))
    assert torch.equal(once, again)
    torch.testing.assert_close(cbp_scores(affinity, 5 * cross + 2, seed=4), once)
    assert once.shape == cross.shape and len(once[0].unique()) <= 5


def test_cbp_of_a_uniform_affinity_is_flat():
    scores = cbp_scores(torch.full((16, 16), 1 / 16), torch.arange(16.0).view(1, 4, 4))
    torch.testing.assert_close(scores, torch.full((1, 4, 4), 0.5))


def test_segment_means_leave_out_cells_that_belong_to_no_segment():
    values = torch.tensor([[1.0, 2.0, 3.0, 100.0]])
    means = segment_means(values, torch.tensor([0, 0, 1, OUTSIDE]))
    assert means.tolist() == [[1.5, 3.0]]


@pytest.mark.parametrize("seed", range(3))
def test_spectral_clustering_finds_the_groups_inside_the_foreground(seed):
    groups = groups_of()
    foreground = torch.ones(8, 12, dtype=torch.bool)
    foreground[:, 5:7] = False  # cuts into the middle groups
    labels = spectral_segments(block_affinity(groups, 0.05), foreground, 6, seed)
    assert (labels[~foreground] == OUTSIDE).all()
    assert same_partition(labels[foreground], groups.view(8, 12)[foreground])


def test_spectral_clustering_of_an_asymmetric_affinity_uses_both_directions():
    groups = groups_of()
    affinity = block_affinity(groups, 0.05).triu()  # half of the links are gone
    labels = spectral_segments(affinity, torch.ones(8, 12, dtype=torch.bool), 6)
    assert same_partition(labels.flatten(), groups)


@pytest.mark.parametrize("cells", [0, 1, 3])
def test_a_foreground_smaller_than_the_number_of_segments_has_a_segment_a_cell(cells):
    foreground = torch.zeros(4, 4, dtype=torch.bool)
    foreground.view(-1)[:cells] = True
    labels = spectral_segments(torch.rand(16, 16), foreground, 3)
    assert sorted(labels[foreground].tolist()) == list(range(cells))


def test_one_segment_is_the_whole_foreground():
    foreground = torch.eye(4, dtype=torch.bool)
    assert (spectral_segments(torch.rand(16, 16), foreground, 1)[foreground] == 0).all()


def test_segments_of_like_objects_are_told_apart_by_where_they_are():
    """Two pairs of blobs, each pair of one look: without locality a segment joins a pair."""
    foreground = torch.zeros(9, 9, dtype=torch.bool)
    looks, places = torch.full((9, 9), -1), torch.full((9, 9), -1)
    for number, (row, column) in enumerate(((0, 0), (6, 6), (0, 6), (6, 0))):
        square = (slice(row, row + 3), slice(column, column + 3))
        foreground[square], looks[square], places[square] = True, number // 2, number
    affinity = block_affinity(looks.flatten(), 0.01)
    far = spectral_segments(affinity, foreground, 2)
    near = spectral_segments(affinity, foreground, 4, locality=1.0)
    assert same_partition(far[foreground], looks[foreground])
    assert same_partition(near[foreground], places[foreground])
