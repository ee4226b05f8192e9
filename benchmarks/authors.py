"""Text2Mask's extraction as its authors' code computes it, written plainly: a reference for ours.

The photo goes through the autoencoder, its latent is noised, and a step of PLMS with guidance 7.5 calls the whole
U-Net twice, each time on a batch of an empty and of the wanted text. Every attention forms its
probabilities of all heads. Their means over heads are kept of all 16 blocks, and each Self is
multiplied by itself. From the first call come the maps: Cross of five blocks, resized to the grid of
Self, propagated by the product. Nothing of the second call, of the empty text, and of the other products
is used. Sizes, the query and the random numbers are ours, so that results can be compared.
"""

from collections.abc import Sequence

import numpy as np
import side_by_side  # noqa: F401  says where attnseg is
import torch
import torch.nn.functional as F

from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.core.boxes import box_mask
from attnseg.core.geometry import in_photo, model_input
from attnseg.text2mask.extract import fit_of, queries_of, sample_noise
from attnseg.text2mask.options import Options

GUIDANCE, STEP = 7.5, 20  # timesteps between calls: 50 steps of 1000


class Probabilities:
    """An attention processor that forms probabilities, and keeps their mean over heads of the last
    sample in the batch, [N, L]."""

    def __init__(self, kept: list[torch.Tensor]):
        self.kept = kept

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: None = None,
        **_: object,
    ) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            projection(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for projection, states in (
                (attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context),
            )
        )  # fmt: skip
        shares = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        self.kept.append(shares[-1].mean(0))
        return attn.to_out[0]((shares @ value).transpose(1, 2).flatten(2))


@torch.no_grad()
def authors_maps(
    backbone: StableDiffusion, name: str, image: np.ndarray, classes: list[str], options: Options
) -> torch.Tensor:
    """SelfCross of a photo's classes, min-max normalised, averaged over noises: [K, h', w'] float32.

    Of `options` those are followed that the authors' code has, for one sentence: the profile, noises,
    timestep, blocks, number of propagations, box mask and seed.
    """
    fit = fit_of(image, backbone, options)
    place = {"device": backbone.device, "dtype": backbone.dtype}
    found = backbone.vae.encode(model_input(image, fit)[None].to(**place)).latent_dist
    draw = sample_noise(found.mean.shape[1:], options.seed, name, "latent").to(**place)
    latents = (found.mean + found.std * draw) * backbone.vae.config.scaling_factor
    ((_, query),) = queries_of(backbone, classes, options)
    texts = backbone.encode_text(["", query.text]).hidden
    schedule = backbone.noising.alphas_cumprod.to(**place)

    total = torch.zeros(())
    for n in range(options.noises):
        noise = sample_noise(latents.shape[1:], options.seed, name, n).to(**place)
        at = schedule[options.timestep]
        noisy = at.sqrt() * latents + (1 - at).sqrt() * noise
        first, shares = guided(backbone, noisy, options.timestep, texts)
        products = [own @ own for own in shares[::2]]
        earlier = max(options.timestep - STEP, 0)
        stepped = towards(noisy, first, at, schedule[earlier])
        second, _ = guided(backbone, stepped, earlier, texts)
        towards(noisy, (first + second) / 2, at, schedule[earlier])
        maps = propagated(
            shares[1::2], shares[2 * options.self_block], products[options.self_block],
            backbone.token_positions(query), tuple(latents.shape[2:]), options,
        )  # fmt: skip
        inside = in_photo(maps.shape[1:], fit)
        total = total + normalised(maps, inside if options.profile == "paper" else None)
    return total / options.noises


def guided(
    backbone: StableDiffusion, noisy: torch.Tensor, timestep: int, texts: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The guided prediction, and each attention's kept probabilities: Self, Cross, Self, Cross, ..."""
    shares: list[torch.Tensor] = []
    before = backbone.unet.attn_processors
    backbone.unet.set_attn_processor(Probabilities(shares))
    try:
        both = backbone.unet(
            torch.cat([noisy, noisy]), timestep, encoder_hidden_states=texts
        ).sample
    finally:
        backbone.unet.set_attn_processor(before)
    without, given = both.chunk(2)
    return without + GUIDANCE * (given - without), shares


def towards(
    noisy: torch.Tensor, predicted: torch.Tensor, at: torch.Tensor, earlier: torch.Tensor
) -> torch.Tensor:
    """Latents of an earlier timestep, given the noise in these."""
    clean = (noisy - (1 - at).sqrt() * predicted) / at.sqrt()
    return earlier.sqrt() * clean + (1 - earlier).sqrt() * predicted


def propagated(
    crosses: Sequence[torch.Tensor],
    own: torch.Tensor,
    twice: torch.Tensor,
    positions: Sequence[Sequence[int]],
    latent: tuple[int, int],
    options: Options,
) -> torch.Tensor:
    """Self^iterations . Cross of each class, [K, h', w'] float32 on the CPU; `twice` is Self . Self."""

    def image(columns: torch.Tensor) -> torch.Tensor:
        """Columns of N cells on their grid: the latent's, halved to the same area."""
        height, width = latent
        while height * width > len(columns):
            height, width = -(-height // 2), -(-width // 2)
        return columns.T.reshape(1, -1, height, width)

    grid = image(own[:, :1]).shape[2:]
    layers = []
    for block in options.cross_blocks:
        averages = [crosses[block][:, tokens].mean(1) for tokens in positions]
        columns = image(torch.stack(averages, 1))
        layers.append(F.interpolate(columns, grid, mode="bilinear", align_corners=False)[0])
    maps = torch.stack(layers).mean(0)
    if options.box_threshold is not None:
        maps = normalised(maps, None)
        boxes, _ = box_mask(maps.float().cpu(), options.box_threshold)
        maps = maps * boxes.to(maps)
    columns = maps.flatten(1).T
    for _ in range(options.iterations // 2):
        columns = twice @ columns
    if options.iterations % 2:
        columns = own @ columns
    return columns.T.unflatten(1, grid).float().cpu()


def normalised(maps: torch.Tensor, inside: torch.Tensor | None) -> torch.Tensor:
    """Each map so that it goes from 0 to 1, inside the photo if that is given."""
    values = maps.flatten(1) if inside is None else maps[:, inside]
    low, high = values.amin(1)[:, None, None], values.amax(1)[:, None, None]
    return ((maps - low) / (high - low)).clamp(0, 1)
