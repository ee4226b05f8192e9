"""Masks, or a trained segmentor, in the formats of other tools.

    attnseg export masks/ --format coco --output masks.json
    attnseg export masks/ --format yolo-seg --smallest 50 --output pets_yolo/
    attnseg export work/masks/voc/train/base/crf --dataset voc --root resources/VOCdevkit/VOC2012 \\
        --format labelme --polygons --output voc_labelme/
    attnseg export work/segmentors/pets/weights.safetensors --format onnx --output pets.onnx

Masks are a folder of `attnseg segment` or `attnseg predict`, or one of the workflow, with its data set:

    coco           one JSON file; run lengths (exact), or polygons along the pixels' edges
    voc            a folder with JPEGImages, SegmentationClass, SegmentationObject, Annotations, ImageSets
    yolo-seg       a folder with images, labels and data.yaml; always polygons, through pixels' centres
    labelme        a folder of JSON files; masks (exact), or polygons through pixels' centres
    label-studio   a folder with tasks.json and label_config.xml; brush masks (exact), or polygons
    hf-datasets    a folder for datasets.load_dataset, with the photos (the extra `export`)

Instances are the connected parts of a class: two dogs that touch are one. With --instances attention they
are clusters of the self-attention in the class's mask and of nearness, and may have several parts; masks of
`attnseg segment --keep-attention` have it. The files say which. A hole of a polygon, and a further part, is
reached by a bridge of no width (a pixel's in yolo-seg and labelme). Paths of photos are relative to the file that names
them; voc, yolo-seg and hf-datasets hold copies, turned upright if the masks are.

A segmentor as onnx (the extra `onnx`) takes RGB photos as uint8 [batch, height, width, 3] of any size
and gives logits [batch, class, height, width], from one scale; its metadata has the classes and colours.
`attnseg predict` uses it, and needs little else.
"""

import argparse
import importlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from attnseg import datasets
from attnseg.app.options import count
from attnseg.errors import UserError
from attnseg.io.files import temporary_folder

FORMATS = ("coco", "voc", "yolo-seg", "labelme", "label-studio", "hf-datasets")
INSTANCES = {
    "components": "connected parts of a class (8 neighbours)",
    "attention": "clusters of a class's self-attention and of nearness, by normalised cuts",
}
COPYING = ("voc", "yolo-seg", "hf-datasets")  # photos, turned as the masks are


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        type=Path,
        metavar="MASKS",
        help="a folder of masks, or a segmentor's .safetensors",
    )
    parser.add_argument("--format", choices=(*FORMATS, "onnx"), required=True)
    parser.add_argument(
        "--output", type=Path, required=True, help="file (coco, onnx) or new folder"
    )
    parser.add_argument("--polygons", action="store_true", help="in place of exact masks")
    parser.add_argument(
        "--smallest",
        type=count,
        default=1,
        metavar="PIXELS",
        help="leave out instances of fewer pixels",
    )
    parser.add_argument(
        "--instances",
        choices=tuple(INSTANCES),
        default="components",
        help="connected parts of a class, or clusters of its self-attention",
    )
    parser.add_argument("--licence", help="of the photos: a text that the files are to state")
    parser.add_argument("--dataset", type=datasets.load, help=datasets.HELP)
    parser.add_argument("--root", type=Path, help="folder of the data set")
    parser.add_argument("--split", help="needed if photos are in one folder per split")


def main(args: argparse.Namespace) -> int:
    if (args.format == "onnx") != (args.source.suffix == ".safetensors"):
        raise UserError(
            f"{args.source}: --format onnx is for a segmentor (.safetensors), the others for folders "
            "of masks"
        )
    if args.format == "onnx":
        from attnseg.app.overlay import COLOURS, hexadecimal

        try:
            from attnseg.segmentation.to_onnx import write_onnx
        except ImportError as error:
            raise UserError(
                f"--format onnx needs the extra `segmentation` ({error}): the README says how to install it"
            ) from None
        palette = [hexadecimal(number) for number in range(len(COLOURS))]
        about = write_onnx(args.source, args.output, palette)
        print(f"{args.output}: {len(about['classes'])} classes; use it with `attnseg predict`")
        return 0
    try:
        from attnseg.app.exports import masks as folders
    except ImportError as error:
        raise UserError(
            f"`attnseg export` needs OpenCV ({error}): pip install -c envs/requirements.lock '.[export]'"
        ) from None
    masks = folders.read_folder(args.source, args.dataset, args.root, args.split)
    about = {
        "instances": INSTANCES[args.instances]
        + (f" of at least {args.smallest} pixels" if args.smallest > 1 else ""),
        **({"licence": " ".join(args.licence.split())} if args.licence else {}),
    }
    kept = args.source if args.instances == "attention" else None
    masks = replace(masks, smallest=args.smallest, about=about, attention=kept)
    name = args.format.replace("-", "_")
    write = importlib.import_module(f"attnseg.app.exports.{name}").write
    if args.format == "coco":
        if args.output.suffix.lower() != ".json":
            raise UserError(f"--output {args.output}: one JSON file; name it ....json")
        write(masks, args.output, args.polygons)
    else:
        write_folder(args.output, lambda partial: write(masks, partial, args.polygons))
    if args.format not in COPYING:
        sizes = {path: folders.size_of(path, masks.turn) for path, _ in masks.places.values()}
        turned = [path for path, (_, upright) in sizes.items() if not upright]
        if turned:
            print(
                f"note: {len(turned)} photos are stored turned, as {turned[0]}; the masks are of them "
                f"{'upright' if masks.turn else 'as they are stored'}: check that your reader is, too"
            )
    print(f"{len(masks)} photos in {args.output}; instances: {about['instances']}")
    return 0


def write_folder(output: Path, write: Callable[[Path], None]) -> None:
    """A new folder, which is there once all of it is written."""
    if output.exists():
        raise UserError(f"--output {output}: is there already; name a new folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(output.parent) as partial:
        write(partial)
        partial.chmod(0o755)
        os.replace(partial, output)
