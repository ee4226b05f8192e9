"""Tiny random models of the families with joint attention, as folders."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from attnseg.mini.model import train_tokenizer

CAPTIONS = ["a photo of a dog and a cat on the grass", "a photo including a dining table, and sea."]
# T5's: whole words with the space before them, and pieces
WORDS = ["▁photo", "▁including", "▁dog", "▁d", "ining", "▁table", "▁and", "▁a", "▁", ",", "."]


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4,
        sample_size=64, scaling_factor=4.0, shift_factor=0.1,
    )  # fmt: skip


def clip(tokenizer: CLIPTokenizer, kind: type, width: int):
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=16, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=tokenizer.model_max_length,
            projection_dim=width, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def t5() -> tuple[T5TokenizerFast, T5EncoderModel]:
    letters = [chr(n) for n in range(ord("a"), ord("z") + 1)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(word, -2.0) for word in WORDS] + [(letter, -9.0) for letter in letters]
    tokenizer = T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=512)
    config = T5Config(
        vocab_size=len(vocabulary), d_model=40, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    return tokenizer, T5EncoderModel(config)


def sharpened(transformer: torch.nn.Module) -> torch.nn.Module:
    """With larger queries and keys: random attention is nearly uniform, which would hide errors."""
    with torch.no_grad():
        for name, weight in transformer.named_parameters():
            place = f".{name}".split(".")[-2]
            if place in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
                weight.mul_(1.5 + torch.rand_like(weight))
            elif place in ("to_q", "to_k", "add_q_proj", "add_k_proj") and name.endswith("weight"):
                weight.mul_(4)
    return transformer.eval()


def stable_diffusion_3(folder: Path, version: str) -> None:
    """`version`: 3, 3 without T5, or 3.5 (dual attention and QK norm)."""
    tokenizer = train_tokenizer(CAPTIONS * 20, folder / "tokenizer")
    transformer = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=3,
        attention_head_dim=8, num_attention_heads=4, joint_attention_dim=40,
        caption_projection_dim=32, pooled_projection_dim=32, pos_embed_max_size=48,
        **({"qk_norm": "rms_norm", "dual_attention_layers": (0, 1)} if version == "3.5" else {}),
    )  # fmt: skip
    t5_tokenizer, encoder = (None, None) if version == "3 without T5" else t5()
    StableDiffusion3Pipeline(
        transformer=sharpened(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(),
        text_encoder=clip(tokenizer, CLIPTextModelWithProjection, 16),
        tokenizer=tokenizer,
        text_encoder_2=clip(tokenizer, CLIPTextModelWithProjection, 16),
        tokenizer_2=tokenizer,
        text_encoder_3=encoder,
        tokenizer_3=t5_tokenizer,
    ).save_pretrained(folder)


def flux(folder: Path, version: str) -> None:
    """`version`: dev (told of the guidance) or schnell."""
    tokenizer = train_tokenizer(CAPTIONS * 20, folder / "tokenizer")
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=40, pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8), guidance_embeds=version == "dev",
    )  # fmt: skip
    t5_tokenizer, encoder = t5()
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=version == "dev"),
        vae=autoencoder(),
        text_encoder=clip(tokenizer, CLIPTextModel, 16),
        tokenizer=tokenizer,
        text_encoder_2=encoder,
        tokenizer_2=t5_tokenizer,
        transformer=sharpened(transformer),
    ).save_pretrained(folder)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Bytes, and the tokens " dog" and "ing"."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(n) for n in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    merges = ["o g", "Ġ d", "Ġd og", "i n", "in g"]
    tokens = letters + ["".join(merge.split()) for merge in merges]
    return Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate([*tokens, "<|endoftext|>"])},
        merges=[tuple(merge.split()) for merge in merges],
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )


def qwen_image(folder: Path) -> None:
    tokenizer = qwen_tokenizer()
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=3, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
            "out_hidden_size": 16, "patch_size": 14,
        },
    )  # fmt: skip
    QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 1, 2, 2], num_res_blocks=1,
            latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.5, 1.0, 2.0, 1.5],
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=tokenizer,
        transformer=sharpened(transformer),
    ).save_pretrained(folder)  # fmt: skip


# of Qwen3, without its tools and systems
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)


def qwen3(kind: type) -> tuple[Qwen2Tokenizer, torch.nn.Module]:
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = CHAT
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=28,
        num_attention_heads=2, num_key_value_heads=1, head_dim=4,
    )  # fmt: skip
    return tokenizer, kind(config)


def flux2(folder: Path) -> None:
    """FLUX.2 klein."""
    tokenizer, language = qwen3(Qwen3ForCausalLM)
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4,
        sample_size=64,
    )  # fmt: skip
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2)
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=language,
        tokenizer=tokenizer,
        transformer=sharpened(transformer),
    ).save_pretrained(folder)


def z_image(folder: Path) -> None:
    tokenizer, language = qwen3(Qwen3Model)
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=3, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=8,
        axes_dims=[4, 4, 8], axes_lens=[1024, 128, 128],
    )  # fmt: skip
    for filler in (transformer.x_pad_token, transformer.cap_pad_token):
        torch.nn.init.normal_(filler)
    ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(),
        text_encoder=language,
        tokenizer=tokenizer,
        transformer=sharpened(transformer),
    ).save_pretrained(folder)


FAMILIES = {
    "sd3": lambda folder: stable_diffusion_3(folder, "3"),
    "sd3-without-t5": lambda folder: stable_diffusion_3(folder, "3 without T5"),
    "sd3.5": lambda folder: stable_diffusion_3(folder, "3.5"),
    "flux-dev": lambda folder: flux(folder, "dev"),
    "flux-schnell": lambda folder: flux(folder, "schnell"),
    "qwen-image": qwen_image,
    "flux2-klein": flux2,
    "z-image": z_image,
}
