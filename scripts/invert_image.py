#!/usr/bin/env python3
"""Invert one shard of photos by null-text inversion, and record the attention.

The prompt of a photo is the list of its classes. Writes "<id>/cross" [K, h, w] float16 and a manifest
with each photo's reconstruction error, as generate_images does for generated images. A complete shard
made with the same parameters is kept; an interrupted one is resumed after its last batch. A photo is
skipped and listed if it has no class, its classes do not fit the text encoder's window, or its
inversion is not finite.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from attnseg import datasets
from attnseg.attn2mask.dreambooth_lora import load_lora
from attnseg.attn2mask.invert import invert, psnr
from attnseg.backbones import load_backbone
from attnseg.backbones.interface import Backbone
from attnseg.backbones.model_files import weight_hashes
from attnseg.datasets.images import read_image
from attnseg.errors import UserError, run
from attnseg.io.files import sha256
from attnseg.io.gpu import claim_device
from attnseg.io.shard_parts import ShardPart, build_shard
from attnseg.io.shards import members, problem_with
from attnseg.settings import InversionJob
from attnseg.settings.cli import add_settings, given_settings
from attnseg.text2mask.queries import text_query


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_settings(parser, InversionJob)
    parser.add_argument(
        "--dataset", type=datasets.load, default=datasets.DEFAULT, help=datasets.HELP
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="name of the split's list")
    parser.add_argument("--limit", type=int, help="use this many photos, from the first on")
    parser.add_argument("--labels", help="source of the image labels (default: the data set's)")
    parser.add_argument("--shard", type=int, default=0, help="number of the shard")
    parser.add_argument("--model", required=True, help="folder or hub id of a Stable Diffusion")
    parser.add_argument("--revision", help="of a hub id")
    parser.add_argument("--lora", type=Path, help="weights of train_dreambooth_lora")
    parser.add_argument("--output", type=Path, required=True, help="shard-NNNNN.safetensors")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args(argv)
    inversion, dataset = given_settings(args, InversionJob), args.dataset
    folder = dataset.photo_folder(args.split)
    if folder is None:
        raise UserError(f"photos of {dataset.name} are not in one folder and cannot be inverted")
    source = args.labels or next(iter(dataset.label_sources), None)
    ids = members(
        dataset.read_split(args.root, args.split)[: args.limit], args.shard, inversion.shard_size
    )
    # gradients of losses around 1e-5 underflow in half precision
    backbone = load_backbone(args.model, args.revision, claim_device(args.device), torch.float32)
    parameters = {
        **inversion.identity(), "model": backbone.name, "weights": weight_hashes(backbone.folder), "lora": None, "labels": source,
        "dataset": dataset.name, "split": args.split, "ids": ids,
    }  # fmt: skip
    if args.lora:
        load_lora(backbone, args.lora)
        parameters["lora"] = sha256(args.lora)
    if problem_with(args.output, parameters) is None:
        print(f"{args.output} is complete")
        return 0
    started = time.time()

    def work(batch: list[str]) -> ShardPart:
        photos = [dataset.image_path(args.root, image_id, args.split) for image_id in batch]
        classes = [dataset.labels(args.root, image_id, source, args.split) for image_id in batch]
        images = [read_image(path) for path in photos]
        names = [photo.relative_to(args.root / folder).as_posix() for photo in photos]
        items = [
            {
                "id": image_id, "prompt": None, "classes": present, "image": name,
                "image_size": list(image.shape[:2]), "grid": None, "psnr": None, "skipped": [],
            }
            for image_id, present, name, image in zip(batch, classes, names, images, strict=True)
        ]  # fmt: skip
        return inverted(backbone, images, items, inversion, dataset), items

    with tqdm(
        total=len(ids), desc="inversion", unit="photo", mininterval=2,
        disable=not sys.stderr.isatty(),
    ) as bar:  # fmt: skip
        items, fresh = build_shard(
            args.output, ids, work, parameters, inversion.batch_size, progress=bar.update
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
    inversion: InversionJob,
    vocabulary: datasets.Dataset,
) -> dict[str, torch.Tensor]:
    """Compute class maps of a batch of photos [H, W, 3] uint8; fill in their manifest items."""
    usable, queries, positions = [], [], []
    for row, item in enumerate(items):
        try:
            query = text_query(item["classes"], background=False, vocabulary=vocabulary)
            positions.append(backbone.token_positions(query))
        except UserError as error:
            item["skipped"].append(str(error))
            continue
        queries.append(query)
        usable.append(row)
        item["prompt"] = query.text
    if not usable:
        return {}
    shape = backbone.size[::-1]
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
