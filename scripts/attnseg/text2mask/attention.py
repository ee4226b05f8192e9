"""Cross- and self-attention of one pass of a denoiser (Text2Mask, Section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel

from attnseg.backbones.capture import Seen
from attnseg.backbones.concepts import Concepts, Stream
from attnseg.backbones.interface import Block, Denoiser, Text
from attnseg.backbones.stable_diffusion import UNet
from attnseg.core.attention import (
    SelfInputs,
    cross_map,
    grid_of,
    joint_map,
    on_one_grid,
    propagate,
    self_affinity,
    token_weights,
)
from attnseg.core.boxes import box_mask
from attnseg.core.maps import min_max
from attnseg.errors import UserError


@dataclass
class Record:
    """What one pass computed for a sample, kept on the model's device: maps with another number of
    propagations need no further pass.

    `crosses`: each block's map of each class, [blocks, K, h', w'] float32. `selves`: of the blocks whose
    self-attention propagates them, none if the model has none; `entropy_step`: as of `attention_maps`.
    """

    crosses: torch.Tensor
    selves: list[SelfInputs]
    entropy_step: float = 0

    def selfcross(self, iterations: int) -> torch.Tensor:
        """Self^iterations . Cross, [K, h', w'] float32 on the CPU; Cross itself for 0."""
        return spread(self.crosses.mean(0), self.selves, iterations, self.entropy_step)

    @torch.no_grad()
    def attended(self, cell: int) -> torch.Tensor:
        """What a cell attends to: its row of Self, [h', w'] float32 on the CPU; its sum is 1.

        Raises:
            UserError: if the model has no self-attention.
        """
        if not self.selves:
            raise UserError("this model has no self-attention to show")
        rows = [block._replace(query=block.query[:, :, cell : cell + 1]) for block in self.selves]
        row = self_affinity(rows)[0, 0]
        return row.unflatten(0, self.crosses.shape[2:]).cpu()


@torch.no_grad()
def spread(
    maps: torch.Tensor, selves: Sequence[SelfInputs], iterations: int, entropy_step: float = 0
) -> torch.Tensor:
    """Maps [K, h', w'] propagated by a sample's self-attention, on the CPU; as they are without one."""
    if not selves:
        return maps.contiguous().cpu()
    columns = propagate(selves, maps.flatten(1).T[None], iterations, entropy_step)[0]
    return columns.T.unflatten(1, maps.shape[1:]).contiguous().cpu()


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
    cross_blocks: Sequence[int | str] = (4, 5, 6, 7, 8),
    self_block: int | str | Sequence[int | str] | None = 11,
    iterations: int = 2,
    entropy_step: float = 0,
    box_threshold: float | None = None,
    with_affinity: bool = False,
    concepts: Concepts | None = None,
    with_record: bool = False,
) -> list[AttentionMaps]:
    """Compute Cross and SelfCross of each sample (Equations 2 and 3).

    In joint attention Cross is from the image to the text, with the softmax over all keys, and Self
    from the image to the image. The forward pass is stopped after the last block that is needed; of a
    block no more is kept than the class maps, and of `self_block` the query and key.

    Args:
        unet: a diffusers UNet2DConditionModel of Stable Diffusion 1.x or 2.x, or a backbone.
        noisy_latents: [B, C, h, w].
        timesteps: [B], or one for all; in [0, 999].
        text_embeddings: [B, L, D], or the result of a backbone's `encode_text`.
        token_positions: per sample, per class, a list of positions in [0, L), where 0 is CLIP's
            beginning-of-text token. Samples may differ in their number of classes.
        cross_blocks: blocks whose cross-attention is averaged, on the grid of `self_block`: numbers
            in forward order, or places, as "1/4 decoder"; see a backbone's `default_blocks`.
        self_block: block whose self-attention propagates the maps, or several of one grid, whose mean
            does; None for a model without any: nothing is propagated, and the grid is the finest of
            `cross_blocks`.
        iterations: number of propagations.
        entropy_step: of `attnseg.core.attention.with_less_entropy`; 0 for Self as it is.
        box_threshold: in [0, 1]; if given, maps are min-max normalised and masked by boxes before
            the propagation, as in the official code.
        with_affinity: also return the self-attention matrices.
        concepts: Cross is read in the output space (ConceptAttention): each sample's classes, and what
            they are told from. Positions then count its classes alone.
        with_record: also return what other numbers of propagations are computed from.

    Returns:
        One `AttentionMaps` per sample.

    Raises:
        UserError: if the model lacks a block, or self-attention is asked for without one.
    """
    if with_affinity and self_block is None:
        raise UserError("self-attention is asked for (as cbp does), which this model does not have")
    model = unet if isinstance(unet, Denoiser) else UNet(unet)
    text = text_embeddings if isinstance(text_embeddings, Text) else Text(text_embeddings)
    chosen, own = model.select(cross_blocks, self_block)
    latent = (noisy_latents.shape[-2], noisy_latents.shape[-1])
    weights = token_weights(token_positions, text.hidden.shape[1]).to(model.device)

    watched, stream, passed = [*chosen, *own], None, 0
    if concepts is not None:
        passed = max(block.number for block in chosen) + 1
        stream = Stream(model, concepts, timesteps, passed)
        watched += [Block(number, "joint") for number in range(passed)]

    def keep(block: Block, seen: Seen) -> tuple[torch.Tensor | None, Seen | None]:
        """A block's class maps [B, N, K], and what propagates them."""
        halved = 2 ** model.blocks[block].halvings
        cells = -(-latent[0] // halved) * -(-latent[1] // halved)
        maps, (before, after) = None, model.around(block, seen.query.shape[2] - cells)
        if stream is not None and block.number < passed:
            heat = stream.heat(block.number, seen, (before, after))
            maps = heat if block in chosen else None
        if block.role == "joint":  # in float32, as a column is a small part of a row
            image = seen.query[:, :, before : seen.query.shape[2] - after]
            seen = Seen(image.float(), seen.key.float(), seen.mask)
            if block in chosen and stream is None:
                maps = joint_map(seen.query, seen.key, weights, model.first_word(cells), seen.mask)
        elif block in chosen:
            maps = cross_map(seen.query, seen.key, weights, seen.mask)
        return maps, seen if block in own else None

    with model.record(watched, values=stream is not None, keep=keep) as found:
        model.denoise(noisy_latents, timesteps, text)
    grid = grid_of(found[own[0]][1].query.shape[2], *latent) if own else None
    blocks_maps = on_one_grid([found[block][0] for block in chosen], latent, grid)
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
        selves = []
        for block in own:
            query, key, mask = found[block][1].inputs(slice(i, i + 1))
            around = model.around(block, key.shape[2] - query.shape[2])
            selves.append(SelfInputs(query, key, mask, around))
        results.append(
            AttentionMaps(
                cross=crosses.cpu(),
                selfcross=spread(seeds, selves, iterations, entropy_step),
                affinity=self_affinity(selves)[0].cpu() if with_affinity else None,
                unboxed=unboxed,
                record=Record(blocks_maps[:, i, : len(classes)].clone(), selves, entropy_step)
                if with_record
                else None,
            )
        )
    return results
