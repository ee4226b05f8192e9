"""The algebra of attention maps (Text2Mask, Section 3.2): tensors in, tensors out."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F


class SelfInputs(NamedTuple):
    """What the self-attention of a block is computed from.

    `query`: [B, heads, N, d]; `key`: the same, in joint attention [B, heads, L + N, d]; `mask`: as
    `scaled_dot_product_attention` takes it; `around`: see `joint_map`.
    """

    query: torch.Tensor
    key: torch.Tensor
    mask: torch.Tensor | None = None
    around: tuple[int, int] = (0, 0)


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


def cross_map(
    query: torch.Tensor,
    key: torch.Tensor,
    weights: torch.Tensor,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-attention per class (Equation 2): [B, N, K] float32.

    The softmax over all tokens, averaged over heads and over the tokens of each class.

    `query`: [B, heads, N, d]; `key`: [B, heads, L, d]; `weights`: [B, L, K]; `mask`: added to the
    scores, [B, heads or 1, N or 1, L].
    """
    scores = query.float() @ key.float().transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores + mask.float()
    return scores.softmax(-1).mean(1) @ weights


def self_affinity(blocks: Sequence[SelfInputs]) -> torch.Tensor:
    """Self, as `propagate` applies it: [B, N, N] float32, rows sum to 1."""
    return torch.stack([_affinity(*block) for block in blocks]).mean(0)


def _affinity(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, around: tuple[int, int]
) -> torch.Tensor:
    scores = query.float() @ key.float().transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    whole = scores.softmax(-1).mean(1)
    if not any(around):
        return whole
    image = whole[..., around[0] : whole.shape[-1] - around[1]]
    return image / image.sum(-1, keepdim=True)


def with_less_entropy(affinity: torch.Tensor, step: float) -> torch.Tensor:
    """Self after a step down the gradient of its entropy (iSeg, arXiv 2409.03209): [B, N, N] float32.

    Weak responses vanish: with p a response in shares of the largest to the same cell, it becomes
    max(0, p + step log10(e p)). Rows sum to 1 again, or to 0 where nothing is left.
    """
    shares = affinity / affinity.amax(1, keepdim=True).clamp_min(
        1e-30
    )  # to cells that none attends to
    stepped = shares + step * (math.e * shares).log10()
    return F.normalize(stepped.clamp_min(0), p=1, dim=-1, eps=1e-30)


def attended(
    query: torch.Tensor, key: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """The mean over heads of softmax(q k^T) values, without forming a matrix: [B, N, K] float32.

    It is attention with the same values in each head. They are padded with zeros to the width of the
    heads, so that fast kernels apply.

    `query`: [B, heads, N, d]; `key`: [B, heads, L, d]; `values`: [B, L, K] float32; `mask`: as
    `scaled_dot_product_attention` takes it.
    """
    width = query.shape[-1]
    columns = []
    for part in values.split(width, dim=-1):
        value = F.pad(part, (0, width - part.shape[-1])).to(query.dtype)
        value = value[:, None].expand(-1, query.shape[1], -1, -1)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        columns.append(mixed.float().mean(1)[..., : part.shape[-1]])
    return torch.cat(columns, -1)


def joint_map(
    query: torch.Tensor,
    key: torch.Tensor,
    weights: torch.Tensor,
    first: int,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention per class of an image's tokens in joint attention (Seg4Diff): [B, N, K] float32.

    The softmax over all keys, the image's as well, averaged over heads and over the tokens of each
    class.

    `query`: [B, heads, N, d] of the image; `key`: [B, heads, M, d] of image, text and any fillers;
    `weights`: [B, L, K]; `first`: the place of the text's first token among the M.
    """
    rest = (
        key.shape[2] - first - weights.shape[1]
    )  # negative where padding of the text was left out
    return attended(query, key, F.pad(weights, (0, 0, first, rest)), mask)


def propagate(
    blocks: Sequence[SelfInputs], maps: torch.Tensor, iterations: int, entropy_step: float = 0
) -> torch.Tensor:
    """Return Self^iterations . maps (Equation 3), without forming Self if its entropy is as it is.

    Each map is scaled to [0, 1] and back, which is exact since the rows of Self sum to 1, and keeps
    nearly flat maps from being lost in half precision. In joint attention Self is the mean over heads
    of the image's part of the softmax over all keys, each row then divided by its sum. Of several
    blocks it is their mean.

    `maps`: [B, N, K] float32; `entropy_step`: see `with_less_entropy`. Returns [B, N, K] float32.
    """
    if entropy_step:
        matrix = with_less_entropy(self_affinity(blocks), entropy_step)
        for _ in range(iterations):
            maps = matrix @ maps
        return maps
    ones = torch.ones_like(maps[..., :1])
    shares = [
        attended(q, k, _padded(ones, at), mask) if any(at) else 1 for q, k, mask, at in blocks
    ]
    for _ in range(iterations):
        low = maps.amin(1, keepdim=True)
        spread = (maps.amax(1, keepdim=True) - low).clamp_min(1e-30)
        scaled = (maps - low) / spread
        mixed = [
            attended(query, key, _padded(scaled, around), mask) / share
            for (query, key, mask, around), share in zip(blocks, shares, strict=True)
        ]
        maps = torch.stack(mixed).mean(0) * spread + low
    return maps


def _padded(values: torch.Tensor, around: tuple[int, int]) -> torch.Tensor:
    """An image's values [B, N, K] among zeros at the text's keys: [B, L + N, K]."""
    return F.pad(values, (0, 0, *around))


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


def on_one_grid(
    maps: Sequence[torch.Tensor],
    latent: tuple[int, int],
    grid: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Class maps [B, N, K] of each block on one grid: [blocks, B, K, *grid] float32.

    `latent`: its height and width. `grid`: of the result; by default the finest among the blocks.
    """
    if grid is None:
        grid = grid_of(max(one.shape[1] for one in maps), *latent)
    return torch.stack([resize(one, latent, grid) for one in maps])
