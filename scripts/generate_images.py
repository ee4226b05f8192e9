#!/usr/bin/env python3
"""Generate one shard of training images from prompts, with the cross-attention that made them.

Writes <id>.png (or .jpg) in --images, and the class maps at their own resolution in the shard:
"<id>/cross" [K, h, w] float16, with a manifest. The defaults are the paper's: DDPM, 100 steps,
attention of the conditional branch at the 50th. A complete shard made with the same parameters is
kept; an interrupted one is resumed after its last batch. A sample is skipped and listed if its prompt
names no class, or a class is past the text encoder's window.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from attnseg.app import flags
from attnseg.attn2mask.generate import generate, save_images
from attnseg.attn2mask.prompt_sets import Prompt, read_prompts
from attnseg.attn2mask.shard_programs import load_adapted
from attnseg.errors import run
from attnseg.io.files import is_same, parameters_hash
from attnseg.io.gpu import claim_device
from attnseg.io.precision import number_format
from attnseg.io.shard_parts import ShardPart, make_shard
from attnseg.io.shards import members
from attnseg.settings import Generation
from attnseg.settings.cli import given_settings


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(
        __doc__,
        "--limit --shard --model --revision --model-file --lora --device --images",
        output="shard-NNNNN.safetensors",
        settings=Generation,
    )
    parser.add_argument("--prompts", type=Path, required=True, help="file of build_prompts")
    args = parser.parse_args(argv)
    settings = given_settings(args, Generation)
    prompts = members(read_prompts(args.prompts)[: args.limit], args.shard, settings.shard_size)
    device = claim_device(args.device)
    if settings.precision == "auto" and device.type == "cuda":
        precision = None
    else:
        precision = number_format(settings.precision, device)
    backbone, parameters = load_adapted(args, settings, device, precision)
    parameters["prompts"] = parameters_hash({"all": [asdict(p) for p in prompts]})

    def work(batch: Sequence[Prompt]) -> ShardPart:
        (results,) = generate(backbone, list(batch), settings, len(batch))
        return save_images(results, args.images, settings.image_format)

    make_shard(
        args.output, prompts, work, parameters, settings.batch_size,
        lambda items: images_there(items, args.images),
        precision=str(backbone.dtype).removeprefix("torch."),
    )  # fmt: skip
    return 0


def images_there(items: list[dict], images: Path) -> bool:
    """True if no image of a shard's items is gone or another; items of earlier releases know no `photo`."""
    return all(
        is_same(images / item["image"], item["photo"])
        if "photo" in item
        else (images / item["image"]).is_file()
        for item in items
        if item["image"]  # None of a skipped prompt
    )


if __name__ == "__main__":
    sys.exit(run(main))
