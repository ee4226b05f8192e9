"""Build SegmentationClassAug and the list trainaug from the masks of VOC 2012 and SBD.

    <sbd>/cls/<id>.mat       GTcls.Segmentation: [H, W] uint8, 0 background, 1 to 20, nothing ignored
    <sbd>/train.txt, val.txt

trainaug has the 10,582 ids of SBD and VOC's train that are not in VOC's val. VOC's masks take
precedence, because they are finer and have an ignored border. VOC's val masks are copied as well, so
that one folder has the masks of all splits.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image
from scipy.io import loadmat

from attnseg.datasets.completeness import ids_hash
from attnseg.datasets.images import PALETTE, read_mask, write_mask
from attnseg.datasets.voc import DATASET as VOC
from attnseg.errors import UserError, readable
from attnseg.io.files import write_atomically, write_json
from attnseg.io.processes import results

TRAINAUG = 10582
# SHA-256 of the sorted ids, separated by newlines, of DeepLab's list train_aug
TRAINAUG_SHA256 = "855dff350b7f447bf43cb98ea626a32e0d0b3b7c5786e03b2712a21355b635bf"


def build(
    root: Path,
    sbd: Path,
    *,
    images: int = TRAINAUG,
    processes: int = 1,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict:
    """Write SegmentationClassAug/ and the list trainaug in `root`; return a summary.

    Existing masks are kept, but checked like new ones. The list is written last, when all masks are
    valid.

    Args:
        root: the folder VOCdevkit/VOC2012.
        sbd: the folder benchmark_RELEASE/dataset.
        images: expected number of ids in trainaug.

    Raises:
        UserError: if a file is missing, the number of ids differs, or a mask is invalid.
    """
    root, sbd = Path(root), Path(sbd)
    ids = trainaug_ids(root, sbd, images)
    val = VOC.read_split(root, "val")
    own = {*VOC.read_split(root, "train"), *val}
    work = partial(_make, root, sbd, own)
    every = sorted({*ids, *val})
    done = list(progress(results(work, every, processes, "fork", chunk=16)))
    sources, ignored = Counter(source for source, _ in done), sum(bool(n) for _, n in done)
    summary = {
        "trainaug": len(ids),
        "val": len(val),
        "masks": len(every),
        "from_voc": sources["voc"],
        "from_sbd": sources["sbd"],
        "with_ignored_pixels": ignored,
        "trainaug_sha256": ids_hash(ids),
    }
    write_json(root / "SegmentationClassAug.json", summary)
    with write_atomically(cast(Path, VOC.list_path(root, "trainaug"))) as temporary:
        temporary.write_text("".join(f"{i}\n" for i in ids))
    return summary


def trainaug_ids(root: Path, sbd: Path, images: int = TRAINAUG) -> list[str]:
    """Ids of trainaug, sorted."""
    listed: set[str] = set()
    for name in ("train", "val"):
        path = Path(sbd) / f"{name}.txt"
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; set --sbd to the folder benchmark_RELEASE/dataset"
            )
        with readable(path, "unpack SBD's archive again"):
            listed |= set(path.read_text().split())
    ids = sorted((listed | set(VOC.read_split(root, "train"))) - set(VOC.read_split(root, "val")))
    if len(ids) != images:
        raise UserError(
            f"{sbd}: with VOC's train list and without its val list there are {len(ids)} ids, "
            f"trainaug has {images}; get the official lists of SBD (train.txt, val.txt) and VOC 2012"
        )
    if images == TRAINAUG and ids_hash(ids) != TRAINAUG_SHA256:
        raise UserError(f"{sbd}: {images} ids, but not trainaug's; get the official lists of SBD")
    return ids


def read_sbd_mask(path: Path) -> np.ndarray:
    """Read class numbers from a file of SBD: [H, W] uint8."""
    try:
        mask = loadmat(path, simplify_cells=True)["GTcls"]["Segmentation"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such mask; unpack SBD's archive again") from None
    except Exception as error:  # scipy raises many types for damaged files
        raise UserError(
            f"{path}: not a mask of SBD ({type(error).__name__}: {error}); unpack its archive again"
        ) from None
    return np.asarray(mask)


def _make(root: Path, sbd: Path, own: set[str], image_id: str) -> tuple[str, int]:
    """Make and check one mask; return its source and the number of its ignored pixels."""
    path = VOC.mask_path(root, image_id)
    source = "voc" if image_id in own else "sbd"
    if not path.exists():
        if source == "sbd":
            mask = read_sbd_mask(sbd / "cls" / f"{image_id}.mat")
            if mask.ndim != 2 or mask.min() < 0 or mask.max() > len(VOC.classes):
                raise UserError(f"{sbd}/cls/{image_id}.mat: not a map of classes 0 to 20")
            write_mask(path, mask, PALETTE)
        else:
            original = root / "SegmentationClass" / f"{image_id}.png"
            if not original.is_file():
                raise UserError(f"{original}: no such mask; unpack VOC's archive again")
            with write_atomically(path) as temporary:
                shutil.copyfile(original, temporary)
    return source, _ignored(root, image_id)


def _ignored(root: Path, image_id: str) -> int:
    """Check a mask's palette, classes and size; return the number of its ignored pixels."""
    path = VOC.mask_path(root, image_id)
    with Image.open(path) as image:
        colours = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
    mask = read_mask(path)
    counts = np.bincount(mask.ravel(), minlength=256)
    strange = [int(n) for n in np.nonzero(counts)[0] if n > len(VOC.classes) and n != VOC.ignored]
    if strange:
        raise UserError(
            f"{path}: values {strange}; VOC has 0 to 20 and 255; remove it and run again"
        )
    used = np.nonzero(counts)[0]
    if len(colours) <= used.max() or (colours[used] != PALETTE[used]).any():
        raise UserError(f"{path}: its colours are not VOC's; remove it and run again")
    photo = VOC.image_path(root, image_id)
    if photo.exists():
        with Image.open(photo) as image:
            if image.size != mask.shape[::-1]:
                raise UserError(
                    f"{path}: {mask.shape[1]}x{mask.shape[0]} pixels, its photo has "
                    f"{image.width}x{image.height}; remove the wrong one and download it again"
                )
    return int(counts[VOC.ignored])
