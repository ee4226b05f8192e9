#!/usr/bin/env python3
"""Draw what attention can be turned into, side by side (Text2Mask, Figure 2).

A row a class of some photos with several: the photo, the spectral clustering of its self-attention,
Cross, the clusters' mean Cross (CBP), and SelfCross. One noise each.
"""

import argparse
import sys
from pathlib import Path

import torch

from attnseg import datasets
from attnseg.core.maps import min_max
from attnseg.datasets.images import read_image
from attnseg.diffusion.attention import attention_maps, check_blocks
from attnseg.diffusion.extract import (
    Options,
    Sample,
    encode_photos,
    fit_of,
    queries_of,
    sample_noise,
)
from attnseg.diffusion.geometry import in_photo, to_photo
from attnseg.diffusion.load import Parts, load_parts
from attnseg.errors import UserError, run
from attnseg.evaluation.chosen import with_several_classes
from attnseg.evaluation.pictures import Attention, attention_figure
from attnseg.gpu import claim_device
from attnseg.masks.clusters import cbp_scores, spectral_segments
from attnseg.prompts import encode_text, token_positions
from attnseg.settings import ExtractionJob, Figure2
from attnseg.settings.cli import add_settings, given_settings

CLUSTERS = 5


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_settings(parser, ExtractionJob)
    parser.add_argument(
        "--dataset", type=datasets.load, default=datasets.DEFAULT, help=datasets.HELP
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="name of the split's list")
    parser.add_argument("--labels", help="source of the image labels (default: the data set's)")
    parser.add_argument("--count", type=int, default=Figure2().count, help="photos")
    parser.add_argument("--model", required=True, help="folder or hub id of a Stable Diffusion")
    parser.add_argument("--revision", help="of a hub id")
    parser.add_argument(
        "--vocabulary", type=datasets.load, help="another data set, for its words in queries"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--output", type=Path, required=True, help="the picture, PNG or SVG")
    args = parser.parse_args(argv)
    dataset = args.dataset
    options = Options(
        **given_settings(args, ExtractionJob).dump(), vocabulary=args.vocabulary or dataset
    )
    labelled = [
        {"id": i, "classes": dataset.labels(args.root, i, args.labels, args.split)}
        for i in dataset.read_split(args.root, args.split)
    ]
    items = with_several_classes([(item, {}) for item in labelled if item["classes"]], args.count)
    if not items:
        raise UserError(f"{args.root}: no photo of split {args.split} has a class")
    parts = load_parts(args.model, args.revision, claim_device(args.device))
    check_blocks(parts.unet, options.cross_blocks, options.self_block)
    rows = []
    for item, _ in items:
        photo = read_image(dataset.image_path(args.root, item["id"], args.split))
        rows.append(attention_of(parts, Sample(item["id"], photo, item["classes"]), options))
    attention_figure(rows, args.output)
    print(f"{len(rows)} photos in {args.output}")
    return 0


@torch.no_grad()
def attention_of(parts: Parts, sample: Sample, options: Options) -> Attention:
    """Everything that is drawn of a photo, at its own size."""
    fit, size = fit_of(sample.image, parts, options), sample.image.shape[:2]
    latent = encode_photos(parts, [(sample, fit)], options.seed)
    noise = sample_noise(latent.shape[1:], options.seed, sample.id, 0)
    abar = parts.scheduler.alphas_cumprod[options.timestep].float()
    noisy = abar.sqrt() * latent + (1 - abar).sqrt() * noise
    ((_, query),) = queries_of(sample.classes, options)
    tokens = encode_text(parts.tokenizer, [query.text], parts.device)
    (maps,) = attention_maps(
        parts.unet, noisy.to(parts.device, parts.dtype), options.timestep,
        parts.text_encoder(tokens)[0], [token_positions(parts.tokenizer, query)],
        cross_blocks=options.cross_blocks, self_block=options.self_block,
        iterations=options.iterations, with_affinity=True,
    )  # fmt: skip
    inside = in_photo(maps.cross.shape[1:], fit)
    clusters = spectral_segments(maps.affinity, inside, CLUSTERS, options.seed)
    shares = torch.stack([(clusters == n).float() for n in range(CLUSTERS)])
    kinds = {
        "Cross": min_max(maps.cross, inside),
        "CBP": cbp_scores(maps.affinity, maps.cross, CLUSTERS, options.seed),
        "SelfCross": min_max(maps.selfcross, inside),
    }
    return Attention(
        sample.image,
        sample.classes,
        to_photo(shares, fit, size).argmax(0).numpy(),
        {name: to_photo(values, fit, size).numpy() for name, values in kinds.items()},
    )


if __name__ == "__main__":
    sys.exit(run(main))
