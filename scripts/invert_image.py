#!/usr/bin/env python3
"""Null-text inversion of one shard of photos: the attention of the trajectories that make them.

The prompt of a photo is the list of its classes. Writes "<id>/cross" [K, h, w] float16 and a manifest
with each photo's reconstruction error, as generate_images does for generated images. A complete shard
made with the same parameters is left as it is; an interrupted one goes on after its last batch. A
photo without a class, whose classes do not fit the text window, or whose inversion is not finite is
skipped and listed.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from attnseg.attn2mask.dreambooth_lora import load_lora
from attnseg.attn2mask.invert import Inversion, invert, psnr
from attnseg.backbones import load_backbone
from attnseg.backbones.interface import Backbone
from attnseg.backbones.model_files import weight_hashes
from attnseg.datasets import voc
from attnseg.errors import UserError, run
from attnseg.files import sha256
from attnseg.gpu import claim_device
from attnseg.prompts import text_query
from attnseg.shard_parts import Batch, build_shard
from attnseg.shards import members, problem_with

DATASETS = {"voc": voc}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = Inversion()
    parser.add_argument("--dataset", choices=DATASETS, default="voc")
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="name of the split's list")
    parser.add_argument("--limit", type=int, help="use this many photos, from the first on")
    parser.add_argument(
        "--labels", choices=("xml", "mask", "csv"), default="xml", help="image labels"
    )
    parser.add_argument("--shard", type=int, default=0, help="number of the shard")
    parser.add_argument("--shard-size", type=int, default=500)
    parser.add_argument("--model", required=True, help="folder or hub id of a Stable Diffusion")
    parser.add_argument("--revision", help="of a hub id")
    parser.add_argument("--lora", type=Path, help="weights of train_dreambooth_lora")
    parser.add_argument("--output", type=Path, required=True, help="shard-NNNNN.safetensors")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--inner-iterations", type=int, default=defaults.inner_iterations)
    parser.add_argument("--guidance", type=float, default=defaults.guidance)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument(
        "--timestep", type=int, default=defaults.timestep, help="attention is read nearest to it"
    )
    parser.add_argument("--cross-blocks", type=int, nargs="+", help="default: all of the U-Net")
    parser.add_argument(
        "--size", type=int, nargs="+", help="side, or height and width (default: the model's)"
    )
    parser.add_argument("--batch-size", type=int, default=4, help="photos at a time")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.batch_size < 1 or args.inner_iterations < 0:
        raise UserError(
            "--steps and --batch-size must be at least 1, --inner-iterations at least 0"
        )
    inversion = Inversion(
        steps=args.steps,
        inner_iterations=args.inner_iterations,
        guidance=args.guidance,
        learning_rate=args.learning_rate,
        timestep=args.timestep,
        cross_blocks=tuple(args.cross_blocks) if args.cross_blocks else None,
    )
    dataset = DATASETS[args.dataset]
    ids = members(
        dataset.read_split(args.root, args.split)[: args.limit], args.shard, args.shard_size
    )
    # half precision has no room for the gradients of losses around 1e-5
    backbone = load_backbone(args.model, args.revision, claim_device(args.device), torch.float32)
    size = (args.size[0], args.size[-1]) if args.size else None
    parameters = {
        **inversion.parameters(), "model": backbone.name, "weights": weight_hashes(backbone.folder), "lora": None, "labels": args.labels,
        "dataset": args.dataset, "split": args.split, "ids": ids, "size": size and list(size),
    }  # fmt: skip
    if args.lora:
        load_lora(backbone, args.lora)
        parameters["lora"] = sha256(args.lora)
    if problem_with(args.output, parameters) is None:
        print(f"{args.output} is complete")
        return 0
    started = time.time()

    def work(batch: list[str]) -> Batch:
        photos = [dataset.image_path(args.root, image_id) for image_id in batch]
        classes = [dataset.labels(args.root, image_id, args.labels) for image_id in batch]
        images = [dataset.read_image(path) for path in photos]
        items = [
            {
                "id": image_id, "prompt": None, "classes": names, "image": photo.name,
                "image_size": list(image.shape[:2]), "grid": None, "psnr": None, "skipped": [],
            }
            for image_id, names, photo, image in zip(batch, classes, photos, images, strict=True)
        ]  # fmt: skip
        return inverted(backbone, images, items, inversion, size), items

    with tqdm(
        total=len(ids), desc="inversion", unit="photo", mininterval=2,
        disable=not sys.stderr.isatty(),
    ) as bar:  # fmt: skip
        items, fresh = build_shard(
            args.output, ids, work, parameters, args.batch_size, progress=bar.update
        )
    seconds = time.time() - started
    for item in items:
        if item["skipped"]:
            print(f"skipped {item['id']}: {item['skipped'][0]}")
    found = [item["psnr"] for item in items if item["psnr"] is not None]
    print(
        f"{len(found)} photos, {len(items) - len(found)} skipped, mean PSNR "
        f"{np.mean(found) if found else float('nan'):.1f} dB, {fresh} of them now in "
        f"{seconds:.1f} s -> {args.output}"
    )
    return 0


def inverted(
    backbone: Backbone,
    images: list[np.ndarray],
    items: list[dict],
    inversion: Inversion,
    size: tuple[int, int] | None,
) -> dict[str, torch.Tensor]:
    """The class maps of a batch of photos [H, W, 3] uint8; fills in their manifest items."""
    usable, queries, positions = [], [], []
    for row, item in enumerate(items):
        try:
            query = text_query(item["classes"], background=False)
            positions.append(backbone.token_positions(query))
        except UserError as error:
            item["skipped"].append(str(error))
            continue
        queries.append(query)
        usable.append(row)
        item["prompt"] = query.text
    if not usable:
        return {}
    backbone.shape_of(size)
    shape = (size or backbone.size)[::-1]
    pixels = np.stack([np.asarray(Image.fromarray(images[row]).resize(shape)) for row in usable])
    unit = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = backbone.encode_images(unit).latents()
    result = invert(backbone, latents, [query.text for query in queries], positions, inversion)
    rebuilt = torch.from_numpy(backbone.decode(result.latents[-1].nan_to_num()))
    errors = psnr(rebuilt, torch.from_numpy(pixels))
    tensors = {}
    for place, row in enumerate(usable):
        maps = result.cross[place, : len(items[row]["classes"])]
        if not (maps.isfinite().all() and result.latents[-1][place].isfinite().all()):
            items[row]["skipped"].append("the inversion is not finite")
            continue
        items[row]["grid"] = list(maps.shape[1:])
        items[row]["psnr"] = round(float(errors[place]), 2)
        tensors[f"{items[row]['id']}/cross"] = maps.half().cpu()
    return tensors


if __name__ == "__main__":
    sys.exit(run(main))
