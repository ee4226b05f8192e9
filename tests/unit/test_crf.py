"""Labels that are nowhere likely, and what they change."""

import numpy as np

from attnseg.core import crf
from attnseg.settings import Bilateral, Crf

OPTIONS = Crf(bilateral=Bilateral(sxy=10, srgb=20))


def scene(labels: int, unlikely: float) -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture of two colours, and probabilities: three labels are likely somewhere, the others
    share `unlikely` at each pixel."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (40, 50, 3)).astype(np.uint8)
    image[:, 25:] += 120
    scores = np.empty((labels, 40, 50))
    scores[:3] = rng.dirichlet([0.5, 0.5, 0.5], (40, 50)).transpose(2, 0, 1) * (1 - unlikely)
    scores[3:] = unlikely / max(1, labels - 3)
    return image, scores.astype(np.float32)


def test_labels_that_are_nowhere_likely_are_left_out():
    _, scores = scene(9, 0.9e-3)
    assert crf.likely(scores) == [0, 1, 2]
    _, scores = scene(9, 1.3e-3)  # of six, all but one share more than 1e-3
    assert len(crf.likely(scores)) == 3 + 2
    # each is likely somewhere
    scores = np.full((4, 1, 4), 0.4e-3, np.float32)
    scores[range(4), 0, range(4)] = 1
    assert crf.likely(scores) == [0, 1, 2, 3]
    # numbers that do not sum to 1 are shares of their sum
    assert crf.likely(100 * scene(9, 0.9e-3)[1]) == [0, 1, 2]


def test_what_is_left_out_changes_next_to_nothing():
    image, scores = scene(60, 0.9e-3)
    short = crf.crf_probabilities(image, scores, OPTIONS)
    whole = crf.inferred(image, np.maximum(scores, crf.LEAST_SCORE), OPTIONS)
    assert (short.argmax(0) != whole.argmax(0)).mean() < 1e-3
    assert np.abs(short - whole).max() < 0.02
    assert (short[3:] == 0).all() and short.shape == whole.shape
    np.testing.assert_allclose(short.sum(0), 1, atol=1e-5)


def test_without_unlikely_labels_nothing_changes():
    image, scores = scene(5, 0.2)
    scores = np.maximum(scores, crf.LEAST_SCORE)
    np.testing.assert_array_equal(
        crf.crf_probabilities(image, scores, OPTIONS), crf.inferred(image, scores, OPTIONS)
    )


def test_one_label_that_is_likely_is_everywhere():
    image, scores = scene(5, 0.2)
    scores[1], scores[[0, 2, 3, 4]] = 1, 0
    found = crf.crf_probabilities(image, scores, OPTIONS)
    assert (found[1] == 1).all() and found.sum() == 2000


def test_a_photo_s_next_refinement_builds_no_lattice_and_is_the_same(monkeypatch):
    image, scores = scene(3, 0)
    others = np.ascontiguousarray(scores[::-1])
    expected = [crf.crf_probabilities(image, one, OPTIONS) for one in (scores, others)]
    built, connected = [], crf.connected
    monkeypatch.setattr(crf, "connected", lambda *given: built.append(1) or connected(*given))
    lattices: dict = {}
    for one, probabilities in zip([scores, others, scores], [*expected, expected[0]], strict=True):
        found = crf.crf_probabilities(image, one, OPTIONS, lattices=lattices)
        np.testing.assert_array_equal(found, probabilities)
    assert len(built) == 1
    # another photo, size of a kernel or number of labels: its own
    crf.crf_probabilities(image[:, ::-1], scores, OPTIONS, lattices=lattices)
    crf.crf_probabilities(image, scores, Crf(bilateral=Bilateral(sxy=9)), lattices=lattices)
    crf.crf_probabilities(image, scores[:2], OPTIONS, lattices=lattices)
    assert len(built) == 4 and len(lattices) == 1
