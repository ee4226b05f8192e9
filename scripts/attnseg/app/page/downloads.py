"""What a visitor takes along: masks, overlays, a COCO file, and the command that gives the same."""

import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from attnseg.app import overlay
from attnseg.app.page.answers import pixels_of, refinement_of
from attnseg.app.page.network import Network
from attnseg.app.page.sessions import Photo
from attnseg.app.serve import own
from attnseg.core.sizes import enlarged_labels
from attnseg.errors import UserError


def labels_of(photo: Photo) -> np.ndarray:
    """The last answer at the photo's own size: [H, W] uint8."""
    if photo.scores is None:
        raise UserError("there is no mask yet: name what is in the photo, and look")
    return enlarged_labels(photo.scores, (photo.size[0], photo.size[1]))


def mask_file(photo: Photo) -> bytes:
    """The palette PNG that `attnseg segment --output` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mask.png")
        overlay.write_mask(path, labels_of(photo))
        return path.read_bytes()


def overlay_file(photo: Photo, opacity: float) -> bytes:
    """The photo with its masks over it, as `attnseg segment --overlay` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "overlay.png")
        image = pixels_of(photo.name, photo.data)
        names = dict(enumerate(photo.classes, 1))
        overlay.write_overlay(path, image, labels_of(photo), names, opacity)
        return path.read_bytes()


def coco_file(photos: Sequence[Photo]) -> bytes:
    """All photos that have a mask, as `attnseg export --format coco` writes them.

    Raises:
        UserError: if there is none, or OpenCV is not installed.
    """
    try:
        from attnseg.app.exports import coco
        from attnseg.app.exports.masks import Masks
    except ImportError as error:
        raise UserError(
            f"COCO needs OpenCV ({error}); install the extra `export`, as in "
            "pip install -c envs/requirements.lock '.[export]'"
        ) from None
    answered = [photo for photo in photos if photo.scores is not None]
    if not answered:
        raise UserError("there is no mask yet: name what is in the photo, and look")
    classes = list(dict.fromkeys(name for photo in answered for name in photo.classes))
    if len(classes) > 255:
        raise UserError(f"{len(classes)} classes in all photos; a mask holds 255")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as labels:
        places: dict[str, tuple[Path, Path]] = {}
        for photo in answered:
            path = Path(folder, photo.name)
            for again in range(2, len(answered) + 2):
                if path.stem not in places:
                    break
                path = Path(folder, f"{photo.stem}-{again}{Path(photo.name).suffix}")
            mask = Path(labels, f"{len(places)}.png")
            path.write_bytes(photo.data)
            numbers = np.array([0, *(1 + classes.index(name) for name in photo.classes)], np.uint8)
            overlay.write_mask(mask, numbers[labels_of(photo)])
            places[path.stem] = (path, mask)
        masks = Masks(dict(enumerate(classes, 1)), places, ignored=None, turn=True)
        output = Path(folder, ".coco.json")  # no photo's name
        coco.write(masks, output, polygons=False)
        return output.read_bytes()


def command_of(network: Network, photo: Photo) -> str:
    """The command line that makes the last answer."""
    if photo.scores is None:
        raise UserError("there is no mask yet: name what is in the photo, and look")
    refinement, changes, iterations = refinement_of(photo, photo.sliders)
    args, asked = network.args, photo.asked
    words = ["attnseg", "segment", photo.name, "--classes", ",".join(photo.classes)]
    if asked["synonyms"]:
        words += ["--synonyms", ",".join(f"{n}={s}" for n, s in asked["synonyms"].items())]
    if asked["background"] is not None:
        words += ["--background-words", asked["background"]]
    words += ["--model", whole_path(args.model, args.host)]
    if args.revision is not None:
        words += ["--revision", args.revision]
    if args.model_file is not None:
        words += ["--model-file", whole_path(args.model_file, args.host)]
    for flag in ("cross_blocks", "self_block"):
        if getattr(args, flag):
            words += [f"--{flag.replace('_', '-')}", *map(str, getattr(args, flag))]
    if args.device != "auto":
        words += ["--device", args.device]
    for flag, usual in (("noises", 4), ("seed", 0)):
        if asked[flag] != usual:
            words += [f"--{flag}", str(asked[flag])]
    if iterations != 2:
        words += ["--iterations", str(iterations)]
    if refinement.crf is None:
        changes.pop("crf", None)
        words.append("--no-crf")
    if changes:
        words += ["--set", *assignments(changes)]
    words += ["--output", f"{photo.stem}_mask.png", "--overlay", f"{photo.stem}_overlay.png"]
    return shlex.join(words)


def whole_path(value: str, host: str) -> str:
    """A file or folder of this machine by its whole path, since a command is run in the photo's folder; as it is
    otherwise, and for visitors from elsewhere."""
    return str(Path(value).resolve()) if own(host) and Path(value).exists() else str(value)


def assignments(changes: Mapping, above: str = "") -> list[str]:
    """{"a": {"b": 3}} as ["a.b=3"]."""
    found = []
    for name, value in changes.items():
        if isinstance(value, Mapping):
            found += assignments(value, f"{above}{name}.")
        else:
            found.append(f"{above}{name}={json.dumps(value)}")
    return found
