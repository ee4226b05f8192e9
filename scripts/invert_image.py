#!/usr/bin/env python3
"""Invert one shard of photos by null-text inversion, and record the attention.

The prompt of a photo is the list of its classes. Writes "<id>/cross" [K, h, w] float16 and a manifest
with each photo's reconstruction error, as generate_images does for generated images. A complete shard
made with the same parameters is kept; an interrupted one is resumed after its last batch. A photo is
skipped and listed if it has no class, or its classes do not fit the text encoder's window.
"""

import functools
import sys

import numpy as np
import torch

from attnseg.app import flags
from attnseg.attn2mask.invert import invert_photos
from attnseg.attn2mask.shard_programs import load_adapted
from attnseg.errors import UserError, run
from attnseg.io.gpu import claim_device
from attnseg.io.shard_parts import make_shard
from attnseg.io.shards import members
from attnseg.settings import InversionJob
from attnseg.settings.cli import given_settings


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(
        __doc__,
        "--dataset --root --split --labels --limit --shard --model --revision --model-file --lora --device",
        output="shard-NNNNN.safetensors",
        settings=InversionJob,
    )
    args = parser.parse_args(argv)
    inversion, dataset = given_settings(args, InversionJob), args.dataset
    if dataset.photo_folder(args.split) is None:
        raise UserError(f"photos of {dataset.name} lie in no one folder and cannot be inverted")
    source = args.labels or next(iter(dataset.label_sources), None)
    ids = members(
        dataset.read_split(args.root, args.split)[: args.limit], args.shard, inversion.shard_size
    )
    # half precision has no room for the gradients of losses around 1e-5
    backbone, parameters = load_adapted(args, inversion, claim_device(args.device), torch.float32)
    parameters |= {"labels": source, "dataset": dataset.name, "split": args.split, "ids": ids}
    work = functools.partial(
        invert_photos, backbone, dataset, args.root, args.split, source, inversion
    )
    items = make_shard(args.output, ids, work, parameters, inversion.batch_size, what="photo")
    found = [item["psnr"] for item in items if item["psnr"] is not None]
    if found:
        print(f"mean PSNR {np.mean(found):.1f} dB")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
