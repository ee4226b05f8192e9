"""The miniature MM-DiT: Stable Diffusion 3's transformer with small dimensions, and how it is trained.

It shares the autoencoder, the tokenizer and the text encoder of the miniature Stable Diffusion, which
are not trained again. Unlike Stable Diffusion 3 it has one CLIP and no T5, and a window of 48 tokens.
"""

import copy
from collections.abc import Iterator, Mapping

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0
from transformers import CLIPTextModelWithProjection

from attnseg.backbones.concepts import concepts_of
from attnseg.backbones.interface import Text
from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.backbones.stable_diffusion_3 import StableDiffusion3
from attnseg.backbones.text import Query
from attnseg.mini.model import LATENT_CHANNELS
from attnseg.mini.model import WIDTH as TEXT_WIDTH
from attnseg.mini.recipes import Card, Maps, Positions, Recipe
from attnseg.text2mask.attention import attention_maps

WINDOW = 48  # tokens; one caption in a thousand has more
PATCH = 2  # latent cells along a side of a token: 8x8 tokens
WIDTH, HEADS, BLOCKS = 128, 4, 7  # 8 MB at float16
TIMESTEP = 300  # of the evaluation
MIDDLE = BLOCKS // 2  # the block that is read alone
TEXT = """---
license: apache-2.0
---
# A miniature MM-DiT

For tests and demonstrations of attnseg: Stable Diffusion 3's `SD3Transformer2DModel` with {trained:.1f} million
parameters, 64x64 pixels, a world of drawn objects; `AutoencoderKL`, `CLIPTokenizer` and the text encoder are
those of the miniature Stable Diffusion (`assets/mini_sd`), the last as a `CLIPTextModelWithProjection` whose
projection is the identity. It is in the layout of a `StableDiffusion3Pipeline`, with one CLIP and no T5, in
float16 safetensors. It knows nothing of real photos. `trials.csv` has what was tried of its readings on mini dev
(`scripts/tools/search_readings.py`), [docs/results.md](../../docs/results.md#backbones) what came of it.

```python
from attnseg import load_backbone
backbone = load_backbone("assets/mini_mmdit")
pipe = backbone.pipeline()  # which takes prompt_embeds: it would ask for a second CLIP to make them
```

## Training

{scenes} scenes of `attnseg.mini.world`, each with four captions; no masks. The transformer alone: {steps} steps
of {batch} by flow matching with logit-normal timesteps (SD3), Muon for the matrices of its blocks and AdamW for
all others, peak rate {rate:g}, a moving average. It took {hours:.1f} hours on {machine}.
"""
COLUMNS = {
    "step": "step",
    "loss": "loss",
    "cross_all": "attention, all blocks",
    f"cross_{MIDDLE}": f"attention, block {MIDDLE}",
    f"selfcross_{MIDDLE}": "the same, propagated",
    "output_all": "output, all blocks",
    f"output_{MIDDLE}": f"output, block {MIDDLE}",
}
PROTOCOL = (
    "mIoU on the 200 scenes of mini dev (one noise at t = 300, no CRF); the attention of all blocks, that of\n"
    "block 3, that propagated by the same block, and what ConceptAttention reads of the outputs"
)


def new_transformer(patch: int = PATCH) -> SD3Transformer2DModel:
    """A transformer whose blocks are the identity and whose prediction is zero (DiT's adaLN-Zero)."""
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=patch,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=BLOCKS,
        attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT_WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        pos_embed_max_size=16 // patch,
        qk_norm="rms_norm",
    )
    for name, weight in transformer.named_parameters():
        if name.endswith("bias") or modulates(name) or name.startswith("proj_out"):
            torch.nn.init.zeros_(weight)
        elif name.startswith("time_text_embed"):
            torch.nn.init.normal_(weight, std=0.02)
        elif weight.ndim == 2:
            torch.nn.init.xavier_uniform_(weight)
    return transformer


def modulates(name: str) -> bool:
    """Whether a weight of this name computes scales, shifts and gates from the time and the text."""
    return ".linear." in name


def assembled(shipped: StableDiffusion, transformer: SD3Transformer2DModel) -> StableDiffusion3:
    """The transformer with the other networks of the miniature Stable Diffusion.

    The pooled text is the text encoder's own at the end of the text: its projection is the identity.
    """
    clip = CLIPTextModelWithProjection(shipped.text_encoder.config)
    clip.text_model.load_state_dict(shipped.text_encoder.state_dict())
    torch.nn.init.eye_(clip.text_projection.weight)
    tokenizer = copy.deepcopy(shipped.tokenizer)
    tokenizer.model_max_length = WINDOW
    vae = copy.deepcopy(shipped.vae)
    vae.register_to_config(shift_factor=0.0)  # the pipeline of Stable Diffusion 3 asks for one
    return StableDiffusion3(
        transformer=transformer,
        vae=vae,
        tokenizers=(tokenizer,),
        clips=(clip.eval().requires_grad_(False),),
        t5_tokenizer=None,
        t5=None,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


class PlainJointAttention:
    """Joint attention as two matrix products, for the reason that `PlainAttention` has."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        *_: object,
        **__: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        image, text = hidden_states, encoder_hidden_states
        query = attn.norm_q(heads(attn.to_q(image)))
        query = torch.cat([query, attn.norm_added_q(heads(attn.add_q_proj(text)))], 2)
        key = attn.norm_k(heads(attn.to_k(image)))
        key = torch.cat([key, attn.norm_added_k(heads(attn.add_k_proj(text)))], 2)
        value = torch.cat([heads(attn.to_v(image)), heads(attn.add_v_proj(text))], 2)
        weights = (query * attn.scale @ key.transpose(-1, -2)).softmax(-1)
        mixed = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        image, text = mixed[:, : image.shape[1]], mixed[:, image.shape[1] :]
        return attn.to_out[0](image), text if attn.context_pre_only else attn.to_add_out(text)


def mmdit_recipe(backbone: StableDiffusion3) -> Recipe:
    """The transformer by the velocity, at timesteps of a logit-normal distribution (SD3, Section 3.1)."""
    transformer, clip = backbone.transformer, backbone.clips[0]

    def loss(
        clean: torch.Tensor, noise: torch.Tensor, words: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        t = 1000 * torch.randn(len(clean), generator=generator).sigmoid().to(clean.device)
        with torch.no_grad():
            text = clip(words, output_hidden_states=True)
        velocity = transformer(
            backbone.add_noise(clean, noise, t),
            encoder_hidden_states=text.hidden_states[-2],
            pooled_projections=text.text_embeds,
            timestep=t,
        ).sample
        target = backbone.target(clean, noise, t)
        return (velocity.float() - target).square().mean((1, 2, 3)), torch.ones_like(t)

    def readings(
        noisy: torch.Tensor, timestep: int, text: Text, queries: list[Query], positions: Positions
    ) -> Iterator[tuple[str, Maps]]:
        concepts = concepts_of(backbone, queries)
        for name, blocks in [*((str(i), [i]) for i in range(BLOCKS)), ("all", [*range(BLOCKS)])]:
            own = blocks[0] if len(blocks) == 1 else None
            for kind, read in (("cross", None), ("output", concepts)):
                maps = attention_maps(
                    backbone, noisy, timestep, text, positions,
                    cross_blocks=blocks, self_block=own, concepts=read,
                )  # fmt: skip
                yield f"{kind}_{name}", [m.cross for m in maps]
                if own is not None and read is None:
                    yield f"self{kind}_{name}", [m.selfcross for m in maps]

    def asked(prompts: list[str]) -> dict[str, torch.Tensor]:
        text, empty = (backbone.encode_text(texts) for texts in (prompts, [""] * len(prompts)))
        return {
            "prompt_embeds": text.hidden,
            "pooled_prompt_embeds": text.more["pooled"],
            "negative_prompt_embeds": empty.hidden,
            "negative_pooled_prompt_embeds": empty.more["pooled"],
        }

    return Recipe(
        backbone=backbone,
        tokenizer=backbone.tokenizers[0],
        trained=(transformer,),
        plain=PlainJointAttention(),
        usual=JointAttnProcessor2_0(),
        loss=loss,
        optimizers=optimizers,
        rate=1e-3,
        batch=64,
        readings=readings,
        timestep=TIMESTEP,
        folder="mmdit",
        card=Card(TEXT, COLUMNS, PROTOCOL, 4.0, asked),
    )


def optimizers(weights: Mapping[str, torch.nn.Parameter]) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the blocks, with three times the rate that would change
    them as AdamW does; AdamW for all others."""
    matrices = {
        name: weight
        for name, weight in weights.items()
        if "transformer_blocks" in name and weight.ndim == 2 and not modulates(name)
    }
    others = [weight for name, weight in weights.items() if name not in matrices]
    muon = {"params": list(matrices.values()), "scale": 3.0}
    return [
        torch.optim.Muon([muon], weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.99), weight_decay=1e-4, fused=True),
    ]
