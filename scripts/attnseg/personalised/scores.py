"""mIoU, bf_acc and af_acc of personalised segmentation (Text2Mask, Section 5.3).

The predicted mask of an instance is its segment in the joint assignment of its view. With
ground-truth segments mIoU therefore equals af_acc, as in the paper's Mask R-CNN row.
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
    """Scores per triplet: [N] each."""

    ids: list[str]
    iou: np.ndarray  # in [0, 1]
    found_alone: np.ndarray  # bool
    found_together: np.ndarray  # bool
    chance: np.ndarray  # 1 / number of mugs in the view

    def part(self, ids: Sequence[str]) -> "Scores":
        """Select triplets, in the order of `ids`."""
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
    """Score the triplets of `rows`, which maps their ids to their correlations with segments, [S].

    `segments`: those of each (scene, view). With `true_masks` the ground-truth instances take their
    place.
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
                f"{data.root}/masks/{scene}/{view}.png: no pixel of instance {missing[0]}, to which a "
                "triplet refers"
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
    """Instance masks [I, H, W], segment masks [S, H, W], and the segment of each instance [I]."""
    instances = data.read_masks(scene, view, None if segments is None else segments.size)
    if segments is None:
        return instances, instances, np.arange(len(instances))
    masks = segments.masks(threshold)
    truth = np.full(len(instances), NONE)
    visible = instances.any((1, 2))
    truth[visible] = true_segments(masks, instances[visible])
    return instances, masks, truth


def split_metrics(data: Mug19, scores: Scores, split: str) -> tuple[dict, Scores]:
    """Metrics of a split, in per cent except n_triplets and n_images, and its scores."""
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
    """Describe where the order of `ours` and the subject-only or context-only ablation differs.

    `measured`: split -> method -> metrics. In the paper ours is ahead everywhere except in bf_acc of
    the semantic distractors, where subject-only is.
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
                paper = "subject_only is ahead" if exception else "ours is ahead"
                notes.append(
                    f"{split} {measure}: ours {own:.1f}, {other} {its:.1f} (in the paper {paper})"
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
    if "seconds_per_instance" in about:
        parts.append(
            f"learnt in {about['seconds_per_instance']:.0f} s per instance on average (published: "
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
