"""What BECO's co-training is made of: online labels, mixing, boundaries, the loss, colours.

BECO is Rong et al. 2023, "Boundary-enhanced Co-training for Weakly Supervised Semantic
Segmentation", which attn2mask trains its second learner with. Random numbers are torch's global
ones unless a generator is given, drawn on the CPU, so that a seed means the same on every device.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

NOTHING = 255  # as a label: no class; as a reliability: no photo there (padding)


class Batch(NamedTuple):
    """Photos and what is known of their pixels.

    photos: [B, 3, H, W] float32
    labels: [B, H, W] int64, NOTHING where no class is known
    reliability: [B, H, W] int64, 1 where the label is learnt, 0 where the other network is asked,
        NOTHING in padding, where nothing is learnt
    """

    photos: Tensor
    labels: Tensor
    reliability: Tensor


def online(batch: Batch, logits: Sequence[Tensor], confidence: float = 0.95) -> Batch:
    """The same photos with the networks' labels: arg max of the mean softmax.

    logits: [B, C, H, W] of each network. Reliable where that softmax is above `confidence`.
    """
    scores = torch.stack([one.softmax(1) for one in logits]).mean(0)
    highest, labels = scores.max(1)
    reliability = (highest > confidence).long()
    return Batch(batch.photos, labels, reliability.masked_fill(batch.reliability == NOTHING, NOTHING))  # fmt: skip


def pasted_region(
    labels: Tensor,
    reliability: Tensor,
    first_foreground: int = 1,
    generator: Generator | None = None,
) -> Tensor:
    """Reliable pixels of half of a photo's foreground classes, rounded up, drawn at random.

    labels, reliability: [H, W] -> [H, W] bool
    """
    foreground = (labels >= first_foreground) & (labels != NOTHING) & (reliability == 1)
    classes = labels[foreground].unique()
    drawn = torch.randperm(len(classes), generator=generator)[: (len(classes) + 1) // 2]
    return foreground & torch.isin(labels, classes[drawn.to(classes.device)])


def mixed(
    batch: Batch,
    predicted: Batch | None = None,
    *,
    probability: float = 0.5,
    first_foreground: int = 1,
    online_labels: str = "mixed",
    generator: Generator | None = None,
) -> tuple[Batch, Tensor]:
    """(the batch with content of other photos pasted in, which pixels are pasted [B, H, W] bool).

    Photo i gets with `probability` a region of photo i + B // 2, counted around. During the warm-up
    `predicted` is None and the pseudo labels say what is pasted; later the networks' own labels,
    `predicted`, do. Then a mixed photo's other pixels have the networks' labels as well
    (online_labels "mixed", as the authors' code does) or keep their pseudo labels ("pasted").
    """
    source = batch if predicted is None else predicted
    base = predicted if predicted is not None and online_labels == "mixed" else batch
    photos, labels, reliability = (tensor.clone() for tensor in batch)
    pasted = torch.zeros_like(labels, dtype=torch.bool)
    count = len(labels)
    chosen = torch.rand(count, generator=generator) < probability
    for i in chosen.nonzero()[:, 0].tolist():
        other = (i + count // 2) % count
        region = pasted_region(
            source.labels[other], source.reliability[other], first_foreground, generator
        )
        if not region.any():
            continue  # no foreground to paste: a photo as any other
        pasted[i] = region
        photos[i] = torch.where(region, batch.photos[other], batch.photos[i])
        labels[i] = torch.where(region, source.labels[other], base.labels[i])
        reliability[i] = torch.where(region, source.reliability[other], base.reliability[i])
    return Batch(photos, labels, reliability), pasted


def boundary(region: Tensor, size: int = 1) -> Tensor:
    """Pixels at most `size` away from a pixel across the region's edge: [B, H, W] bool, as `region`.

    Distances are counted along the longer axis. The photo's own edge is no boundary.
    """
    inside = region[:, None].float()
    window: dict[str, Any] = {"kernel_size": 2 * size + 1, "stride": 1, "padding": size}
    dilated = F.max_pool2d(inside, **window)
    eroded = -F.max_pool2d(-inside, **window)
    return (dilated > eroded)[:, 0]


def boundary_weights(region: Tensor, size: int = 1, extra: float = 0.2) -> Tensor:
    """Weights of the supervised terms: 1 + extra at the region's boundary, else 1; [B, H, W]."""
    return 1 + extra * boundary(region, size).float()


def cotraining_loss(
    logits: Tensor, other_logits: Tensor, labels: Tensor, reliability: Tensor, weights: Tensor
) -> Tensor:
    """One network's loss: the label where it is reliable, the other network's arg max elsewhere.

    logits, other_logits: [B, C, H, W]; labels, reliability: as in Batch; weights: [B, H, W], of the
    supervised terms alone. The mean is over all pixels, those without a term included.
    """
    reliable = reliability == 1
    target = torch.where(reliable, labels, other_logits.detach().argmax(1))
    target = target.masked_fill(reliability == NOTHING, NOTHING)
    losses = F.cross_entropy(logits, target, ignore_index=NOTHING, reduction="none")
    return (losses * torch.where(reliable, weights, 1.0)).mean()


# -- strong colour augmentation


def strong_colours(photos: Tensor, generator: Generator | None = None) -> Tensor:
    """Each photo with colours, saturation and sharpness of its own: [B, 3, H, W] RGB in [0, 1].

    With probability 0.8 brightness, contrast, hue, saturation and value change together, as much as
    albumentations' defaults, which the authors' code uses; with 0.2 the photo is grey, with 0.5
    blurred.
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
    # widths 3 and 5, with the deviations that OpenCV gives them
    sigma = torch.where(draw(0, 1) < 0.5, 0.8, 1.1)
    return torch.where(draw(0, 1) < 0.5, blurred(photos, sigma), photos)


def to_hsv(photos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue, saturation and value in [0, 1], [B, H, W] each, of RGB photos [B, 3, H, W] in [0, 1]."""
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
    """The inverse of `to_hsv`."""
    channels = []
    for place in (5, 3, 1):
        k = (place + 6 * hue) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)


def blurred(photos: Tensor, sigma: Tensor) -> Tensor:
    """Each photo under a Gaussian of five pixels and its own deviation [B, 1, 1, 1]."""
    count, channels, height, width = photos.shape
    steps = torch.arange(-2, 3, device=photos.device)
    line = torch.exp(-(steps**2) / (2 * sigma.view(-1, 1) ** 2))  # [B, 5]
    line = line / line.sum(1, keepdim=True)
    kernels = (line[:, :, None] * line[:, None, :]).repeat_interleave(channels, 0)[:, None]
    padded = F.pad(photos, (2, 2, 2, 2), mode="reflect")
    flat = padded.reshape(1, count * channels, height + 4, width + 4)
    return F.conv2d(flat, kernels, groups=count * channels).view_as(photos)
