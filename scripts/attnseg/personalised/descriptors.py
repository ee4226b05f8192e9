"""Image-matching baselines: compare features of a subject's photos with those of a scene.

They use no text. Features are [D, h, w]; similarities are cosines.
"""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from attnseg.errors import UserError

if TYPE_CHECKING:
    from transformers import ViTModel

Features = Callable[[np.ndarray], torch.Tensor]  # [H, W, 3] uint8 -> [D, h, w], unit length a cell
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Absent(UserError):
    """A model that only one method needs cannot be loaded."""


def normalised(image: np.ndarray) -> torch.Tensor:
    """Normalise with ImageNet's mean and deviation: [H, W, 3] uint8 -> [1, 3, H, W] float32."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels - mean) / std


def segmentor_features(weights: Path) -> tuple[Features, str]:
    """Second-stage backbone features of a segmentor trained by this workflow, and their name."""
    from attnseg.segmentation.model import load_segmentor

    model, about = load_segmentor(weights)

    @torch.no_grad()
    def features(image: np.ndarray) -> torch.Tensor:
        # enlarged, because a mug of 20 pixels would have few cells
        pixels = F.interpolate(normalised(image), scale_factor=2, mode="bilinear")
        return F.normalize(model.backbone(pixels)[1][0].float(), dim=0)

    settings = about["settings"]
    return (
        features,
        f"{settings['backbone']} of a {settings['architecture']} of {about.get('dataset')}",
    )


class DinoFeatures:
    """Keys of one layer of a self-supervised ViT (Amir et al. 2021: layer 9 of DINO ViT-S/8)."""

    def __init__(self, model: "ViTModel", layer: int = 9, side: int = 448):
        if not 0 <= layer < len(model.layers):
            raise UserError(f"the ViT has layers 0 to {len(model.layers) - 1}, not {layer}")
        self.model, self.layer, self.side = model.eval(), layer, side
        self.saliency: torch.Tensor | None = None  # [h, w], of the last photo

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> torch.Tensor:
        """Resize the short side to `side`; also set `saliency` to the class token's attention."""
        patch = self.model.config.patch_size
        scale = self.side / min(image.shape[:2])
        size = [max(1, round(n * scale / patch)) * patch for n in image.shape[:2]]
        pixels = F.interpolate(normalised(image), size, mode="bilinear", antialias=True)
        seen: dict[str, torch.Tensor] = {}
        attention, last = self.model.layers[self.layer].attention, self.model.layers[-1].attention
        hooks = [
            attention.k_proj.register_forward_hook(lambda *a: seen.update(described=a[2])),
            last.q_proj.register_forward_hook(lambda *a: seen.update(query=a[2])),
            last.k_proj.register_forward_hook(lambda *a: seen.update(key=a[2])),
        ]
        try:
            device = next(self.model.parameters()).device
            self.model(pixels.to(device), interpolate_pos_encoding=True)
        finally:
            for hook in hooks:
                hook.remove()
        grid = (size[0] // patch, size[1] // patch)
        heads = last.num_attention_heads
        query, key = (seen[name][0].float().unflatten(-1, (heads, -1)) for name in ("query", "key"))
        weights = (
            torch.einsum("hd,nhd->hn", query[0], key) / key.shape[-1] ** 0.5
        )  # of the CLS token
        self.saliency = weights.softmax(-1).mean(0)[1:].unflatten(0, grid).cpu()
        described = seen["described"][0, 1:].float().cpu()
        return F.normalize(described.T.unflatten(1, grid), dim=0)


def absent(path: str, kind: str, error: Exception) -> Absent:
    """What is said where a model cannot be loaded."""
    reason = (str(error).strip().splitlines() or [""])[0][:150]
    if isinstance(error, pickle.UnpicklingError):
        reason = "a pickle of more than weights, which is never read"
    return Absent(f"{path}: no {kind} can be loaded from there ({reason})")


def load_dino(path: str, device: torch.device | str = "cpu", **options: Any) -> DinoFeatures:
    """`path`: a folder or hub id of a ViTModel, as facebook/dino-vits8."""
    from transformers import ViTModel

    try:
        model = ViTModel.from_pretrained(path, add_pooling_layer=False)
    except Exception as error:  # transformers, torch and safetensors raise many types
        raise absent(path, "ViT", error) from None
    return DinoFeatures(model.to(device), **options)


def inside(features: torch.Tensor, mask: np.ndarray) -> torch.Tensor:
    """The cells that a mask covers, or the one it covers most: [D, h, w], [H, W] bool -> [D, n]."""
    share = F.adaptive_avg_pool2d(
        torch.from_numpy(mask)[None].float(), (features.shape[1], features.shape[2])
    )[0]
    chosen = share >= min(0.5, float(share.max()))
    return features[:, chosen]


def box_of(mask: np.ndarray) -> np.ndarray:
    """Filled bounding box of a mask: [H, W] bool -> [H, W] bool."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.zeros_like(mask)
    if len(rows):
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def pooled_similarity(subject: Sequence[torch.Tensor], region: torch.Tensor) -> float:
    """Cosine of a region's mean feature and each photo's, averaged over photos; [D, m], [D, n] each."""
    mean = F.normalize(region.mean(1), dim=0)
    return float(np.mean([float(F.normalize(cells.mean(1), dim=0) @ mean) for cells in subject]))


def dense_similarity(subject: Sequence[torch.Tensor], region: torch.Tensor) -> float:
    """Best cosine of each cell of a region among the photos' cells, averaged; [D, m], [D, n] each."""
    known = torch.cat(list(subject), 1)  # [D, n]
    return float((known.T @ region).amax(0).mean())
