#!/usr/bin/env python3
"""Generate one shard of training images from prompts, with the cross-attention that made them.

Writes <id>.png (or .jpg) in --images, and the class maps at their own resolution in the shard:
"<id>/cross" [K, h, w] float16, with a manifest. The defaults are the paper's: DDPM, 100 steps,
attention of the conditional branch at the 50th. A complete shard made with the same parameters is
kept; an interrupted one is resumed after its last batch. A sample is skipped and listed if its prompt
names no class, a class is past the text encoder's window, or its latents are not finite.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from attnseg.attn2mask.dreambooth_lora import load_lora
from attnseg.attn2mask.generate import Generated, generate
from attnseg.attn2mask.prompt_sets import Prompt, read_prompts
from attnseg.backbones import load_backbone
from attnseg.backbones.model_files import weight_hashes
from attnseg.errors import run
from attnseg.io.files import parameters_hash, sha256, write_atomically
from attnseg.io.gpu import claim_device
from attnseg.io.precision import number_format
from attnseg.io.shard_parts import ShardPart, build_shard
from attnseg.io.shards import manifest_path, members, problem_with
from attnseg.settings import Generation
from attnseg.settings.cli import add_settings, given_settings


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_settings(parser, Generation)
    parser.add_argument("--prompts", type=Path, required=True, help="file of build_prompts")
    parser.add_argument("--limit", type=int, help="use this many prompts, from the first on")
    parser.add_argument("--shard", type=int, default=0, help="number of the shard")
    parser.add_argument("--model", required=True, help="folder or hub id of a Stable Diffusion")
    parser.add_argument("--revision", help="of a hub id")
    parser.add_argument("--lora", type=Path, help="weights of train_dreambooth_lora")
    parser.add_argument("--output", type=Path, required=True, help="shard-NNNNN.safetensors")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args(argv)
    settings = given_settings(args, Generation)
    prompts = members(read_prompts(args.prompts)[: args.limit], args.shard, settings.shard_size)
    device = claim_device(args.device)
    if settings.precision == "auto" and device.type == "cuda":
        precision = None
    else:
        precision = number_format(settings.precision, device)
    backbone = load_backbone(args.model, args.revision, device, precision)
    parameters = {
        **settings.identity(), "model": backbone.name, "weights": weight_hashes(backbone.folder), "lora": None,
        "prompts": parameters_hash({"all": [asdict(p) for p in prompts]}),
    }  # fmt: skip
    if args.lora:
        load_lora(backbone, args.lora)
        parameters["lora"] = sha256(args.lora)
    if complete(args.output, args.images, parameters):
        print(f"{args.output} is complete")
        return 0
    started = time.time()

    def work(batch: list[Prompt]) -> ShardPart:
        (results,) = generate(backbone, batch, settings, len(batch))
        return saved(results, args.images, settings.image_format)

    with tqdm(
        total=len(prompts), desc="images", unit="image", mininterval=2,
        disable=not sys.stderr.isatty(),
    ) as bar:  # fmt: skip
        items, fresh = build_shard(
            args.output, prompts, work, parameters, settings.batch_size,
            lambda items: images_there(items, args.images), bar.update, precision=str(backbone.dtype).removeprefix("torch."),
        )  # fmt: skip
    seconds = time.time() - started
    skipped = [item for item in items if item["skipped"]]
    for item in skipped:
        print(f"skipped {item['id']}: {item['skipped'][0]}")
    print(
        f"{len(items) - len(skipped)} images, {len(skipped)} skipped, {fresh} of them now in "
        f"{seconds:.1f} s ({fresh / seconds:.2f} a second) -> {args.output}"
    )
    return 0


def complete(output: Path, images: Path, parameters: dict) -> bool:
    """True if the shard and all its images exist."""
    if problem_with(output, parameters) is not None:
        return False
    return images_there(json.loads(manifest_path(output).read_text())["items"], images)


def images_there(items: list[dict], images: Path) -> bool:
    return all((images / item["image"]).is_file() for item in items if item["image"])


def manifest_item(prompt: Prompt, result: Generated, image: str) -> dict:
    """One sample's manifest entry; if it was skipped, without an image and with the reason."""
    entry = {
        "id": prompt.id,
        "prompt": prompt.prompt,
        "classes": prompt.classes,
        "seed": prompt.seed,
    }
    if result.skipped:
        return entry | {
            "image": None,
            "image_size": None,
            "grid": None,
            "skipped": [result.skipped],
        }
    return entry | {
        "image": image,
        "image_size": list(result.image.shape[:2]),
        "grid": list(result.cross.shape[1:]),
        "skipped": [],
    }


def saved(results: list[Generated], images: Path, suffix: str) -> ShardPart:
    """Write a batch's images; return its maps and manifest items."""
    tensors, items = {}, []
    for result in results:
        name = f"{result.prompt.id}.{suffix}"
        items.append(manifest_item(result.prompt, result, name))
        if not result.skipped:
            tensors[f"{result.prompt.id}/cross"] = result.cross.half()
            with write_atomically(images / name) as partial:
                options = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
                Image.fromarray(result.image).save(partial, **options)
    return tensors, items


if __name__ == "__main__":
    sys.exit(run(main))
