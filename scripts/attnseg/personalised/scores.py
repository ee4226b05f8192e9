"""mIoU, bf_acc and af_acc of personalised segmentation (Text2Mask, Section 5.3).

The mask of an instance is the segment it gets when all of its scene are assigned together: with
true segments mIoU is then af_acc, as the paper's Mask R-CNN row shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnseg.datasets.mug19 import SPLITS, Mug19
from attnseg.errors import UserError
from attnseg.evaluations import MEASURES
from attnseg.personalised.assignment import NONE, alone, together, true_segments
from attnseg.personalised.instances import Segments


@dataclass
class Scores:
    """One entry a triplet: [N] each."""

    ids: list[str]
    iou: np.ndarray  # in [0, 1]
    found_alone: np.ndarray  # bool
    found_together: np.ndarray  # bool
    chance: np.ndarray  # 1 over the mugs of the scene

    def part(self, ids: Sequence[str]) -> "Scores":
        """The entries of some triplets, in their order."""
        place = {name: i for i, name in enumerate(self.ids)}
        rows = [place[name] for name in ids]
        arrays = (self.iou, self.found_alone, self.found_together, self.chance)
        return Scores(list(ids), *(array[rows] for array in arrays))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks [H, W] bool; 0 for two empty ones."""
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 0.0


def score(
    data: Mug19,
    segments: Mapping[tuple[str, str], Segments],
    rows: Mapping[str, np.ndarray],
    *,
    threshold: float | None = None,
    true_masks: bool = False,
) -> Scores:
    """Score the triplets of `rows`: id -> its correlation with each segment of its view, [S].

    `segments`: (scene, view) -> its segments. With `true_masks` the segments are the instances' own.
    """
    asked = [triplet for triplet in data.triplets if triplet.id in rows]
    found: dict[str, tuple[float, bool, bool, float]] = {}
    prepared: dict[tuple[str, str], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for (scene, view, _), group in data.groups().items():
        group = [triplet for triplet in group if triplet.id in rows]
        if not group:
            continue
        if (scene, view) not in prepared:
            prepared[scene, view] = _prepare(
                data, scene, view, None if true_masks else segments[scene, view], threshold
            )
        instances, masks, truth = prepared[scene, view]
        missing = [t.instance for t in group if not instances[t.instance - 1].any()]
        if missing:
            raise UserError(
                f"{data.root}/masks/{scene}/{view}.png: no pixel of instance {missing[0]}, which a "
                "triplet asks for"
            )
        values = np.stack([rows[triplet.id] for triplet in group])
        if values.shape[1] != len(masks):
            raise UserError(
                f"scene {scene}, view {view}: predictions for {values.shape[1]} segments where there "
                f"are {len(masks)}: segment the instances again"
            )
        wanted = truth[[triplet.instance - 1 for triplet in group]]
        first, assigned = alone(values), together(values)
        for triplet, want, one, all_ in zip(group, wanted, first, assigned, strict=True):
            own = instances[triplet.instance - 1]
            iou = 0.0 if all_ == NONE else overlap(masks[all_], own)
            found[triplet.id] = (
                iou, want != NONE and one == want, want != NONE and all_ == want, 1 / len(instances),
            )  # fmt: skip
    columns: list[Any] = (
        list(zip(*(found[triplet.id] for triplet in asked), strict=True)) or [[]] * 4
    )
    quality, first, assigned, chance = columns
    return Scores(
        [triplet.id for triplet in asked],
        np.array(quality, float),
        np.array(first, bool),
        np.array(assigned, bool),
        np.array(chance, float),
    )


def _prepare(
    data: Mug19, scene: str, view: str, segments: Segments | None, threshold: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Instance masks [I, H, W], segment masks [S, H, W], and each instance's true segment [I]."""
    instances = data.read_masks(scene, view, None if segments is None else segments.size)
    if segments is None:
        return instances, instances, np.arange(len(instances))
    masks = segments.masks(threshold)
    truth = np.full(len(instances), NONE)
    visible = instances.any((1, 2))
    truth[visible] = true_segments(masks, instances[visible])
    return instances, masks, truth


def split_metrics(data: Mug19, scores: Scores, split: str) -> tuple[dict, Scores]:
    """{n_triplets, n_images, miou, bf_acc, af_acc, chance} in per cent, and the split's scores."""
    chosen = [t for t in data.triplets if split in t.splits]
    part = scores.part([triplet.id for triplet in chosen])
    metrics: dict = {
        "n_triplets": len(chosen),
        "n_images": len({(t.scene, t.view) for t in chosen}),
    }
    for name, attribute in {**MEASURES, "chance": "chance"}.items():
        values = getattr(part, attribute)
        metrics[name] = round(100 * float(values.mean()), 4) if len(values) else None
    return metrics, part


def order_notes(
    measured: Mapping[str, Mapping[str, dict]], ours: str = "custom_selfcross"
) -> list[str]:
    """Where `ours` is not ahead of a method that knows the subject or the words alone.

    `measured`: split -> method -> metrics. In the paper ours is ahead everywhere, but for bf_acc of
    the semantic distractors, where the subject alone is.
    """
    notes = []
    for split in SPLITS:
        methods = measured.get(split, {})
        for other in ("subject_only", "context_only"):
            if ours not in methods or other not in methods:
                continue
            for measure in MEASURES:
                own, its = methods[ours][measure], methods[other][measure]
                exception = (split, other, measure) == (
                    "semantic_distractor", "subject_only", "bf_acc",
                )  # fmt: skip
                if own is None or its is None or (own > its) != exception:
                    continue
                said = "the subject alone is ahead" if exception else "ours is ahead"
                notes.append(
                    f"{split} {measure}: ours {own:.1f}, {other} {its:.1f} (in the paper {said})"
                )
    return notes


def remarks(split: str, metrics: dict, about: dict, parameters: dict) -> list[str]:
    """What a table says beside the numbers: chance, where segments are not the paper's, cost."""
    if not metrics["n_triplets"]:
        return [f"no triplet of {split}"]
    parts = [f"chance {metrics['chance']:.1f} in {split}"]
    if parameters.get("locality") is not None and not about.get("true_masks"):
        parts.append(
            f"segments: the affinity times a Gaussian of {parameters['locality']:g} cells, unlike the "
            "paper's"
        )
    if "seconds_an_instance" in about:
        parts.append(
            f"learnt in {about['seconds_an_instance']:.0f} s an instance on average (published: "
            "6 minutes on two A100s)"
        )
    return parts


def partial_data(data: Mug19, rows: dict[str, np.ndarray]) -> Mug19:
    """The data set with the answered triplets only: segment_instances.py may have done some scenes."""
    answered = [triplet for triplet in data.triplets if triplet.id in rows]
    if not answered:
        raise UserError(
            f"{data.root}: none of its triplets is answered; segment the instances again"
        )
    return Mug19(data.root, data.subjects, data.scenes, answered)
