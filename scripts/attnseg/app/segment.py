"""Segment photos by naming what is in them.

    attnseg segment photo.jpg --classes dog,sofa --model CompVis/stable-diffusion-v1-4 \\
        --revision 133a221b8aa7292a167afc5127cb63fb5005638b --output mask.png --overlay overlay.png

or many at once, with the model loaded once:

    attnseg segment holiday/ more/*.jpg --classes dog,sofa --model ... --output masks/

or a thing of one's own, learnt by `attnseg train-subject`, among others of its class:

    attnseg segment scene.jpg --personal my_mug --query "the <new1> mug filled with cola" \\
        --output mask.png --overlay overlay.png

A mask is a palette PNG: 0 is the background, 1, 2, ... the classes in the order given, or the one
thing that the query means. Name only what is in the photo: each class named is looked for, and found.
Where photos have different classes, list them in a CSV file (--labels; labels.csv in a folder of photos is
found), and give all classes in --classes if their numbers in the masks matter, else they are sorted:

    id,classes
    beach,dog
    garden/evening,cat;sofa

Many photos are written to a folder: <photo>.png each, overlays/<photo>.jpg, index.html to look through
them, and manifest.json with the numbers of the classes and the share of each in every photo. The same
command resumes an interrupted run. Masks of photos of more than 2 million pixels are made at that
size and enlarged.
"""

import argparse
from pathlib import Path

from attnseg.app import flags
from attnseg.app.options import add_photos, count, natural
from attnseg.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_photos(parser)
    parser.add_argument(
        "--classes",
        help="what is in the photos, separated by commas; their order numbers them in the masks",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="the classes of each photo: columns id (its name without suffix, below its folder) and "
        "classes (separated by semicolons)",
    )
    parser.add_argument(
        "--synonyms", help="words for classes in the query, as in tv=television,couch=sofa"
    )
    parser.add_argument(
        "--background-words",
        help="words for what surrounds the classes, separated by commas; '' for none (default: "
        "Text2Mask's ten, tree, river, sea, ...)",
    )
    parser.add_argument("--personal", type=Path, help="folder of `attnseg train-subject`")
    parser.add_argument("--query", help="with --personal, as in 'the <new1> mug filled with cola'")
    parser.add_argument(
        "--model",
        help="folder or hub id of a text-to-image model: Stable Diffusion, SDXL, PixArt, Sana, FLUX, "
        "Qwen-Image, Z-Image (with --personal, by default the one it is for)",
    )
    flags.add(parser, "--revision --model-file --device")
    flags.add(parser, "--output", help="mask (.png) of one photo, or folder for many")
    parser.add_argument(
        "--overlay",
        type=Path,
        help="picture of one photo with the mask over it, and the names below (PNG, JPEG, ...)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="make masks again that other settings have made in this folder",
    )
    parser.add_argument(
        "--keep-attention",
        action="store_true",
        help="keep the self-attention of each of many photos in attention/ (6 MB of a 4:3 photo with Stable "
        "Diffusion 1.x), for `attnseg export --instances attention`",
    )
    parser.add_argument(
        "--noises",
        type=count,
        help="maps averaged (default 4, with --personal the paper's 1)",
    )
    parser.add_argument(
        "--crf",
        action=argparse.BooleanOptionalAction,
        help="refine the edges with a dense CRF (the extra `crf`)",
    )
    parser.set_defaults(crf=True)
    parser.add_argument(
        "--iterations",
        type=natural,
        help="propagations of Cross by Self (default 2, the paper's; 0: Cross alone)",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="keys of refinements in config/README.md, as in background.power=3 crf.bilateral.srgb=13",
    )
    flags.add(parser, "--cross-blocks --self-block --reading")
    parser.add_argument(
        "--instances", type=int, default=4, help="with --personal, how many of the class there are"
    )
    parser.add_argument(
        "--foreground-threshold",
        type=float,
        help="with --personal, of the class's map (default: where x > (1 - x)^2)",
    )
    parser.add_argument(
        "--locality",
        type=float,
        metavar="CELLS",
        help="with --personal, how near the cells of a thing are (default: no matter)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument(
        "--batch-size",
        type=count,
        help="photos, counting each of their noises, that pass the network together (default: by their "
        "size and the device)",
    )
    parser.add_argument(
        "--processes", type=count, help="of the CRF, with many photos (default: the cores)"
    )


def main(args: argparse.Namespace) -> int:
    beside = Path(args.photos[0]) / "labels.csv"
    if args.labels is None and args.personal is None and len(args.photos) == 1 and beside.is_file():
        args.labels = beside
    asked = [args.classes is not None or args.labels is not None, args.personal is not None]
    if sum(asked) != 1:
        raise UserError("give either --classes (or --labels), or --personal and --query")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: must be 0 or more")
    if args.model is None and args.personal is None:
        raise UserError(
            "--model: name a text-to-image model: for photos, an id on the hub and its --revision (see "
            "--help) or a folder; for scenes of the mini world, assets/mini_sd of a clone"
        )
    many = len(args.photos) > 1 or Path(args.photos[0]).is_dir() or "*" in args.photos[0]
    if many and args.output.suffix.lower() == ".png":
        raise UserError(f"--output {args.output}: many photos need a folder; leave out the .png")
    if args.personal or (args.output.suffix and not many and not args.output.is_dir()):
        return segment_one(args)
    if args.overlay:
        raise UserError("--overlay is for one photo; a folder of masks has its overlays/")

    from attnseg.app import photos  # imports torch: after all that can be said at once

    return photos.segment_all(args)


def segment_one(args: argparse.Namespace) -> int:
    if len(args.photos) > 1:
        raise UserError("--personal takes one photo at a time")
    args.photo = Path(args.photos[0])
    if not args.photo.is_file():
        raise UserError(f"{args.photo}: no such photo; correct the path")
    if args.output.suffix.lower() != ".png":
        raise UserError(f"--output {args.output}: a mask is a PNG; name it ....png")
    if args.set and args.personal:
        raise UserError("--set is for --classes: a query's mask has a threshold of its own")
    if args.keep_attention:
        raise UserError("--keep-attention is for a folder of masks; give --output a folder")
    if args.labels:
        raise UserError("--labels is for many photos, whose --output is a folder; give --classes")

    from attnseg.app import overlay, photo

    if args.overlay:
        overlay.check_name(args.overlay)
    by = photo.by_classes if args.personal is None else photo.by_query
    names, image, labels = by(args)
    overlay.write_mask(args.output, labels)
    if args.overlay:
        overlay.write_overlay(args.overlay, image, labels, dict(enumerate(names, 1)))
    for number, name in enumerate(["background", *names]):
        share = 100 * (labels == number).mean()
        print(f"{number:3d}  {overlay.hexadecimal(number)}  {share:5.1f} %  {name}")
    return 0
