"""The segmentor's losses against loops over pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_segmentor import TINY

from attnseg.errors import UserError
from attnseg.segmentation import architecture
from attnseg.segmentation.model import build_model
from attnseg.segmentation.train import train
from attnseg.settings import read_segmentor

pytestmark = pytest.mark.usefixtures("one_thread")


def samples_of(labels: torch.Tensor) -> list:
    """mmseg's samples of a batch of labels [B, H, W]."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    return [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]


def test_multi_scale_loss_is_the_sum_over_scales_and_the_maximum():
    torch.manual_seed(0)
    settings = read_segmentor({**TINY, "loss_scales": [0.5, 0.75, 1.0]})
    model = build_model(settings, 4).eval()
    torch.nn.init.normal_(model.decode_head.classifiers[0].weight)
    images = torch.randn(2, 3, 32, 32)
    labels = torch.randint(0, 4, (2, 1, 32, 32))
    labels[:, :, :5] = 255
    with torch.no_grad():
        losses = model.loss(images, samples_of(labels[:, 0]))
        logits = [
            model.logits(F.interpolate(images, (s, s), mode="bilinear", align_corners=False))
            for s in (32, 24, 16)
        ]
        size = logits[0].shape[2:]
        logits.append(
            torch.stack([F.interpolate(one, size, mode="bilinear") for one in logits]).amax(0)
        )
        for loss, one in zip(losses.values(), logits, strict=True):
            # the label under the centre of each feature, as Pillow picks it
            small = [
                np.asarray(
                    Image.fromarray(label[0].numpy().astype(np.uint8)).resize(one.shape[3:1:-1], 0)
                )
                for label in labels
            ]
            small = torch.from_numpy(np.stack(small)).long()
            expected = F.cross_entropy(one, small, ignore_index=255)
            assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_balanced_loss_is_the_mean_of_the_background_s_and_the_foreground_s():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 4, 5, 6))
    labels = rng.choice([0, 0, 0, 1, 2, 3, 255], size=(2, 5, 6))

    def expected(labels):
        found = {"background": [], "foreground": []}
        for b, y, x in np.ndindex(labels.shape):
            if labels[b, y, x] == 255:
                continue
            z = logits[b, :, y, x]
            part = "foreground" if labels[b, y, x] else "background"
            found[part].append(np.log(np.exp(z).sum()) - z[labels[b, y, x]])
        return sum(np.mean(losses) if losses else 0 for losses in found.values()) / 2

    only_background = np.where(labels == 0, 0, 255)
    only_foreground = np.where(labels == 0, 255, labels)
    nothing = np.full_like(labels, 255)
    for given in (labels, only_background, only_foreground, nothing):
        leaf = torch.tensor(logits, requires_grad=True)
        loss = architecture.balanced_cross_entropy(leaf, torch.tensor(given))
        assert loss.item() == pytest.approx(expected(given), rel=1e-9)
        loss.backward()
        assert torch.isfinite(leaf.grad).all()
        assert (leaf.grad.abs().sum(1) > 0).equal(torch.tensor(given != 255))


@pytest.mark.parametrize("loss", ["plain", "all_pixels", "balanced"])
def test_a_segmentor_s_loss_is_the_named_one(loss):
    """At the labels' resolution, of labels a third of which are unknown."""
    torch.manual_seed(0)
    model = build_model(read_segmentor({**TINY, "loss": loss}), 4).eval()
    torch.nn.init.normal_(model.decode_head.classifiers[0].weight)
    images, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 4, (2, 32, 32))
    labels[:, :10] = 255
    labels[0, 10:, :] = 0  # more background than foreground
    with torch.no_grad():
        (found,) = model.loss(images, samples_of(labels)).values()
        logits = F.interpolate(model.logits(images), (32, 32), mode="bilinear")
        each = -logits.log_softmax(1).gather(1, labels.clamp(max=3)[:, None])[:, 0]
    background, foreground = each[labels == 0], each[(labels > 0) & (labels < 255)]
    expected = {
        "plain": each[labels < 255].mean(),
        "all_pixels": each[labels < 255].sum() / labels.numel(),
        "balanced": (background.mean() + foreground.mean()) / 2,
    }
    assert found.item() == pytest.approx(expected[loss].item(), rel=1e-5)


def test_a_balanced_loss_needs_a_background(tiny_pairs, tmp_path):
    with pytest.raises(UserError, match="road is no background; set `loss: plain`"):
        train(
            read_segmentor({**TINY, "loss": "balanced"}),
            tiny_pairs,
            ["road", "car"],
            tmp_path / "w",
        )
