#!/usr/bin/env python3
"""Make a Stable Diffusion 1.4 with random weights, from its published configuration, offline.

    python scripts/tools/make_random_sd.py --output work/random_sd              1,066 million, 4.3 GB
    python scripts/tools/make_random_sd.py --output work/random_sd --width 40   21 million, 85 MB

What it computes means nothing, but costs what the trained model costs: for measurements, and to try
the workflow where the weights are not at hand. A smaller --width than 320 keeps every layer and
block, and makes them narrower in proportion.
"""

import argparse
import gzip
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from attnseg.errors import UserError, run  # noqa: E402

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTokenizer


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    parser.add_argument(
        "--width", type=int, default=320, help="channels of the U-Net's first level (default 320)"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.width < 40 or args.width % 40:
        raise UserError(f"--width {args.width}: give a multiple of 40")
    model = random_pipeline(args.width, args.seed, args.output / "tokenizer")
    model.save_pretrained(args.output)
    networks = (model.text_encoder, model.vae, model.unet)
    parameters = sum(p.numel() for network in networks for p in network.parameters())
    print(f"{parameters / 1e6:,.0f} million parameters -> {args.output}")
    return 0


def random_pipeline(width: int, seed: int, tokenizer_folder: Path) -> "StableDiffusionPipeline":
    """A StableDiffusionPipeline of the configuration of version 1.4, `width` / 320 as wide."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from attnseg.mini import model

    tokenizer = clip_tokenizer(tokenizer_folder)
    groups = 32 if width % 320 == 0 else 8  # normalised together; they divide the channels
    text, latent = 12 * width // 5, 2 * width // 5
    torch.manual_seed(seed)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=text,
            intermediate_size=4 * text,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=text,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(latent, 2 * latent, 4 * latent, 4 * latent),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=groups,
        sample_size=512,
        scaling_factor=0.18215,
    )
    unet = UNet2DConditionModel(
        sample_size=64,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        cross_attention_dim=text,
        attention_head_dim=8,  # diffusers: the number of heads
        norm_num_groups=groups,
    )
    return model.assembled(vae, text_encoder, tokenizer, unet).pipeline()


def clip_tokenizer(folder: Path) -> "CLIPTokenizer":
    """Make CLIP's tokenizer in `folder` from the vocabulary in open-clip-torch."""
    from transformers import CLIPTokenizer

    package = importlib.util.find_spec("open_clip")  # not imported: that takes torchvision
    if package is None or package.origin is None:
        raise UserError("open-clip-torch, which holds CLIP's vocabulary, is missing: make install")
    packed = Path(package.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(packed.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    # bytes as characters: printable ones unchanged, others from 256 on
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(n) for n in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    tokens = letters + [letter + "</w>" for letter in letters]
    tokens += ["".join(merge.split()) for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=77
    )


if __name__ == "__main__":
    sys.exit(run(main))
