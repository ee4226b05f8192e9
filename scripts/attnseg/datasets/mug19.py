"""Mug19: photos of mugs, scenes of mugs, and referring expressions (Text2Mask, Section 4).

Data must be brought into this layout::

    mug19/
      subjects.json   {"<subject>": {"class": "mug", "series": "<name of its series>"}, ...}
      scenes.json     {"<scene>": {"instances": [{"subject": "<subject>"}, ...],
                                   "views": ["<view>", ...]}, ...}
      triplets.json   [{"id": "<unique>", "scene": "<scene>", "view": "<view>",
                        "instance": 1, "subject": "<subject>",
                        "description": "the mug filled with cola",
                        "splits": ["all", "semantic_distractor"]}, ...]
      subjects/<subject>/*.jpg or *.png       5 to 10 photos per subject (640x640 in Mug19)
      scenes/<scene>/<view>.jpg or .png       photos of a scene (1137x640 in Mug19)
      masks/<scene>/<view>.png                grey or palette: 0 background, n the n-th of `instances`
      subject_masks/<subject>/<photo>.png     optional: 0 background, 1 the subject

`instance` counts from 1 in the order of the scene's `instances`. `subject` is the mug whose photos
may be used: the instance's own or, in the variant split, a sibling of the same series. The description
contains the class word, which a query replaces by "<new1> <class>". Further keys are allowed
everywhere and ignored here (the mini twin keeps each instance's traits).
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from attnseg.datasets.dataset import Dataset
from attnseg.errors import UserError
from attnseg.io.files import IMAGE_SUFFIXES, images_in, parsed, safe_name

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("all", "semantic_distractor", "visual_distractor", "variant")


@dataclass(frozen=True)
class Triplet:
    """A referring expression (subject and description) and its target instance in a view."""

    id: str
    scene: str
    view: str
    instance: int  # 1-based, the value in the view's mask
    subject: str
    description: str
    splits: tuple[str, ...]

    @property
    def variant(self) -> bool:
        """True if the subject is a sibling of the target instance."""
        return "variant" in self.splits


@dataclass
class Mug19:
    """The index of a Mug19 folder; images are read on demand."""

    root: Path
    subjects: dict[str, dict]
    scenes: dict[str, dict]
    triplets: list[Triplet] = field(default_factory=list)

    def class_of(self, subject: str) -> str:
        return self.subjects[subject].get("class", "mug")

    def photos(self, subject: str) -> list[Path]:
        """The subject's photos, sorted."""
        return images_in(self.root / "subjects" / subject)

    def instances(self, scene: str) -> list[str]:
        """Subjects of a scene's instances 1, 2, ..."""
        return [instance["subject"] for instance in self.scenes[scene]["instances"]]

    def views(self) -> list[tuple[str, str]]:
        """(scene, view) of every photo of a scene."""
        return [(name, view) for name, scene in self.scenes.items() for view in scene["views"]]

    def view_path(self, scene: str, view: str) -> Path:
        folder = self.root / "scenes" / scene
        found = [
            p for p in (folder / f"{view}{suffix}" for suffix in IMAGE_SUFFIXES) if p.is_file()
        ]
        return found[0] if found else folder / f"{view}.jpg"

    def read_view(self, scene: str, view: str) -> "np.ndarray":
        """Read the photo of a view: [H, W, 3] uint8 RGB."""
        from attnseg.datasets.images import read_image

        return read_image(self.view_path(scene, view))

    def read_masks(
        self, scene: str, view: str, size: tuple[int, int] | None = None
    ) -> "np.ndarray":
        """Masks of the visible part of each instance of the scene: [I, H, W] bool."""
        import numpy as np

        from attnseg.datasets.images import read_mask

        numbers = read_mask(self.root / "masks" / scene / f"{view}.png", size)
        count = len(self.scenes[scene]["instances"])
        return numbers == np.arange(1, count + 1)[:, None, None]

    def subject_mask_path(self, photo: Path) -> Path:
        return self.root / "subject_masks" / photo.parent.name / f"{photo.stem}.png"

    def split_sizes(self) -> dict[str, int]:
        """Number of triplets of each split."""
        counts = Counter(split for triplet in self.triplets for split in triplet.splits)
        return {split: counts[split] for split in SPLITS}

    def groups(self) -> dict[tuple[str, str, bool], list[Triplet]]:
        """Triplets that are assigned jointly for af_acc, by (scene, view, variant)."""
        groups: dict[tuple[str, str, bool], list[Triplet]] = {}
        for triplet in self.triplets:
            groups.setdefault((triplet.scene, triplet.view, triplet.variant), []).append(triplet)
        return groups


def read_mug19(root: str | Path) -> Mug19:
    """Read and check the index of a Mug19 folder.

    Raises:
        UserError: if an entry is missing or contradictory; the message names the file and the entry.
    """
    root = Path(root)
    data = Mug19(root, _read(root / "subjects.json", dict), _read(root / "scenes.json", dict))
    try:
        for name, subject in data.subjects.items():
            for part in (name, subject["class"]):
                safe_name(part, root / "subjects.json")
        for name, scene in data.scenes.items():
            for part in (name, *scene["views"]):
                safe_name(part, root / "scenes.json")
            for held in data.instances(name):
                if held not in data.subjects:
                    raise UserError(
                        f"{root / 'scenes.json'}: scene {name} holds {held!r}, which is no "
                        "subject of subjects.json"
                    )
            if len(set(scene["views"])) < len(scene["views"]):
                raise UserError(f"{root / 'scenes.json'}: scene {name} lists a view twice")
        for entry in _read(root / "triplets.json", list):
            fields = {**entry, "splits": tuple(entry["splits"])}
            triplet = Triplet(**{name: fields[name] for name in Triplet.__dataclass_fields__})
            if not isinstance(triplet.id, str):
                raise TypeError(f"an id that is text in place of {triplet.id!r}")
            check_triplet(triplet, data, f"{root / 'triplets.json'}: triplet {triplet.id!r}")
            data.triplets.append(triplet)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{root}: an entry of scenes.json or triplets.json lacks {error}; the layout is "
            "described in attnseg.datasets.mug19"
        ) from None
    repeated = [name for name, count in Counter(t.id for t in data.triplets).items() if count > 1]
    if repeated:
        raise UserError(f"{root / 'triplets.json'}: repeated id {repeated[0]!r}; make ids unique")
    for key, group in data.groups().items():
        if len({triplet.instance for triplet in group}) < len(group):
            raise UserError(
                f"{root / 'triplets.json'}: scene {key[0]}, view {key[1]}: an instance has two "
                "triplets; keep one per instance, and one in the variant split"
            )
    return data


def check_triplet(triplet: Triplet, data: Mug19, where: str) -> None:
    """Raise a `UserError` that begins with `where` unless a triplet fits the subjects and scenes."""
    scene = data.scenes.get(triplet.scene)
    if scene is None or triplet.view not in scene["views"]:
        raise UserError(f"{where}: there is no view {triplet.view} of scene {triplet.scene!r}")
    subjects = data.instances(triplet.scene)
    if not 1 <= triplet.instance <= len(subjects):
        raise UserError(
            f"{where}: its scene has instances 1 to {len(subjects)}, not {triplet.instance}"
        )
    if triplet.subject not in data.subjects:
        raise UserError(f"{where}: {triplet.subject!r} is not a subject")
    unknown = set(triplet.splits) - set(SPLITS)
    if unknown or not triplet.splits:
        raise UserError(f"{where}: its splits must be some of {', '.join(SPLITS)}")
    target = subjects[triplet.instance - 1]
    if triplet.variant == (triplet.subject == target):
        whose = "a sibling's" if triplet.variant else "the instance's own"
        raise UserError(
            f"{where}: the subject of {target!r} is {triplet.subject!r}; it must be {whose}"
        )
    if data.class_of(triplet.subject) not in triplet.description.split():
        raise UserError(f"{where}: its description does not name the class")


Content = TypeVar("Content", dict, list)


def _read(path: Path, kind: type[Content]) -> Content:
    if not path.is_file():
        raise UserError(f"{path}: no such file; the layout is described in attnseg.datasets.mug19")
    try:
        content = parsed(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged JSON ({error})") from None
    if not isinstance(content, kind):
        raise UserError(f"{path}: contains a {type(content).__name__}, not a {kind.__name__}")
    return content


class ReferringExpressions(Dataset):
    """The items of a split are triplets, several per photo."""

    def files(
        self, root: Path, split: str, masks: bool = True
    ) -> tuple[list[str], list[Path], list[Path]]:
        data = read_mug19(root)
        chosen = [triplet for triplet in data.triplets if split in triplet.splits]
        return (
            [triplet.id for triplet in chosen],
            [data.view_path(triplet.scene, triplet.view) for triplet in chosen],
            [data.root / "masks" / t.scene / f"{t.view}.png" for t in chosen] if masks else [],
        )


DATASET = ReferringExpressions(
    name="mug19", layout="mug19", classes=("mug",), photos=None, masks=None, label_sources=()
)
