"""Instances of a class from its self-attention."""

import numpy as np
import torch

from attnseg.app import kept_attention
from attnseg.app.exports.masks import instances
from attnseg.core.cuts import cheapest_cut, instances_of_cells


def two_objects() -> tuple[np.ndarray, np.ndarray]:
    """A 12 x 16 class of two halves that touch, and an affinity by which cells attend to their half."""
    inside = np.zeros((16, 16), bool)
    inside[2:14] = True
    left = (np.arange(256) % 16 < 8).astype(int)
    same = (left[:, None] == left).astype(float)
    same += 1e-4 * np.random.default_rng(0).random(same.shape)
    return same / same.sum(1, keepdims=True), inside


def test_objects_that_touch_are_told_apart_by_what_they_attend_to():
    affinity, inside = two_objects()
    found = instances_of_cells(affinity, inside)
    assert not found[~inside].any()
    left, right = found[inside].reshape(12, 2, 8).transpose(1, 0, 2)
    assert (left == left[0, 0]).all() and (right == right[0, 0]).all() and left[0, 0] != right[0, 0]
    assert (instances_of_cells(np.ones((256, 256)), inside & (np.arange(16) < 8)) <= 1).all()


def test_the_cut_is_the_cheapest_of_all_where_all_can_be_tried():
    """Shi and Malik's cost, of every way to part eight cells in two."""
    rng = np.random.default_rng(0)
    group = np.array([0, 1, 0, 0, 1, 1, 0, 1])
    weights = np.where(group[:, None] == group, 1.0, 0.02) * rng.uniform(0.8, 1.2, (8, 8))
    weights = (weights + weights.T) / 2

    def cost(first: np.ndarray) -> float:
        cut = weights[np.ix_(first, ~first)].sum()
        return cut / weights[first].sum() + cut / weights[~first].sum()

    ways = [np.array([number >> k & 1 for k in range(8)], bool) for number in range(1, 255)]
    best = min(ways, key=cost)
    first = cheapest_cut(weights)
    assert set(map(tuple, (first, ~first))) == set(map(tuple, (best, ~best)))
    assert cost(first) < 0.2
    assert cheapest_cut(np.ones((8, 8))) is None  # no cut is cheap


def test_kept_attention_parts_a_mask_at_the_photo_s_size_and_pieces_stay_together(tmp_path):
    affinity, inside = two_objects()
    item = {"id": "sub/a", "grid": [16, 16], "content": [128, 96], "padded": [128, 128]}
    kept_attention.write(tmp_path, item, torch.from_numpy(affinity))
    own = kept_attention.read(tmp_path, "sub/a")
    mask = np.zeros(
        (256, 192), np.uint8
    )  # two thirds of the grid are the photo's: the halves meet at 128
    mask[40:200, 20:180] = 2
    mask[100:104] = 0  # cut through: connected parts are above and below
    found = list(instances(mask, {2: "dog"}, parts_of=own.objects))
    assert sorted(one.box for one in found) == [[20, 40, 108, 160], [128, 40, 52, 160]]
    whole = sum(one.area for one in found)
    assert whole == (mask == 2).sum()
    assert sorted(one.box for one in instances(mask, {2: "dog"})) == [
        [20, 40, 160, 60], [20, 104, 160, 96],
    ]  # fmt: skip
