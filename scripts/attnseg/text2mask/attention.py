"""Cross- and self-attention of one pass of a denoiser (Text2Mask, Section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel

from attnseg.backbones.interface import Denoiser, Text
from attnseg.backbones.stable_diffusion import UNet
from attnseg.core.attention import block_crosses, grid_of, propagate, self_affinity, token_weights
from attnseg.core.boxes import box_mask
from attnseg.core.maps import min_max


@dataclass
class Record:
    """What one pass computed for a sample, kept on the model's device: maps with another number of
    propagations need no further pass.

    `crosses`: each block's map of each class, [blocks, K, h', w'] float32. `query`, `key`: of the
    self-attention, [heads, N, d] with N = h' w'.
    """

    crosses: torch.Tensor
    query: torch.Tensor
    key: torch.Tensor

    def selfcross(self, iterations: int) -> torch.Tensor:
        """Self^iterations . Cross, [K, h', w'] float32 on the CPU; Cross itself for 0."""
        return spread(self.query, self.key, self.crosses.mean(0), iterations)

    @torch.no_grad()
    def attended(self, cell: int) -> torch.Tensor:
        """What a cell attends to: its row of Self, [h', w'] float32 on the CPU; its sum is 1."""
        row = self_affinity(self.query[None, :, cell : cell + 1], self.key[None])[0, 0]
        return row.unflatten(0, self.crosses.shape[2:]).cpu()


@torch.no_grad()
def spread(
    query: torch.Tensor, key: torch.Tensor, maps: torch.Tensor, iterations: int
) -> torch.Tensor:
    """Maps [K, h', w'] propagated by a sample's self-attention, on the CPU."""
    columns = maps.flatten(1).T[None]
    spread = propagate(query[None], key[None], columns, iterations)[0]
    return spread.T.unflatten(1, maps.shape[1:]).contiguous().cpu()


@dataclass
class AttentionMaps:
    """Attention maps of one sample: [K, h', w'] float32 on the CPU, before min-max normalisation.

    `affinity`: self-attention averaged over heads, [N, N] with N = h' w', if requested. `unboxed`:
    indices of the classes whose boxes were empty, which the box mask therefore left unchanged.
    `record`: if requested.
    """

    cross: torch.Tensor
    selfcross: torch.Tensor
    affinity: torch.Tensor | None = None
    unboxed: Sequence[int] = ()
    record: Record | None = None


@torch.no_grad()
def attention_maps(
    unet: UNet2DConditionModel | Denoiser,
    noisy_latents: torch.Tensor,
    timesteps: torch.Tensor | int,
    text_embeddings: torch.Tensor | Text,
    token_positions: Sequence[Sequence[Sequence[int]]],
    *,
    cross_blocks: Sequence[int] = (4, 5, 6, 7, 8),
    self_block: int = 11,
    iterations: int = 2,
    box_threshold: float | None = None,
    with_affinity: bool = False,
    with_record: bool = False,
) -> list[AttentionMaps]:
    """Compute Cross and SelfCross of each sample (Equations 2 and 3).

    The forward pass is stopped after the last block that is needed.

    Args:
        unet: a diffusers UNet2DConditionModel of Stable Diffusion 1.x or 2.x, or a backbone.
        noisy_latents: [B, C, h, w].
        timesteps: [B], or one for all; in [0, 999].
        text_embeddings: [B, L, D], or the result of a backbone's `encode_text`.
        token_positions: per sample, per class, a list of positions in [0, L), where 0 is the
            beginning-of-text token. Samples may differ in their number of classes.
        cross_blocks: blocks whose cross-attention is averaged, on the grid of `self_block`. Blocks
            are numbered in forward order; see a backbone's `default_blocks`.
        self_block: block whose self-attention propagates the maps.
        iterations: number of propagations.
        box_threshold: in [0, 1]; if given, maps are min-max normalised and masked by boxes before
            the propagation, as in the official code.
        with_affinity: also return the self-attention matrices.
        with_record: also return what other numbers of propagations are computed from.

    Returns:
        One `AttentionMaps` per sample.

    Raises:
        UserError: if the model lacks a block.
    """
    model = unet if isinstance(unet, Denoiser) else UNet(unet)
    text = text_embeddings if isinstance(text_embeddings, Text) else Text(text_embeddings)
    blocks = model.select(cross_blocks, self_block)
    with model.record(blocks) as seen:
        model.denoise(noisy_latents, timesteps, text)
    *recorded, self_ = (seen[block] for block in blocks)
    latent = (noisy_latents.shape[-2], noisy_latents.shape[-1])
    grid = grid_of(self_.query.shape[2], *latent)
    weights = token_weights(token_positions, text.hidden.shape[1]).to(self_.query.device)
    pairs = [(cross.query, cross.key) for cross in recorded]
    blocks_maps = block_crosses(pairs, weights, latent, grid)
    maps = blocks_maps.mean(0)
    results = []
    for i, classes in enumerate(token_positions):
        crosses = maps[i, : len(classes)]
        seeds = crosses
        unboxed: list[int] = []
        if box_threshold is not None:
            seeds = min_max(crosses)
            boxes, unboxed = box_mask(seeds.cpu(), box_threshold)
            seeds = seeds * boxes.to(seeds)
        query, key = self_.query[i], self_.key[i]
        affinity = self_affinity(query[None], key[None])[0].cpu() if with_affinity else None
        record = None
        if with_record:
            record = Record(blocks_maps[:, i, : len(classes)].clone(), query.clone(), key.clone())
        results.append(
            AttentionMaps(
                cross=crosses.cpu(),
                selfcross=spread(query, key, seeds, iterations),
                affinity=affinity,
                unboxed=unboxed,
                record=record,
            )
        )
    return results
