"""The algebra of attention maps (Text2Mask, Section 3.2): tensors in, tensors out."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F


def token_weights(token_positions: Sequence[Sequence[Sequence[int]]], length: int) -> torch.Tensor:
    """[B, L, K] float32: column k averages over the tokens of class k; K is the largest number."""
    count = max(len(classes) for classes in token_positions)
    weights = torch.zeros(len(token_positions), length, count)
    for i, classes in enumerate(token_positions):
        for k, positions in enumerate(classes):
            for position in positions:
                weights[i, position, k] += 1 / len(positions)
    return weights


def cross_map(query: torch.Tensor, key: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over heads of the softmax over all tokens, averaged a class: [B, N, K] float32.

    `query`: [B, heads, N, d]; `key`: [B, heads, L, d]; `weights`: [B, L, K].
    """
    scores = query.float() @ key.float().transpose(-1, -2) / math.sqrt(query.shape[-1])
    return scores.softmax(-1).mean(1) @ weights


def self_affinity(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Mean over heads of the self-attention: [B, N, N] float32, rows sum to 1."""
    scores = query.float() @ key.float().transpose(-1, -2) / math.sqrt(query.shape[-1])
    return scores.softmax(-1).mean(1)


def propagate(
    query: torch.Tensor, key: torch.Tensor, maps: torch.Tensor, iterations: int
) -> torch.Tensor:
    """Self^iterations . maps (Equation 3), without forming Self.

    The mean over heads of softmax(q k^T) x is attention with the maps as its values. They are
    padded with zeros to the width of the heads, so that the fast kernels take them. As the rows of
    Self sum to 1, each map is taken to [0, 1] and back, which half precision needs where it is flat.

    `query`, `key`: [B, heads, N, d]; `maps`: [B, N, K] float32; returns the same shape.
    """
    width = query.shape[-1]
    for _ in range(iterations):
        low = maps.amin(1, keepdim=True)
        spread = (maps.amax(1, keepdim=True) - low).clamp_min(1e-30)
        columns = []
        for part in ((maps - low) / spread).split(width, dim=-1):
            value = F.pad(part, (0, width - part.shape[-1])).to(query.dtype)
            value = value[:, None].expand(-1, query.shape[1], -1, -1)
            mixed = F.scaled_dot_product_attention(query, key, value)
            columns.append(mixed.float().mean(1)[..., : part.shape[-1]])
        maps = torch.cat(columns, -1) * spread + low
    return maps


def grid_of(cells: int, height: int, width: int) -> tuple[int, int]:
    """The grid of `cells` cells that halvings (rounded up) of height x width lead to."""
    while height * width > cells:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != cells:
        raise ValueError(f"{cells} cells are no halving of the latent's grid")
    return height, width


def resize(maps: torch.Tensor, latent: tuple[int, int], grid: tuple[int, int]) -> torch.Tensor:
    """Bilinear (align_corners False) from a block's own grid: [B, N, K] -> [B, K, *grid]."""
    own = grid_of(maps.shape[1], *latent)
    images = maps.transpose(1, 2).unflatten(2, own)
    return F.interpolate(images, grid, mode="bilinear", align_corners=False)


def averaged_cross(
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]],
    weights: torch.Tensor,
    latent: tuple[int, int],
    grid: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Class maps averaged over blocks: [B, K, *grid] float32.

    `pairs`: a block's query and key, as `cross_map` takes them. `grid`: the finest of theirs where
    none is given. `latent`: height and width.
    """
    if grid is None:
        grid = grid_of(max(query.shape[2] for query, _ in pairs), *latent)
    return torch.stack(
        [resize(cross_map(query, key, weights), latent, grid) for query, key in pairs]
    ).mean(0)
