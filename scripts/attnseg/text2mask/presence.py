"""Where photos have no labels: every class is asked for, and what is not there left out afterwards."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnseg.core.geometry import Fit, in_photo
from attnseg.core.presence import best_threshold, presence
from attnseg.datasets import Dataset
from attnseg.datasets.labels import known_labels

DEFAULT = 0.75  # the best on scenes of the mini world's dev, for three sets of 5 to 7 classes
Job = tuple[dict, dict[str, np.ndarray]]  # a photo's entry in the shard's manifest, and its maps


@dataclass(frozen=True)
class Present:
    """What is in the photos: what labels say, else the classes whose score reaches `threshold`."""

    threshold: float
    labels: Mapping[str, Sequence[str]]  # of photos that have some
    scored: int  # photos that the threshold was chosen on; 0: none
    f1: float | None  # on these
    background: bool = True  # without one, the best class is there

    def about(self) -> dict:
        """What the manifest of the masks says of it."""
        labels = hashlib.sha256(json.dumps(self.labels, sort_keys=True).encode()).hexdigest()
        return {
            "threshold": round(self.threshold, 4),
            "chosen_on": self.scored,
            "f1": self.f1 and round(self.f1, 3),
            "labelled": len(self.labels),
            "labels": labels,
        }

    def only(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Each photo with the classes that are there, and their maps."""
        for item, kinds in jobs:
            if not item["classes"]:
                yield item, kinds
                continue
            if item["id"] in self.labels:
                keep = [name in self.labels[item["id"]] for name in item["classes"]]
            else:
                scores = scores_of(item, kinds)
                keep = (scores >= self.threshold).tolist()
                if not any(keep) and not self.background:
                    keep = (scores == scores.max()).tolist()
            classes = [name for name, there in zip(item["classes"], keep, strict=True) if there]
            yield item | {"classes": classes}, {k: maps[keep] for k, maps in kinds.items()}


def sentences(about: Mapping) -> str:
    """What `Present.about` says, for the log and the report."""
    if about["f1"] is None:
        where = "given, or the usual one where no photo has labels or ground truth"
    else:
        where = f"the best on {about['chosen_on']} photos with labels or ground truth (F1 {about['f1']:.2f})"
    return (
        f"{about['labelled']} photos have labels, and no other classes in their masks. In the others every "
        f"class was asked for, and counts as present from a score of {about['threshold']:.2f}, {where}: their "
        "masks are weaker than with labels."
    )


def scores_of(item: dict, kinds: Mapping[str, np.ndarray]) -> np.ndarray:
    """The presence of each class that was asked for: [K] in [0, 1]."""
    cross = kinds["cross"]
    fit = Fit(tuple(item["content"]), tuple(item["padded"]))
    return presence(cross, in_photo(cross.shape[1:], fit).numpy())


def present_classes(
    wanted: float | str, dataset: Dataset, root: Path, split: str | None, jobs: Iterable[Job]
) -> Present:
    """What is in the photos of `jobs`.

    Labels in files are taken as they are. Where a photo was asked for these alone, its entry has the
    `scores` of every class, from another pass. The threshold, where it is "chosen", is the best on the photos
    that have labels or ground truth, and DEFAULT where none has; ground truth says nothing else.
    """
    labels: dict[str, list[str]] = {}
    scores: list[np.ndarray] = []
    present: list[np.ndarray] = []
    for item, kinds in jobs:
        said = known_labels(dataset, root, item["id"], split)
        if said is not None:
            labels[item["id"]] = said
        elif dataset.masks and dataset.mask_path(root, item["id"], split).is_file():
            said = dataset.labels_from_mask(root, item["id"], split)
        asked = dataset.classes if "scores" in item else item["classes"]
        if said is not None and wanted == "chosen" and asked:
            found = np.array(item["scores"]) if "scores" in item else scores_of(item, kinds)
            scores.append(found)
            present.append(np.array([name in said for name in asked]))
    threshold, f1 = DEFAULT if wanted == "chosen" else float(wanted), None
    chosen_on = len(scores) if any(there.any() for there in present) else 0
    if chosen_on:
        threshold, f1 = best_threshold(np.concatenate(scores), np.concatenate(present))
    return Present(threshold, labels, chosen_on, f1, dataset.background)
