"""Cross- and self-attention of one U-Net forward pass (Text2Mask, Section 3.2).

Transformer blocks are numbered in forward order over the whole U-Net; Stable Diffusion 1.x has 16.
Only the blocks asked for are watched, everything else keeps its fast attention, and the pass is
stopped after the last watched attention.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock

from attnseg.core.maps import min_max
from attnseg.diffusion.boxes import box_mask
from attnseg.errors import UserError


@dataclass
class AttentionMaps:
    """Maps of one sample: [K, h', w'] float32 on the CPU, before min-max.

    `affinity` is the self-attention averaged over heads, [N, N] with N = h' w', where asked for.
    `unboxed` are the classes, by index, that the box mask would have left without a pixel.
    """

    cross: torch.Tensor
    selfcross: torch.Tensor
    affinity: torch.Tensor | None = None
    unboxed: Sequence[int] = ()


class _Stop(Exception):
    """Raised inside the U-Net once everything watched has been seen."""


class _Watch:
    """An attention processor that computes attention and keeps its queries and keys."""

    def __init__(self, last: bool):
        self.last = last
        self.query = self.key = None  # [B, heads, N, d]

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, *_, **__):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if attn.norm_cross and encoder_hidden_states is not None:
            context = attn.norm_encoder_hidden_states(context)
        self.query = split_heads(attn.to_q(hidden_states), attn.heads)
        self.key = split_heads(attn.to_k(context), attn.heads)
        if self.last:
            raise _Stop
        value = split_heads(attn.to_v(context), attn.heads)
        mixed = F.scaled_dot_product_attention(self.query, self.key, value, scale=attn.scale)
        mixed = mixed.transpose(1, 2).reshape(hidden_states.shape)
        return attn.to_out[1](attn.to_out[0](mixed)) / attn.rescale_output_factor


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, N, heads * d] -> [B, heads, N, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def transformer_blocks(unet: torch.nn.Module) -> list[BasicTransformerBlock]:
    """The transformer blocks of a UNet2DConditionModel in forward order."""
    parts = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    return [
        module
        for part in parts
        if part is not None
        for module in part.modules()
        if isinstance(module, BasicTransformerBlock)
    ]


def check_blocks(unet: torch.nn.Module, cross_blocks: Sequence[int], self_block: int) -> None:
    """Raise a `UserError` that lists the U-Net's blocks where a number is none of them."""
    count = len(transformer_blocks(unet))
    wrong = [block for block in (*cross_blocks, self_block) if not 0 <= block < count]
    if wrong or not cross_blocks:
        raise UserError(
            f"attention blocks {wrong or 'for Cross: none given'}: this U-Net has blocks 0 to "
            f"{count - 1} ({describe_blocks(unet)}); set model.cross_blocks and model.self_block"
        )


def block_levels(unet: torch.nn.Module) -> list[int]:
    """A block how often the latent's grid is halved there: 0, 0, 1, 1, 2, 2, 3, 2, ..."""
    depth = len(unet.down_blocks)
    levels = [*range(depth), depth - 1, *reversed(range(depth))]
    parts = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    return [
        level
        for part, level in zip(parts, levels, strict=True)
        if part is not None
        for module in part.modules()
        if isinstance(module, BasicTransformerBlock)
    ]


def default_blocks(unet: torch.nn.Module) -> tuple[tuple[int, ...], int]:
    """Cross blocks and the Self block to use where none are configured.

    The paper's for Stable Diffusion's 16 blocks; else Self is where the decoder reaches the finest
    grid, and Cross are the blocks right before it, on a coarser one.
    """
    levels = block_levels(unet)
    if len(levels) == 16:
        return (4, 5, 6, 7, 8), 11
    runs = [len(list(group)) for _, group in itertools.groupby(levels)]
    self_block = len(levels) - runs[-1]
    first = self_block - runs[-2] if len(runs) > 1 else 0
    return tuple(range(first, self_block)) or (0,), self_block


def describe_blocks(unet: torch.nn.Module) -> str:
    """The blocks and their share of the latent's resolution, as ``0-1: 1/1, 2-3: 1/2, ...``."""
    told, first = [], 0
    for level, group in itertools.groupby(block_levels(unet)):
        last = first + len(list(group)) - 1
        told.append(f"{first}{f'-{last}' if last > first else ''}: 1/{2**level}")
        first = last + 1
    return ", ".join(told)


@contextmanager
def watched(
    unet: torch.nn.Module, cross_blocks: Sequence[int], self_block: int | None, stop: bool
) -> Iterator[tuple[dict[int, _Watch], _Watch | None]]:
    """Watch the cross-attention of some blocks and the self-attention of one.

    With `stop`, the last of them ends the forward pass by an exception. The processors that were
    there before come back at the end. Fold Custom Diffusion's weights into the projections first:
    its processors are replaced here.
    """
    blocks = transformer_blocks(unet)
    order = [(block, 1) for block in cross_blocks]  # within a block, self comes before cross
    if self_block is not None:
        order.append((self_block, 0))
    last = max(order) if stop else None
    cross = {block: _Watch(last == (block, 1)) for block in cross_blocks}
    self_ = None if self_block is None else _Watch(last == (self_block, 0))
    places = [(blocks[block].attn2, watch) for block, watch in cross.items()]
    if self_ is not None:
        places.append((blocks[self_block].attn1, self_))
    before = [attention.processor for attention, _ in places]
    for attention, watch in places:
        attention.processor = watch
    try:
        yield cross, self_
    finally:
        for (attention, _), processor in zip(places, before, strict=True):
            attention.processor = processor


def attention_maps(
    unet: torch.nn.Module,
    noisy_latents: torch.Tensor,
    timesteps: torch.Tensor | int,
    text_embeddings: torch.Tensor,
    token_positions: Sequence[Sequence[Sequence[int]]],
    *,
    cross_blocks: Sequence[int] = (4, 5, 6, 7, 8),
    self_block: int = 11,
    iterations: int = 2,
    box_threshold: float | None = None,
    with_affinity: bool = False,
) -> list[AttentionMaps]:
    """Cross and SelfCross of each sample (Equations 2 and 3).

    Args:
        unet: a diffusers UNet2DConditionModel.
        noisy_latents: [B, C, h, w].
        timesteps: [B], or one for all.
        text_embeddings: [B, L, D].
        token_positions: per sample a list, per class a list of positions in the L tokens
            (the beginning-of-text token is 0). Samples may have different numbers of classes.
        cross_blocks: blocks whose cross-attention is averaged on the grid of `self_block`.
        self_block: block whose self-attention propagates.
        iterations: how often it does.
        box_threshold: with it, the official code's min-max and box mask before propagation.
        with_affinity: also return the self-attention matrices.

    Raises:
        UserError: for a block that the U-Net does not have.
    """
    check_blocks(unet, cross_blocks, self_block)
    with torch.no_grad(), watched(unet, cross_blocks, self_block, stop=True) as (cross, self_):
        try:
            unet(noisy_latents, timesteps, encoder_hidden_states=text_embeddings)
        except _Stop:
            pass
        height, width = noisy_latents.shape[-2:]
        grid = grid_of(self_.query.shape[2], height, width)
        weights = token_weights(token_positions, text_embeddings.shape[1]).to(noisy_latents.device)
        maps = torch.stack(
            [
                resize(cross_map(watch.query, watch.key, weights), (height, width), grid)
                for watch in cross.values()
            ]
        ).mean(0)  # [B, K, h', w']
        results = []
        for i, classes in enumerate(token_positions):
            crosses = maps[i, : len(classes)]
            seeds, unboxed = crosses, []
            if box_threshold is not None:
                seeds = min_max(crosses)
                boxes, unboxed = box_mask(seeds.cpu(), box_threshold)
                seeds = seeds * boxes.to(seeds)
            query, key = self_.query[i : i + 1], self_.key[i : i + 1]
            spread = propagate(query, key, seeds.flatten(1).T[None], iterations)[0]
            affinity = self_affinity(query, key)[0].cpu() if with_affinity else None
            results.append(
                AttentionMaps(
                    cross=crosses.cpu(),
                    selfcross=spread.T.unflatten(1, grid).contiguous().cpu(),
                    affinity=affinity,
                    unboxed=unboxed,
                )
            )
    return results


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
