"""The algebra of attention maps (Text2Mask, Section 3.2): tensors in, tensors out."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F


def token_weights(token_positions: Sequence[Sequence[Sequence[int]]], length: int) -> torch.Tensor:
    """Weights that average a map over each class's tokens: [B, L, K] float32.

    `token_positions`: per sample, per class, the positions of its tokens among L = `length`. K is
    the largest number of classes in a sample; the columns of absent classes are 0.
    """
    count = max(len(classes) for classes in token_positions)
    weights = torch.zeros(len(token_positions), length, count)
    for i, classes in enumerate(token_positions):
        for k, positions in enumerate(classes):
            for position in positions:
                weights[i, position, k] += 1 / len(positions)
    return weights


def cross_map(query: torch.Tensor, key: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-attention per class (Equation 2): [B, N, K] float32.

    The softmax over all tokens, averaged over heads and over the tokens of each class.

    `query`: [B, heads, N, d]; `key`: [B, heads, L, d]; `weights`: [B, L, K].
    """
    scores = query.float() @ key.float().transpose(-1, -2) / math.sqrt(query.shape[-1])
    return scores.softmax(-1).mean(1) @ weights


def self_affinity(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Self-attention averaged over heads: [B, N, N] float32, rows sum to 1."""
    scores = query.float() @ key.float().transpose(-1, -2) / math.sqrt(query.shape[-1])
    return scores.softmax(-1).mean(1)


def propagate(
    query: torch.Tensor, key: torch.Tensor, maps: torch.Tensor, iterations: int
) -> torch.Tensor:
    """Return Self^iterations . maps (Equation 3) without forming Self.

    The mean over heads of softmax(q k^T) x is attention with the maps as values. They are padded
    with zeros to the width of the heads, so that fast kernels apply. Each map is scaled to [0, 1]
    and back, which is exact since the rows of Self sum to 1, and keeps nearly flat maps from being
    lost in half precision.

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
    """(height, width) of the grid with `cells` cells that repeated halving, rounded up, yields.

    Raises:
        ValueError: if no halving of `height` x `width` has that many cells.
    """
    while height * width > cells:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != cells:
        raise ValueError(f"{cells} cells: not a halving of the latent's grid")
    return height, width


def resize(maps: torch.Tensor, latent: tuple[int, int], grid: tuple[int, int]) -> torch.Tensor:
    """Resize maps from a block's own grid, bilinearly: [B, N, K] -> [B, K, *grid]."""
    own = grid_of(maps.shape[1], *latent)
    images = maps.transpose(1, 2).unflatten(2, own)
    return F.interpolate(images, grid, mode="bilinear", align_corners=False)


def averaged_cross(
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]],
    weights: torch.Tensor,
    latent: tuple[int, int],
    grid: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Class maps averaged over blocks: [B, K, *grid] float32; the arguments are `block_crosses`'s."""
    return block_crosses(pairs, weights, latent, grid).mean(0)


def block_crosses(
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]],
    weights: torch.Tensor,
    latent: tuple[int, int],
    grid: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Class maps of each block: [blocks, B, K, *grid] float32.

    `pairs`: each block's query and key, as `cross_map` takes them. `latent`: its height and width.
    `grid`: of the result; by default the finest among the blocks.
    """
    if grid is None:
        grid = grid_of(max(query.shape[2] for query, _ in pairs), *latent)
    return torch.stack(
        [resize(cross_map(query, key, weights), latent, grid) for query, key in pairs]
    )
