"""Components of the miniature Stable Diffusion: the original classes with small dimensions.

Unlike Stable Diffusion 1.x it has 64x64 images, an autoencoder that halves twice, 8 latent channels,
three levels of 16, 8 and 4 cells per side, a text encoder of one layer and a window of 64 tokens.
The transformer blocks, in forward order: 0 (8x8), 1 and 2 (4x4, 2 in the middle), 3 and 4 (4x4),
5 and 6 (8x8), 7 and 8 (16x16).
"""

import json
import string
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from attnseg.backbones.stable_diffusion import StableDiffusion

WINDOW = 64  # tokens
WIDTH = 128  # of a text embedding
LATENT_CHANNELS = 8
VOCABULARY_SIZE = 440
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(captions: list[str], folder: Path) -> CLIPTokenizer:
    """Train a CLIP tokenizer's byte-pair merges on `captions`, and save it in `folder`.

    The vocabulary is small enough that rare words take several tokens, as in CLIP's.
    """
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    words = Regex(r"[a-z]+|[0-9]|[^\sa-z0-9]+")
    bpe.pre_tokenizer = pre_tokenizers.Split(words, behavior="removed", invert=True)
    letters = list(string.ascii_lowercase + string.digits + ".,<>'-!?:;()/")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(letters),
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    bpe.model.save(str(folder))
    vocabulary = json.loads((folder / "vocab.json").read_text())
    for token in [*letters, *(letter + "</w>" for letter in letters), BOS, EOS]:
        vocabulary.setdefault(token, len(vocabulary))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=WINDOW,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=EOS,
        pad_token=EOS,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """One causal layer, initialised as the identity on unit-variance word embeddings.

    With a deeper encoder, trained from scratch, learning the words takes three times as long.
    """
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoder = CLIPTextModel(config)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if "token_embedding" in name:
                weight.normal_()
            elif "position_embedding" in name:
                weight.normal_(std=0.02)
            elif name.endswith(("out_proj.weight", "fc2.weight")):
                weight.zero_()
    return encoder


def new_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 96),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=16,
        sample_size=64,
        mid_block_add_attention=False,
    )


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(64, 128, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=WIDTH,
        attention_head_dim=(2, 4, 4),  # diffusers: the number of heads
        norm_num_groups=16,
    )


def new_scheduler() -> PNDMScheduler:
    """Stable Diffusion 1.x's noise schedule."""
    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        skip_prk_steps=True,
        steps_offset=1,
        set_alpha_to_one=False,
    )


def assembled(
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
) -> StableDiffusion:
    """Networks with Stable Diffusion 1.x's noise schedule."""
    return StableDiffusion(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
    )
