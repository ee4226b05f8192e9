"""Components of BECO's co-training: online labels, mixing, boundaries, loss, colours.

BECO (Rong et al. 2023, "Boundary-enhanced Co-training for Weakly Supervised Semantic Segmentation")
is attn2mask's second learner. Random numbers come from torch's global generator unless one is given.
They are drawn on the CPU, so that a seed gives the same numbers on every device.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

NOTHING = 255  # in labels: no class; in reliability: padding


class LabelledPhotos(NamedTuple):
    """A batch of photos with labels and their reliability.

    photos: [B, 3, H, W] float32
    labels: [B, H, W] int64, NOTHING where no class is known
    reliability: [B, H, W] int64, 1 where the label supervises, 0 where the other network does,
        NOTHING in padding, which has no loss
    """

    photos: Tensor
    labels: Tensor
    reliability: Tensor


def online(
    batch: LabelledPhotos, logits: Sequence[Tensor], confidence: float = 0.95
) -> LabelledPhotos:
    """Replace the labels by the networks' prediction, the softmax of their mean logits.

    logits: [B, C, H, W] of each network. Reliable where the softmax exceeds `confidence`.
    """
    highest, labels = torch.stack(list(logits)).mean(0).softmax(1).max(1)
    reliability = (highest > confidence).long()
    reliability = reliability.masked_fill(batch.reliability == NOTHING, NOTHING)
    return LabelledPhotos(batch.photos, labels, reliability)


def pasted_region(
    labels: Tensor,
    reliability: Tensor,
    first_foreground: int = 1,
    generator: Generator | None = None,
) -> Tensor:
    """Reliable pixels of a random half, rounded up, of a photo's foreground classes: [H, W] bool.

    labels, reliability: [H, W]
    """
    foreground = (labels >= first_foreground) & (labels != NOTHING) & (reliability == 1)
    classes = labels[foreground].unique()
    drawn = torch.randperm(len(classes), generator=generator)[: (len(classes) + 1) // 2]
    return foreground & torch.isin(labels, classes[drawn.to(classes.device)])


def mixed(
    batch: LabelledPhotos,
    predicted: LabelledPhotos | None = None,
    *,
    probability: float = 0.5,
    first_foreground: int = 1,
    online_labels: str = "mixed",
    generator: Generator | None = None,
) -> tuple[LabelledPhotos, Tensor]:
    """Paste regions of photos into others; return the batch and the pasted pixels [B, H, W] bool.

    With `probability`, photo i gets a region of photo (i + B // 2) mod B. During the warm-up
    `predicted` is None, and regions come from pseudo labels, reliable or not. Later they come from
    the networks' reliable labels, `predicted`. The other pixels of a photo that was chosen, even if
    there is nothing to paste, then get the networks' labels, too (online_labels "mixed", as in the
    official code), or keep their pseudo labels ("pasted").
    """
    source = batch if predicted is None else predicted
    base = predicted if predicted is not None and online_labels == "mixed" else batch
    photos, labels, reliability = (tensor.clone() for tensor in batch)
    pasted = torch.zeros_like(labels, dtype=torch.bool)
    count = len(labels)
    chosen = torch.rand(count, generator=generator) < probability
    for i in chosen.nonzero()[:, 0].tolist():
        other = (i + count // 2) % count
        sure = (
            torch.ones_like(source.labels[other])
            if predicted is None
            else source.reliability[other]
        )
        region = pasted_region(source.labels[other], sure, first_foreground, generator)
        pasted[i] = region
        photos[i] = torch.where(region, batch.photos[other], batch.photos[i])
        labels[i] = torch.where(region, source.labels[other], base.labels[i])
        reliability[i] = torch.where(region, source.reliability[other], base.reliability[i])
    return LabelledPhotos(photos, labels, reliability), pasted


def boundary(region: Tensor, size: int = 1) -> Tensor:
    """Pixels within Chebyshev distance `size` of the other side of the region's edge.

    `region`: [B, H, W] bool, like the result. The photo's own edge is not a boundary.
    """
    inside = region[:, None].float()
    window: dict[str, Any] = {"kernel_size": 2 * size + 1, "stride": 1, "padding": size}
    dilated = F.max_pool2d(inside, **window)
    eroded = -F.max_pool2d(-inside, **window)
    return (dilated > eroded)[:, 0]


def boundary_weights(region: Tensor, size: int = 1, extra: float = 0.2) -> Tensor:
    """Weights of the supervised terms, [B, H, W]: 1 + `extra` at the region's boundary, 1 elsewhere."""
    return 1 + extra * boundary(region, size).float()


def cotraining_loss(
    logits: Tensor, other_logits: Tensor, labels: Tensor, reliability: Tensor, weights: Tensor
) -> Tensor:
    """Cross-entropy with reliable labels, and elsewhere with the other network's arg max.

    logits, other_logits: [B, C, H, W]; labels, reliability: as in LabelledPhotos; weights: [B, H, W],
    of the supervised terms only. The mean is over all pixels, including padding, whose loss is 0.
    """
    reliable = reliability == 1
    target = torch.where(reliable, labels, other_logits.detach().argmax(1))
    target = target.masked_fill(reliability == NOTHING, NOTHING)
    losses = F.cross_entropy(logits, target, ignore_index=NOTHING, reduction="none")
    return (losses * torch.where(reliable, weights, 1.0)).mean()


# -- strong colour augmentation


def strong_colours(photos: Tensor, generator: Generator | None = None) -> Tensor:
    """Augment the colours and sharpness of each photo independently: [B, 3, H, W] RGB in [0, 1].

    With probability 0.8, brightness, contrast, hue, saturation and value change together, within the
    defaults of albumentations, as in the official code. With 0.2 the photo becomes grey, with 0.5 it
    is blurred.
    """
    count = len(photos)

    def draw(low: float, high: float) -> Tensor:
        drawn = torch.rand(count, 1, 1, 1, generator=generator)
        return (low + (high - low) * drawn).to(photos.device)

    jittered = (photos * draw(0.8, 1.2) + draw(-0.2, 0.2)).clamp(0, 1)
    hue, saturation, value = to_hsv(jittered)
    hue = (hue + draw(-20 / 180, 20 / 180)[:, 0]) % 1
    saturation = (saturation + draw(-30 / 255, 30 / 255)[:, 0]).clamp(0, 1)
    value = (value + draw(-20 / 255, 20 / 255)[:, 0]).clamp(0, 1)
    photos = torch.where(draw(0, 1) < 0.8, to_rgb(hue, saturation, value), photos)
    weights = photos.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    grey = (photos * weights).sum(1, keepdim=True).expand_as(photos)
    photos = torch.where(draw(0, 1) < 0.2, grey, photos)
    # OpenCV's deviations for kernels of width 3 and 5
    sigma = torch.where(draw(0, 1) < 0.5, 0.8, 1.1)
    return torch.where(draw(0, 1) < 0.5, blurred(photos, sigma), photos)


def to_hsv(photos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """RGB [B, 3, H, W] in [0, 1] -> hue, saturation and value, [B, H, W] in [0, 1] each."""
    red, green, blue = photos.unbind(1)
    value, spread = photos.amax(1), photos.amax(1) - photos.amin(1)
    some = spread.clamp_min(1e-12)
    hue = torch.where(
        value == red,
        (green - blue) / some,
        torch.where(value == green, 2 + (blue - red) / some, 4 + (red - green) / some),
    )
    return (hue / 6) % 1, spread / value.clamp_min(1e-12), value


def to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Hue, saturation and value [B, H, W] -> RGB [B, 3, H, W]: the inverse of `to_hsv`."""
    channels = []
    for place in (5, 3, 1):
        k = (place + 6 * hue) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)


def blurred(photos: Tensor, sigma: Tensor) -> Tensor:
    """Blur each photo with a 5-pixel Gaussian; `sigma`: deviation per photo, [B, 1, 1, 1]."""
    count, channels, height, width = photos.shape
    steps = torch.arange(-2, 3, device=photos.device)
    line = torch.exp(-(steps**2) / (2 * sigma.view(-1, 1) ** 2))  # [B, 5]
    line = line / line.sum(1, keepdim=True)
    kernels = (line[:, :, None] * line[:, None, :]).repeat_interleave(channels, 0)[:, None]
    padded = F.pad(photos, (2, 2, 2, 2), mode="reflect")
    flat = padded.reshape(1, count * channels, height + 4, width + 4)
    return F.conv2d(flat, kernels, groups=count * channels).view_as(photos)
