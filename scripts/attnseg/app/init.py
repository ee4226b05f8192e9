"""Start a project of your own photos and classes: write one YAML file for the workflow, in a clone.

    attnseg init pets --photos /data/pets --classes dog,cat,sofa
    snakemake --cores all --resources gpu=1 --configfile pets.yaml

makes masks of all photos, a segmentor trained on them, a picture of samples and a report. Photos may
lie in folders below, in any format that Pillow reads. Which classes are in a photo is said by
labels.csv in that folder (columns id, the photo's path without suffix, and classes, separated by
semicolons) or by the name of the folder that it is in; or, with --labels, by a COCO file (.json) of any
categories, or a folder of VOC's XML files. Names there mean the class of that name or synonym; others are
ignored, and counted. In photos of which nothing says it every class is asked for, and counts as present
from a score on, which is chosen on the photos that have labels or ground truth (photos with labels pass
the network twice for it). That is much weaker than labels.

--masks is a folder of ground-truth masks, <id>.png, 0 the background and 1, 2, ... the classes; with it
the quality of the masks is measured, and that of the segmentor.

--train-on is a folder of finished masks, such as one of `attnseg segment`, corrected perhaps: a mask for
each photo, in the size of the photo as it is turned. The segmentor is trained on these, and none are made.

--further is a folder of further photos: the segmentor's masks of them, with a page to look through them,
are in results/<name>/<name>_further, and the report shows some.

Without --photos the segmentor is trained on generated images and their attention (attn2mask):

    attnseg init pets --classes dog,cat,sofa --images 10000
"""

import argparse
import os
import re
from pathlib import Path

from attnseg.app.options import clone, count
from attnseg.app.own_dataset import UNLABELLED, dataset_of, words_alone
from attnseg.app.project_file import FURTHER, generated_parts, photo_parts, written
from attnseg.errors import UserError
from attnseg.io.files import write_atomically


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of the project: letters, digits and _")
    parser.add_argument("--photos", type=Path, help="folder of the photos")
    parser.add_argument("--classes", required=True, help="separated by commas")
    parser.add_argument(
        "--labels",
        metavar="SOURCE",
        help="what says which classes are in a photo: csv (labels.csv), folders (its folder's name), mask "
        "(the ground truth), a COCO file, a folder of VOC's XML files, or all: nothing, and all classes are "
        "looked for (default: labels.csv or folders if they are there, else all)",
    )
    parser.add_argument("--masks", type=Path, help="folder of ground-truth masks, if you have them")
    parser.add_argument(
        "--train-on", type=Path, metavar="MASKS", help="folder of finished masks of the photos"
    )
    parser.add_argument(
        "--further", type=Path, help="folder of further photos, which the segmentor is to predict"
    )
    parser.add_argument(
        "--synonyms", help="better words for classes, as in couch=sofa,tv=television"
    )
    parser.add_argument(
        "--background-words", help="what surrounds the classes (default: Text2Mask's)"
    )
    parser.add_argument(
        "--images", type=count, default=10000, help="without photos, how many are generated"
    )
    parser.add_argument(
        "--prompt", default="a photo of {}", help="without photos, their prompt; {} is a class"
    )
    parser.add_argument("--output", type=Path, help="the file to write (default: <name>.yaml)")


def main(args: argparse.Namespace) -> int:
    clone("attnseg init")
    if not re.fullmatch(r"[A-Za-z]\w*", args.name):
        raise UserError(f"{args.name}: a name starts with a letter and has letters, digits and _")
    output = args.output or Path(f"{args.name}.yaml")
    if output.exists():
        raise UserError(f"{output}: exists already; remove it, or name another file with --output")
    if args.further is not None:
        from attnseg.app.folders import pictures  # which loads numpy

        pictures([str(args.further)], Path(f"{args.name}_further"))
    if args.photos is None:
        entry = words_alone(args)
        parts = generated_parts(args.name, entry, args.images, output)
        print(f"{output}: {args.images} generated images, {len(entry['classes'])} classes")
    else:
        entry = dataset_of(args)
        parts = photo_parts(args.name, entry, output, given=args.train_on is not None)
        photos = entry["splits"]["train"]["images"]
        print(
            f"{output}: {photos} photos, {len(entry['classes'])} classes, labels: {entry['labels']}"
        )
    if args.further is not None:
        name = f"{args.name}_further"
        shown = {"segmentor": args.name, "photos": os.path.abspath(args.further)}
        parts = [*parts, (FURTHER, {"predictions": {name: shown}})]
        next(content for _, content in parts if "targets" in content)["targets"].append(name)
    with write_atomically(output) as partial:
        partial.write_text(written(parts))
    if entry.get("labels") in UNLABELLED:
        where = "all photos" if entry["labels"] == "all" else "photos without labels"
        print(
            f"note: every class is asked for in {where}. There a class counts as present from a score that "
            "is chosen on photos with labels or ground truth, else a usual one. Masks are better with labels "
            f"of all photos, as in {args.photos / 'labels.csv'}: id,classes"
        )
    print(f"next: snakemake --cores all --resources gpu=1 --configfile {output}")
    print(f"to try it without a GPU: --configfile config/mini.yaml {output}")
    return 0
