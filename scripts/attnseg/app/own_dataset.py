"""What a configuration says of a person's photos, from what `attnseg init` is told and finds in the folders."""

import argparse
import os
from pathlib import Path

from attnseg import datasets
from attnseg.app.options import words_of
from attnseg.datasets.labels import annotated_labels, file_source, known_labels, leftovers
from attnseg.errors import UserError, some
from attnseg.io.files import parsed

LABELS = ("csv", "folders", "mask", "all")
UNLABELLED = ("known", "all")  # sources of labels of some of the photos, or of none


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
