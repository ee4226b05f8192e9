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

import yaml

from attnseg import datasets
from attnseg.app.options import clone, count, words_of
from attnseg.datasets.labels import annotated_labels, file_source, known_labels, leftovers
from attnseg.errors import UserError, some
from attnseg.io.files import parsed, write_atomically

LABELS = ("csv", "folders", "mask", "all")
UNLABELLED = ("known", "all")  # sources of labels of some of the photos, or of none


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


def words_alone(args: argparse.Namespace) -> dict:
    """The entry of `datasets` of a data set without photos.

    Raises:
        UserError: if the classes or the prompt are not right, or something is given that needs photos.
    """
    for flag in ("labels", "masks", "train_on", "background_words"):
        if getattr(args, flag) is not None:
            raise UserError(f"--{flag.replace('_', '-')} is about photos; give --photos")
    entry: dict = {
        "source": "folder",
        "root": ".",
        "classes": words_of(args.classes),
        "prompt": args.prompt,
        "splits": {},
    }
    if args.synonyms is not None:
        entry["synonyms"] = synonyms_of(args)
    datasets.load(args.name, entry)
    return entry


def synonyms_of(args: argparse.Namespace) -> dict[str, str]:
    """The better words, by class.

    Raises:
        UserError: if one is for none of the classes.
    """
    classes, found = words_of(args.classes), {}
    for part in words_of(args.synonyms):
        name, equals, word = (text.strip() for text in part.partition("="))
        if name not in classes or not equals or not word:
            raise UserError(f"--synonyms {part}: write class=word, for one of {', '.join(classes)}")
        found[name] = word
    return found


def dataset_of(args: argparse.Namespace) -> dict:
    """The entry of `datasets`.

    Raises:
        UserError: if the photos, labels or masks do not fit.
    """
    root = Path(os.path.abspath(args.photos))
    if not root.is_dir():
        raise UserError(f"{args.photos}: no such folder of photos; correct the path")
    check_apart(args, root)
    entry: dict = {
        "source": "folder",
        "root": str(root),
        "classes": words_of(args.classes),
        "photos": "{id}.*",
        "splits": {"train": {"images": 1, "truth": args.masks is not None}},
    }
    if args.train_on is not None:
        return entry | given_masks(args, root, entry)
    if args.masks is not None:
        entry["masks"] = os.path.abspath(args.masks) + "/{id}.png"
    if args.synonyms is not None:
        entry["synonyms"] = synonyms_of(args)
    if args.background_words is not None:
        entry["background_words"] = words_of(args.background_words)
    facts = datasets.load(args.name, entry)
    ids = facts.read_split(root, "train")
    entry["splits"]["train"]["images"] = len(ids)
    if others := no_photos(root, set(ids)):
        print(f"note: left out, no pictures: {some(others)}")
    entry |= labels_given(args.labels) if args.labels else {"labels": labels_of(facts, root, ids)}
    facts = datasets.load(args.name, entry)
    source = entry["labels"]
    if source == file_source(facts, root):
        own = annotated_labels if facts.annotations else known_labels
        missing = [image_id for image_id in ids if own(facts, root, image_id) is None]
        without = [image_id for image_id in missing if known_labels(facts, root, image_id) is None]
        if without:
            print(f"note: {len(without)} of {len(ids)} photos have no labels: {some(without)}")
        if tabled := len(missing) - len(without):
            print(f"note: {tabled} of {len(ids)} photos have labels in labels.csv alone")
        if missing:
            entry["labels"] = "known"
            facts = datasets.load(args.name, entry)
    for line in leftovers(facts, root, ids, source):
        print(f"note: {line}")
    if args.masks is not None:
        for image_id in ids:
            if not facts.mask_path(root, image_id).is_file():
                raise UserError(
                    f"{facts.mask_path(root, image_id)}: no such mask of a photo; add it"
                )
    if not any([facts.labels(root, image_id) for image_id in ids]):
        raise UserError(
            f"{entry.get('annotations', root)}: no photo has one of the classes {some(facts.classes)}; "
            "name them as the labels do, or say in --synonyms what the labels call them"
        )
    return entry


def no_photos(root: Path, ids: set[str]) -> list[str]:
    """The files below a folder that have no photo's name, but labels.csv and hidden ones."""
    paths = [path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file()]
    return [
        path.as_posix()
        for path in paths
        if path.with_suffix("").as_posix() not in ids
        and path.name != "labels.csv"
        and not any(part.startswith(".") for part in path.parts)
    ]


def check_apart(args: argparse.Namespace, root: Path) -> None:
    """Check that nothing below the photos would be taken for photos.

    Raises:
        UserError: if masks or further photos lie there.
    """
    for kind, folder in (
        ("masks", args.masks),
        ("masks", args.train_on),
        ("further photos", args.further),
    ):
        if folder is not None and root.resolve() in folder.resolve().parents:
            raise UserError(f"{folder}: {kind} lie below --photos; move them")
    for where, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if "manifest.json" in names and "made_with" in record_of(Path(where)):
            raise UserError(f"{where}: masks lie below --photos; move them")


def given_masks(args: argparse.Namespace, root: Path, entry: dict) -> dict:
    """What finished masks to train on add to the entry.

    Raises:
        UserError: if one is missing, has another size than its photo or an unknown number, or if their
            classes are others.
    """
    for flag in ("labels", "masks", "synonyms", "background_words"):
        if getattr(args, flag) is not None:
            raise UserError(
                f"--{flag.replace('_', '-')} is about masks to make; --train-on has some"
            )
    own: dict = {"labels": "mask", "masks": os.path.abspath(args.train_on) + "/{id}.png"}
    record = record_of(args.train_on)
    classes, made_with = record.get("classes"), record.get("made_with")
    if isinstance(classes, list) and classes != entry["classes"]:
        named = ",".join(map(str, classes))
        raise UserError(f"{args.train_on}: masks of --classes {named}, in this order")
    if isinstance(made_with, dict) and made_with.get("exif") == "ignore":
        own["exif"] = "ignore"
    from attnseg.segmentation.data import split_pairs  # which loads numpy

    facts = datasets.load(args.name, entry | own)
    names, pairs = split_pairs(facts, root, "train", args.train_on)
    pairs.check("each photo needs one; `attnseg segment` makes them")
    pairs.check_masks(names)
    own["splits"] = {"train": {"images": len(pairs.ids), "truth": False}}
    return own


def record_of(folder: Path) -> dict:
    """The manifest of a folder of masks; {} where there is none, or one of another program."""
    try:
        record = parsed((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def labels_given(said: str) -> dict[str, str]:
    """What --labels says, as keys of the entry."""
    path = os.path.abspath(said)
    if said in LABELS:
        return {"labels": said}
    if said.lower().endswith(".json"):
        return {"labels": "instances", "annotations": path}
    if os.path.isdir(said):
        return {"labels": "xml", "annotations": f"{path}/{{id}}.xml"}
    raise UserError(
        f"--labels {said}: choose {', '.join(LABELS)}, a COCO file (.json) or a folder of XML files"
    )


def labels_of(facts: datasets.Dataset, root: Path, ids: list[str]) -> str:
    """What says which classes are in the photos."""
    if (root / "labels.csv").is_file():
        return "csv"
    folders = {Path(image_id).parent.name for image_id in ids}
    others = [f"{name or '.'}/" for name in sorted(folders - set(facts.classes))]
    if others and folders & set(facts.classes):
        said = "is no class" if len(others) == 1 else "are no classes"
        print(f"note: folder names are not used as labels: {some(others)} {said}")
    return "all" if others else "folders"


PRESENT = (
    "of photos without labels, a class is present from a score that is chosen on those with labels"
)
FURTHER = "masks of further photos by the segmentor, in the folder of that name in results"

Parts = list[tuple[str, dict]]  # (comment, what it is about)


def head(name: str, about: str, output: Path) -> tuple[str, dict]:
    """The first part: what the file is and where its results go."""
    comment = (
        f"{name}: {about}, made by `attnseg init`.\n"
        f"#   snakemake --cores all --resources gpu=1 --configfile {output}\n"
        "# All keys: config/README.md; `attnseg config FILE` prints what holds in the end."
    )
    return comment, {"paths": {key: f"{key}/{name}" for key in ("work", "results", "resources")}}


def photo_parts(name: str, entry: dict, output: Path, given: bool) -> Parts:
    """Masks of photos, a picture of some, and a segmentor trained on them; or, where masks are `given`,
    the segmentor alone."""
    photos, truth = entry["splits"]["train"]["images"], entry["splits"]["train"]["truth"]
    shown = {"dataset": name, "split": "train", "masks": "base/crf"}
    made = [f"<work>/masks/{name}/train/base/crf/manifest.json", f"{name}_masks"]
    weights = [f"<work>/segmentors/{name}/weights.safetensors"]
    measured = [
        f"<work>/evaluation/masks/{name}/train/base/crf/metrics.json",
        f"<work>/evaluation/segmentors/{name}/train/metrics.json",
    ]
    train = shown | {"masks": "truth"} if given else shown
    segmentor = {
        "extends": "deeplabv2_voc",
        "iterations": max(1000, min(20000, 4 * photos)),
        "train": train,
    }
    targets = weights if given else [*made, *weights, *(measured if truth else [])]
    parts = [
        head(name, f"{photos} photos", output),
        (
            "the masks (<id>.png beside the manifest), a picture of some, a segmentor",
            {"targets": targets},
        ),
        (
            "the number of photos must be right: jobs are planned before they are read",
            {"datasets": {name: entry}},
        ),
        (PRESENT, {"refinements": {"crf": {"presence": "chosen"}}}),
        ("", {"pictures": {f"{name}_masks": dict(shown)}}),
        ("VOC's recipe, shorter", {"segmentors": {name: segmentor}}),
    ]
    unused = {"pictures"} if given else set()
    if entry["labels"] not in UNLABELLED:
        unused.add("refinements")
    return [part for part in parts if not part[1].keys() & unused]


def generated_parts(name: str, entry: dict, images: int, output: Path) -> Parts:
    """Generated images, their masks, and a segmentor trained on them."""
    segmentor = {
        "extends": "real_voc",
        "iterations": max(1000, min(40000, 4 * images)),
        "train": {
            "dataset": name,
            "split": None,
            "synthesis": name,
            "masks": "crf",
            "images": images,
        },
    }
    return [
        head(name, f"{images} generated images", output),
        ("", {"targets": [f"<work>/segmentors/{name}/weights.safetensors"]}),
        ("", {"datasets": {name: entry}}),
        (
            f"images in work/{name}/generated, masks in work/{name}/masks/generated",
            {"synthesis": {name: {"dataset": name, "source": name, "count": images}}},
        ),
        ("attn2mask's recipe for VOC, shorter", {"segmentors": {name: segmentor}}),
    ]


def written(parts: Parts) -> str:
    """The text of the file."""
    texts = []
    for comment, content in parts:
        part = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
        texts.append((f"# {comment}\n" if comment else "") + part)
    return "\n".join(texts)
