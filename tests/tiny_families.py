"""Tiny random models of the families with separate cross-attention, as folders."""

import string
from pathlib import Path

import tiny_joint
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from attnseg.mini.model import train_tokenizer

CAPTIONS = ["a photo including dog, potted plant, and cat with tree."] * 20
# whole words of T5's and Gemma's tokenizers here; others are spelled
WORDS = ["a", "photo", "including", "dog", "cat", "pot", "plant"]


def unet(width: int, **more) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **{
            "sample_size": 16, "layers_per_block": 1, "norm_num_groups": 4,
            "block_out_channels": (8, 16, 16), "cross_attention_dim": width,
            "attention_head_dim": (2, 4, 4), "use_linear_projection": True, **more,
        }
    )  # fmt: skip


def vae(**more) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8), norm_num_groups=4, latent_channels=4, **more,
    )  # fmt: skip


def clip(tokenizer: CLIPTokenizer, width: int, kind=CLIPTextModel):
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=20, projection_dim=20,
            num_hidden_layers=3, num_attention_heads=2, eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
            max_position_embeddings=tokenizer.model_max_length,
        )
    )  # fmt: skip


def linear_betas(**more) -> dict:
    return {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02, **more}


def stable_diffusion_2(folder: Path) -> None:
    """2.x at 768 pixels: the velocity is predicted."""
    tokenizer = train_tokenizer(CAPTIONS, folder / "tokenizer")
    down = (*("CrossAttnDownBlock2D",) * 2, "DownBlock2D")
    up = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 2)
    StableDiffusionPipeline(
        vae=vae(scaling_factor=0.18215),
        text_encoder=clip(tokenizer, 16),
        tokenizer=tokenizer,
        unet=unet(16, down_block_types=down, up_block_types=up, upcast_attention=True),
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
            prediction_type="v_prediction", steps_offset=1, clip_sample=False,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip


def sdxl(folder: Path) -> None:
    """No attention at the latent's own grid; blocks 0: 1/2, 1-8: 1/4, 9-10: 1/2."""
    tokenizer = train_tokenizer(CAPTIONS, folder / "tokenizer")
    StableDiffusionXLPipeline(
        vae=vae(scaling_factor=0.13025, force_upcast=True),
        text_encoder=clip(tokenizer, 16),
        text_encoder_2=clip(tokenizer, 24, CLIPTextModelWithProjection),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet(
            40, down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
            up_block_types=(*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
            transformer_layers_per_block=(1, 1, 2), addition_embed_type="text_time",
            addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 20,
        ),
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
            steps_offset=1, clip_sample=False,
        ),
    ).save_pretrained(folder)  # fmt: skip


def pixart(folder: Path, sigma: bool) -> None:
    """Sigma: 300 tokens; alpha: 120, and the network is told the image's size."""
    pieces = [*(f"▁{word}" for word in WORDS), "ted", "▁", *string.ascii_lowercase, ",", "."]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(piece, -1.0 if len(piece) > 1 else -9.0) for piece in pieces]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0)
    kind = PixArtSigmaPipeline if sigma else PixArtAlphaPipeline
    kind(
        tokenizer=tokenizer,
        text_encoder=T5EncoderModel(
            T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=4, d_ff=20, num_heads=2, num_layers=2)
        ),
        vae=vae(scaling_factor=0.18215),
        transformer=PixArtTransformer2DModel(
            num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=8,
            num_layers=4, cross_attention_dim=24, sample_size=16 if sigma else 128,
            caption_channels=16, use_additional_conditions=not sigma,
        ),
        scheduler=DPMSolverMultistepScheduler(**linear_betas()),
    ).save_pretrained(folder)  # fmt: skip


def sana(folder: Path) -> None:
    signs = [*string.ascii_letters, *string.digits, *",.:;'-\"->\n", "▁"]
    vocabulary = {p: n for n, p in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])}
    merges = []
    for sign in dict.fromkeys(signs):
        vocabulary[sign] = len(vocabulary)
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
        vocabulary[f"▁{word}"] = len(vocabulary)
        merges.append(("▁", word))
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=True)
    SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=Gemma2Model(
            Gemma2Config(
                vocab_size=len(tokenizer), hidden_size=16, intermediate_size=20, head_dim=8,
                num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                max_position_embeddings=4096, pad_token_id=0, eos_token_id=1, bos_token_id=2,
            )
        ),
        vae=AutoencoderDC(
            in_channels=3, latent_channels=4, attention_head_dim=2,
            encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
            encoder_qkv_multiscales=((), (), (5,)), decoder_qkv_multiscales=((), (), (5,)),
            encoder_layers_per_block=(1, 1, 1), decoder_layers_per_block=(1, 1, 1),
            downsample_block_type="conv", upsample_block_type="interpolate",
            decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
        ),
        transformer=SanaTransformer2DModel(
            in_channels=4, out_channels=4, num_attention_heads=3, attention_head_dim=8,
            num_layers=3, num_cross_attention_heads=2, cross_attention_head_dim=12,
            cross_attention_dim=24, caption_channels=16, sample_size=16, qk_norm="rms_norm_across_heads",
        ),
        scheduler=DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
        ),
    ).save_pretrained(folder)  # fmt: skip


FAMILIES = {
    "sd2": stable_diffusion_2,
    "sdxl": sdxl,
    "pixart-alpha": lambda folder: pixart(folder, sigma=False),
    "pixart-sigma": lambda folder: pixart(folder, sigma=True),
    "sana": sana,
    **tiny_joint.FAMILIES,
}


def build(family: str, folder: Path) -> Path:
    """Write the model to the folder, and return it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        FAMILIES[family](folder)
    return folder
