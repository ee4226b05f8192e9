"""How the miniature Stable Diffusion is trained."""

from collections.abc import Iterator

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from attnseg.backbones.interface import Text
from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.mini.recipes import Card, Maps, Positions, Recipe
from attnseg.text2mask.attention import attention_maps

SNR_CAP = 5.0  # Min-SNR weighting of the noise prediction (Hang et al. 2023)
TIMESTEP = 150  # of the evaluation
CROSS_BLOCKS = tuple(range(7))  # 8x8 and 4x4
SELF_BLOCKS = (7, 8)  # 16x16

TEXT = """---
license: apache-2.0
---
# A miniature Stable Diffusion

For tests and demonstrations of attnseg: {parameters:.1f} million parameters, 64x64 pixels, a world of
drawn objects. It is a genuine `StableDiffusionPipeline` (`AutoencoderKL`, `CLIPTokenizer`,
`CLIPTextModel`, `UNet2DConditionModel`) in float16 safetensors. It knows nothing of real photos.

```python
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained("assets/mini_sd")
```

## Training

{scenes} scenes of `attnseg.mini.world`, each with four captions; no masks. Autoencoder: {vae_steps} steps of
{vae_batch}. U-Net and text encoder: {steps} steps of {batch}, AdamW, peak rate 1e-3, Min-SNR weights, a moving
average. Captions are lists ("a photo including dog, sofa, and wall.") for one scene in four, so that the
queries' wording is known. The U-Net took {hours:.1f} hours on {machine}.
"""
COLUMNS = {
    "step": "step",
    "loss": "loss",
    "cross": "Cross",
    "selfcross_7": "SelfCross, Self 7",
    "selfcross_8": "SelfCross, Self 8",
}
PROTOCOL = (
    "mIoU on the 200 scenes of mini dev from the attention maps (one noise at t = 150, no CRF, the same Cross\n"
    "blocks 0 to 6 throughout, Self at block 7 or 8)"
)


class PlainAttention:
    """Attention as two matrix products in autocast's precision.

    On a CPU, the bfloat16 backward pass of PyTorch 2.13's fused attention takes longer than the rest
    of a step.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        *_: object,
        **__: object,
    ) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        batch, length = hidden_states.shape[:2]

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.view(batch, -1, attn.heads, x.shape[-1] // attn.heads).transpose(1, 2)

        query, key = heads(attn.to_q(hidden_states)), heads(attn.to_k(context))
        value = heads(attn.to_v(context))
        weights = (query * attn.scale @ key.transpose(-1, -2)).softmax(-1)
        mixed = (weights.to(value.dtype) @ value).transpose(1, 2).reshape(batch, length, -1)
        return attn.to_out[0](mixed)


def unet_recipe(backbone: StableDiffusion) -> Recipe:
    """U-Net and text encoder together, by the noise."""
    unet, encoder = backbone.unet, backbone.text_encoder
    alpha_bar = backbone.noising.alphas_cumprod
    snr = alpha_bar / (1 - alpha_bar)
    importance = (snr.clamp(max=SNR_CAP) / snr).to(backbone.device)

    def loss(
        clean: torch.Tensor, noise: torch.Tensor, words: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        t = torch.randint(1000, (len(clean),), generator=generator).to(clean.device)
        text = encoder(words).last_hidden_state
        predicted = unet(backbone.noising.add_noise(clean, noise, t), t, text).sample
        return (predicted.float() - noise).square().mean((1, 2, 3)), importance[t]

    def readings(
        noisy: torch.Tensor, timestep: int, text: Text, _: object, positions: Positions
    ) -> Iterator[tuple[str, Maps]]:
        for block in SELF_BLOCKS:
            maps = attention_maps(
                backbone, noisy, timestep, text, positions,
                cross_blocks=CROSS_BLOCKS, self_block=block,
            )  # fmt: skip
            if block == SELF_BLOCKS[0]:
                yield "cross", [m.cross for m in maps]
            yield f"selfcross_{block}", [m.selfcross for m in maps]

    return Recipe(
        backbone=backbone,
        tokenizer=backbone.tokenizer,
        trained=(unet, encoder),
        plain=PlainAttention(),
        usual=AttnProcessor2_0(),
        loss=loss,
        optimizers=lambda weights: [
            torch.optim.AdamW(
                list(weights.values()), betas=(0.9, 0.99), weight_decay=1e-4, fused=True
            )
        ],
        rate=1e-3,
        batch=32,
        readings=readings,
        timestep=TIMESTEP,
        folder="denoiser",
        card=Card(TEXT, COLUMNS, PROTOCOL, 5.0, lambda prompts: {"prompt": prompts}),
    )
