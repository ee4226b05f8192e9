"""What BECO's networks learn from: mixed photos, boundaries, colours and the loss, against loops."""

import colorsys

import cv2
import numpy as np
import pytest
import torch

from attnseg.segmentation import cotraining
from attnseg.segmentation.cotraining import NOTHING, LabelledPhotos

# -- the loss


def test_the_loss_is_that_of_a_loop_over_pixels():
    generator = torch.Generator().manual_seed(0)
    logits, other = torch.randn(2, 2, 4, 5, 6, generator=generator).double()
    labels = torch.randint(0, 4, (2, 5, 6), generator=generator)
    labels[:, 0] = NOTHING
    reliability = torch.tensor([0, 1, NOTHING])[torch.randint(0, 3, (2, 5, 6), generator=generator)]
    weights = 1 + torch.randint(0, 2, (2, 5, 6), generator=generator) * 0.2
    expected, terms = 0.0, 0
    for b in range(2):
        for y in range(5):
            for x in range(6):
                scores = logits[b, :, y, x].numpy()
                log_softmax = scores - np.log(np.exp(scores).sum())
                if reliability[b, y, x] == 1 and labels[b, y, x] != NOTHING:
                    expected -= float(weights[b, y, x]) * log_softmax[labels[b, y, x]]
                elif reliability[b, y, x] == 0:
                    expected -= log_softmax[np.argmax(other[b, :, y, x].numpy())]
                else:
                    continue
                terms += 1
    assert 20 < terms < 50  # some pixels have no term, and count in the mean
    loss = cotraining.cotraining_loss(logits, other, labels, reliability, weights)
    assert loss.item() == pytest.approx(expected / 60, rel=1e-6)


def test_the_loss_does_not_teach_the_other_network():
    logits, other = torch.randn(2, 1, 3, 4, 4, requires_grad=True).unbind()
    other.retain_grad()
    logits.retain_grad()
    zeros = torch.zeros(1, 4, 4, dtype=torch.long)
    cotraining.cotraining_loss(logits, other, zeros, zeros, torch.ones(1, 4, 4)).backward()
    assert other.grad is None and logits.grad.abs().sum() > 0


# -- boundaries


def test_boundary_of_a_square_has_both_sides_of_its_edge():
    region = torch.zeros(1, 7, 7, dtype=torch.bool)
    region[0, 2:5, 2:5] = True
    expected = torch.tensor(
        [
            [0, 0, 0, 0, 0, 0, 0],
            [0, 1, 1, 1, 1, 1, 0],
            [0, 1, 1, 1, 1, 1, 0],
            [0, 1, 1, 0, 1, 1, 0],
            [0, 1, 1, 1, 1, 1, 0],
            [0, 1, 1, 1, 1, 1, 0],
            [0, 0, 0, 0, 0, 0, 0],
        ]
    )
    assert torch.equal(cotraining.boundary(region, 1)[0].long(), expected)
    weights = cotraining.boundary_weights(region, 1, 0.2)[0]
    torch.testing.assert_close(weights, 1 + 0.2 * expected.float())


def test_the_photos_edge_is_no_boundary():
    left = torch.zeros(2, 4, 5, dtype=torch.bool)
    left[0, :, :2] = True
    left[1] = True  # pasted whole
    columns = torch.tensor([0, 1, 1, 0, 0]).bool()
    assert torch.equal(cotraining.boundary(left, 1)[0], columns.expand(4, 5))
    assert not cotraining.boundary(left, 1)[1].any()
    wide = torch.tensor([1, 1, 1, 1, 0]).bool()
    assert torch.equal(cotraining.boundary(left, 2)[0], wide.expand(4, 5))


# -- mixing


def hand_made() -> LabelledPhotos:
    """Two 3x3 photos, all 10 and all 20; the second has reliable and unsure pixels of class 5."""
    photos = torch.stack([torch.full((3, 3, 3), 10.0), torch.full((3, 3, 3), 20.0)])
    labels = torch.tensor([[[0, 0, 0]] * 3, [[0, 5, 5], [0, 5, NOTHING], [0, 0, 0]]])
    reliability = torch.tensor([[[1, 0, 1]] * 3, [[1, 1, 0], [1, 1, 1], [0, 0, 0]]])
    return LabelledPhotos(photos, labels, reliability)


def test_foreground_is_pasted_with_its_labels_in_the_warm_up_even_where_it_is_unsure():
    (photos, labels, reliability), pasted = cotraining.mixed(hand_made(), probability=1)
    where = torch.tensor([[0, 1, 1], [0, 1, 0], [0, 0, 0]]).bool()
    assert torch.equal(pasted[0], where) and not pasted[1].any()
    assert (photos[0] == torch.where(where, 20, 10)).all()
    assert torch.equal(labels[0], torch.where(where, 5, 0))
    assert reliability[0].tolist() == [[1, 1, 0], [1, 1, 1], [1, 0, 1]]
    # the first has no foreground, so nothing goes into the second
    for mixed, before in zip((photos, labels, reliability), hand_made(), strict=True):
        assert torch.equal(mixed[1], before[1])


def test_online_labels_hold_for_the_pasted_pixels_or_for_the_whole_mixed_photo():
    batch = hand_made()
    predicted = batch._replace(
        labels=torch.tensor([[[7, 7, 0]] * 3, [[0, 0, 3], [0, 0, 3], [0, 0, 0]]]),
        reliability=torch.tensor([[[0, 0, 1]] * 3, [[0, 0, 1], [0, 0, 1], [0, 0, 1]]]),
    )
    where = torch.tensor([[0, 0, 1], [0, 0, 1], [0, 0, 0]]).bool()
    for kind, base in (("mixed", predicted), ("pasted", batch)):
        (photos, labels, reliability), pasted = cotraining.mixed(
            batch, predicted, probability=1, online_labels=kind
        )
        assert torch.equal(pasted[0], where)
        assert (photos[0] == torch.where(where, 20, 10)).all()
        assert torch.equal(labels[0], torch.where(where, 3, base.labels[0]))
        assert torch.equal(reliability[0], torch.where(where, 1, base.reliability[0]))
        # the first photo's 7 is unsure: nothing is pasted, and the second has labels as the first
        assert not pasted[1].any() and torch.equal(photos[1], batch.photos[1])
        assert torch.equal(labels[1], base.labels[1])
        assert torch.equal(reliability[1], base.reliability[1])


def test_half_of_the_classes_are_pasted_and_never_the_background():
    labels = torch.tensor([[0, 1, 2, 3, NOTHING, 9]])
    sure = torch.tensor([[1, 1, 1, 1, 1, 0]])
    seen = set()
    for seed in range(40):
        region = cotraining.pasted_region(
            labels, sure, generator=torch.Generator().manual_seed(seed)
        )
        assert region.sum() == 2
        seen |= set(labels[region].tolist())
    assert seen == {1, 2, 3}
    # a data set without a background class has foreground from 0 on
    assert cotraining.pasted_region(labels[:, :1], sure[:, :1], first_foreground=0).all()


def test_photos_are_mixed_with_the_probability():
    labels = torch.ones(2000, 1, 1, dtype=torch.long)
    batch = LabelledPhotos(torch.zeros(2000, 3, 1, 1), labels, labels)
    generator = torch.Generator().manual_seed(0)
    _, pasted = cotraining.mixed(batch, probability=0.5, generator=generator)
    assert pasted.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert not cotraining.mixed(batch, probability=0.0)[1].any()


def test_online_labels_are_those_of_the_softmax_of_the_mean_logits():
    # a pixel a case: agreed and sure, agreed and unsure, at odds, and padding; of the first, the mean
    # softmax would be 0.949
    first = torch.tensor([[0.999, 0.001], [0.90, 0.10], [0.99, 0.01], [0.97, 0.03]])
    second = torch.tensor([[0.899, 0.101], [0.90, 0.10], [0.02, 0.98], [0.97, 0.03]])
    logits = [p.log().T.reshape(1, 2, 1, 4) + 3 for p in (first, second)]
    known = torch.tensor([[[0, 1, 1, NOTHING]]])
    batch = LabelledPhotos(torch.zeros(1, 3, 1, 4), known, known)
    predicted = cotraining.online(batch, logits, 0.95)
    assert predicted.labels.tolist() == [[[0, 0, 0, 0]]]
    assert predicted.reliability.tolist() == [[[1, 0, 0, NOTHING]]]


# -- colours


def test_hue_saturation_and_value_are_those_of_colorsys():
    photos = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    photos[0, :, 0, 0], photos[0, :, 0, 1] = 0, 1  # black, white
    hue, saturation, value = cotraining.to_hsv(photos)
    for y in range(4):
        for x in range(5):
            found = [float(t[0, y, x]) for t in (hue, saturation, value)]
            expected = colorsys.rgb_to_hsv(*photos[0, :, y, x].tolist())
            assert found == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(cotraining.to_rgb(hue, saturation, value), photos, atol=1e-5, rtol=0)


def test_blur_is_that_of_opencv():
    photos = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.8, 1.1]).view(2, 1, 1, 1)
    for photo, blurred, s in zip(
        photos, cotraining.blurred(photos, sigma), (0.8, 1.1), strict=True
    ):
        expected = cv2.GaussianBlur(photo.permute(1, 2, 0).numpy(), (5, 5), s)
        np.testing.assert_allclose(blurred.permute(1, 2, 0), expected, atol=1e-5)


def test_strong_colours_change_most_photos_and_stay_in_range():
    photos = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(400, 1, 1, 1)
    changed = cotraining.strong_colours(photos, torch.Generator().manual_seed(1))
    assert changed.shape == photos.shape and changed.min() >= 0 and changed.max() <= 1 + 1e-6
    same = (changed == photos).flatten(1).all(1).float().mean().item()
    grey = ((changed - changed.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-5).float().mean()
    assert same == pytest.approx(0.2 * 0.8 * 0.5, abs=0.05)
    assert grey.item() == pytest.approx(0.2, abs=0.07)
