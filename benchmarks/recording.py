#!/usr/bin/env python3
"""Time and memory that recording attention adds to a pass of a denoiser, on the CPU, in one process.

    python benchmarks/recording.py                 # a table for each model
    python benchmarks/recording.py --write         # the same into docs/performance.md

SDXL is at its own configuration (in bfloat16, which takes 5 GB), Stable Diffusion 3 and FLUX.1 at a third
and a sixth of their width (in float32), with random weights, of an image of 512 x 512 pixels. One after the other, in each of several rounds:

- plain: a pass that nothing watches;
- recorded: the same, in which the default blocks are recorded, not stopped;
- extraction: `attention_maps`, which stops after the last of these blocks, with the class maps and
  their propagation;
- extraction, output: where there is the reading, of its own default blocks;
- peer, full and fast: attention-map-diffusers 1.0.0 (`pip install attention-map-diffusers==1.0.0` into an
  environment of its own: it is needed by nothing else) in its modes `exact` and `fast`, of the same
  blocks, with its `compute`: the maps of text, and those of the image where that block is read alone.

Time is this process's CPU time, with one thread, since other programs may load the machine: the median
of a round's quotient by its plain pass. Memory is what tensors take at the peak of a variant, less that
of the plain pass: PyTorch's own account, in a pass that is not timed.
"""

import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from diffusers import (
    AutoencoderKL,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from side_by_side import Measured, keep, machine, measured, program, publish, table, told

from attnseg.backbones.concepts import Concepts
from attnseg.backbones.flux import Flux
from attnseg.backbones.interface import Backbone, Text
from attnseg.backbones.sdxl import SDXL
from attnseg.backbones.stable_diffusion_3 import StableDiffusion3
from attnseg.errors import run
from attnseg.text2mask.attention import attention_maps

POSITIONS = [[[4], [6, 7]]]  # two classes, one of two tokens
CPU = torch.device("cpu")
PEER = "attention-map-diffusers"


@dataclass
class Subject:
    """A model, and what a pass of it is given."""

    title: str
    backbone: Backbone
    latents: torch.Tensor
    text: Text
    peer: dict  # what the peer is asked for


def made(cls: type[torch.nn.Module], dtype: torch.dtype, **config: object) -> torch.nn.Module:
    """A network with random weights; buffers are as it makes them."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    skipped = [torch.nn.Linear, torch.nn.Conv2d]  # their own initialisation is slow
    kept = [kind.reset_parameters for kind in skipped]
    for kind in skipped:
        kind.reset_parameters = lambda self: None
    try:
        network = cls(**config)
    finally:
        torch.set_default_dtype(before)
        for kind, method in zip(skipped, kept, strict=True):
            kind.reset_parameters = method
    for parameter in network.parameters():
        parameter.data.uniform_(-0.03, 0.03)
    return network.requires_grad_(False).eval()


def autoencoder(channels: int) -> AutoencoderKL:
    """One whose latents are 1/8 of the image; it is not run."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[4] * 4, norm_num_groups=2, latent_channels=channels,
    )  # fmt: skip


def sdxl() -> Subject:
    unet = made(
        UNet2DConditionModel, torch.bfloat16, sample_size=128,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(320, 640, 1280), transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20), cross_attention_dim=2048, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )  # fmt: skip
    backbone = SDXL(unet=unet, vae=autoencoder(4), tokenizer=None, text_encoder=None, tokenizer_2=None, text_encoder_2=None, scheduler=None)  # fmt: skip
    names = {id(module): f"unet.{name}" for name, module in unet.named_modules()}
    layers = [names[id(backbone.blocks[block].module)] for block in default_blocks(backbone)]
    text = Text(torch.randn(1, 77, 2048), {"text_embeds": torch.randn(1, 1280)})
    return Subject(
        "SDXL, bfloat16", backbone, torch.randn(1, 4, 64, 64), text,
        {"relations": ["image->text", "image->image"], "layers": layers},
    )  # fmt: skip


def sd3() -> Subject:
    transformer = made(
        SD3Transformer2DModel, torch.float32, sample_size=64, num_layers=24, attention_head_dim=64,
        num_attention_heads=8, joint_attention_dim=1024, caption_projection_dim=512,
        pooled_projection_dim=512, pos_embed_max_size=64,
    )  # fmt: skip
    backbone = StableDiffusion3(transformer=transformer, vae=autoencoder(16), tokenizers=None, clips=None, t5_tokenizer=None, t5=None, scheduler=None)  # fmt: skip
    text = Text(torch.randn(1, 77 + 256, 1024), {"pooled": torch.randn(1, 512)})
    return Subject(
        "Stable Diffusion 3, 8 of 24 heads, float32", backbone, torch.randn(1, 16, 64, 64), text,
        {"relations": ["image->text", "image->image"], "layers": [".9.attn"]},
    )  # fmt: skip


def flux() -> Subject:
    transformer = made(
        FluxTransformer2DModel, torch.float32, num_layers=19, num_single_layers=38,
        attention_head_dim=128, num_attention_heads=4, joint_attention_dim=512,
        pooled_projection_dim=256, guidance_embeds=True,
    )  # fmt: skip
    backbone = Flux(transformer=transformer, vae=autoencoder(16), tokenizer=None, clip=None, t5_tokenizer=None, t5=None, scheduler=None)  # fmt: skip
    text = Text(torch.randn(1, 512, 512), {"pooled": torch.randn(1, 256)})
    return Subject(
        "FLUX.1, 4 of 24 heads, float32", backbone, torch.randn(1, 16, 64, 64), text,
        {"relations": ["image->text"], "layers": "all"},
    )  # fmt: skip


SUBJECTS = {"sdxl": sdxl, "sd3": sd3, "flux": flux}


def default_blocks(backbone: Backbone) -> list:
    crosses, selves = backbone.select(*backbone.default_blocks)
    return [*crosses, *selves]


# -- what is measured


def variants(subject: Subject) -> Iterator[tuple[str, Callable[[], object]]]:
    backbone, latents, text = subject.backbone, subject.latents, subject.text
    cross, own = backbone.default_blocks
    given = (backbone, latents, 150, text, POSITIONS)

    def plain() -> object:
        return backbone.denoise(latents, 150, text)

    def recorded() -> object:
        with backbone.record(default_blocks(backbone), stop=False):
            return backbone.denoise(latents, 150, text)

    def extraction() -> object:
        return attention_maps(*given, cross_blocks=cross, self_block=own)

    def output() -> object:
        blocks = backbone.default_output_blocks
        weights = torch.eye(3)[None]
        tokens = text.hidden[:, :3]
        real = torch.ones(1, 3, dtype=torch.bool)
        concepts = Concepts(tokens, real, weights, weights.any(1))
        more = {"cross_blocks": blocks, "self_block": own, "concepts": concepts}
        return attention_maps(*given, **more)

    yield "plain", plain
    yield "recorded", recorded
    yield f"extraction, {blocks_of(cross, own)}", extraction
    if backbone.output_blocks:
        yield f"extraction, output, {blocks_of(backbone.default_output_blocks, own)}", output
    for mode, name in (("exact", "full"), ("fast", "fast")):

        def peer(mode: str = mode) -> object:
            from attention_map_diffusers import AttentionCapture

            network = {"transformer": None, "unet": None}
            network["unet" if isinstance(backbone, SDXL) else "transformer"] = backbone.network
            pipeline = SimpleNamespace(**network)
            with AttentionCapture(pipeline, mode=mode, **subject.peer) as capture:
                backbone.denoise(latents, 150, text)
            return capture.compute()

        if installed():
            yield f"peer, {name}: {', '.join(subject.peer['relations'])}", peer


def blocks_of(cross: tuple[int, ...], own: int | None) -> str:
    ends = f"{cross[0]} to {cross[-1]}" if len(cross) > 1 else str(cross[0])
    return f"blocks {ends}, Self {own}"


def installed() -> str | None:
    """The version of the peer."""
    try:
        return importlib.metadata.version(PEER)
    except importlib.metadata.PackageNotFoundError:
        return None


def rows_of(found: dict[str, Measured]) -> list[dict]:
    """Rows of a table."""
    plain = found["plain"]
    return [
        {
            "": name,
            "CPU time, s": f"{one.median:.2f}",
            "plain passes (least to most)": told(one.shares(plain), ".3f"),
            "memory, MiB": f"{one.peak:.1f}" if one is plain else f"{one.peak - plain.peak:+.1f}",
        }
        for name, one in found.items()
    ]


def main(argv: list[str] | None = None) -> int:
    parser = program(__doc__)
    parser.add_argument("--models", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    kept = {}
    for name in args.models:
        subject, mark = SUBJECTS[name](), f"recording {name}"
        blocks = len({block.number for block in subject.backbone.blocks})
        kept[mark] = measured(dict(variants(subject)), args.rounds, CPU, subject.title)
        publish(
            args,
            mark,
            f"{subject.title}, {blocks} blocks: {machine(CPU)}, medians of {args.rounds} interleaved rounds, "
            f"{PEER} {installed() or 'not installed'}.\n\n{table(rows_of(kept[mark]))}",
        )
        del subject
    keep(args, kept)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
