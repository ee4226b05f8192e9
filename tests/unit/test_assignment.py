"""Independent, joint and ground-truth assignment of segments, compared with brute force."""

from itertools import permutations

import numpy as np
import pytest

from attnseg.personalised.assignment import NONE, alone, centres, together, true_segments


def best_of_all(values: np.ndarray) -> list[tuple[float, list[int]]]:
    """Every one-to-one assignment of rows to columns with its sum, the largest first."""
    rows, columns = values.shape
    found = []
    if rows <= columns:
        for choice in permutations(range(columns), rows):
            found.append((sum(values[i, c] for i, c in enumerate(choice)), list(choice)))
    else:
        for choice in permutations(range(rows), columns):
            assigned = [NONE] * rows
            for column, row in enumerate(choice):
                assigned[row] = column
            found.append((sum(values[r, c] for c, r in enumerate(choice)), assigned))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (4, 4), (5, 5), (3, 5), (5, 3), (2, 4)])
def test_together_is_the_best_of_all_assignments(shape):
    rng = np.random.default_rng(sum(shape))
    for _ in range(30):
        values = rng.random(shape)
        assert together(values).tolist() == best_of_all(values)[0][1]


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (3, 5), (4, 3)])
def test_alone_is_each_query_s_best(shape):
    rng = np.random.default_rng(7)
    for _ in range(30):
        values = rng.random(shape)
        for row, taken in zip(values, alone(values), strict=True):
            assert all(row[taken] >= value for value in row)


def test_random_correlations_are_right_one_time_in_as_many_as_there_are():
    rng = np.random.default_rng(0)
    for assigned in (alone, together):
        mean = np.mean([assigned(rng.random((4, 4))) == np.arange(4) for _ in range(2000)])
        assert mean == pytest.approx(0.25, abs=0.02)


def test_together_tells_apart_what_alone_confuses():
    values = np.array([[0.9, 0.8], [0.7, 0.1]])
    assert alone(values).tolist() == [0, 0]
    assert together(values).tolist() == [1, 0]


def test_a_query_more_than_there_are_segments_gets_none():
    values = np.array([[0.9], [0.8]])
    assert together(values).tolist() == [0, NONE]
    assert alone(np.zeros((2, 0))).tolist() == together(np.zeros((2, 0))).tolist() == [NONE, NONE]


def regions(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    found = np.zeros((len(boxes), 20, 30), bool)
    for region, (top, left, bottom, right) in zip(found, boxes, strict=True):
        region[top:bottom, left:right] = True
    return found


def test_instances_and_segments_are_paired_by_their_centres():
    instances = regions((0, 0, 10, 10), (0, 12, 10, 20), (10, 0, 20, 30))
    rough = regions((12, 3, 20, 30), (1, 2, 9, 11), (0, 14, 11, 22))
    assert true_segments(rough, instances).tolist() == [1, 2, 0]
    assert true_segments(instances[[2, 0, 1]], instances).tolist() == [1, 2, 0]


def test_the_pairing_has_the_smallest_sum_of_distances():
    rng = np.random.default_rng(1)
    for segments, instances in ((4, 4), (3, 4), (5, 3)):
        for _ in range(10):
            s, i = (rng.random((n, 12, 12)) < 0.1 for n in (segments, instances))
            gaps = np.array([[np.hypot(*(a - b)) for b in centres(s)] for a in centres(i)])
            assert true_segments(s, i).tolist() == best_of_all(-gaps)[0][1]


def test_an_empty_segment_is_nobodys():
    instances = regions((0, 0, 10, 10), (0, 12, 10, 20))
    segments = np.concatenate([np.zeros((1, 20, 30), bool), instances])
    assert true_segments(segments, instances).tolist() == [1, 2]
    assert true_segments(segments[:2], instances).tolist() == [1, NONE]
