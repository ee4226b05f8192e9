"""The mask and the overlay of one of many photos. Other processes import this file: no diffusion here."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from attnseg.app.folders import write_entry
from attnseg.core.sizes import enlarged_labels
from attnseg.settings import RefinementJob
from attnseg.text2mask.sizes import photo_scores


@dataclass
class Unit:
    """A photo on its way: what the network found, for the process that makes its mask."""

    id: str
    image: np.ndarray  # reduced
    size: tuple[int, int]  # of the photo
    item: dict
    maps: np.ndarray
    numbers: dict[int, str]  # class numbers in the mask, in the order of `maps`
    refinement: RefinementJob
    output: Path


def write(unit: Unit) -> dict:
    """Write a photo's mask and overlay; return its entry in the manifest."""
    numbers = np.array([0, *unit.numbers], np.uint8)
    if unit.numbers:
        maps = torch.from_numpy(unit.maps).float()
        scores = photo_scores(unit.image, unit.item, maps, unit.refinement)
        labels = numbers[enlarged_labels(scores, unit.size)]
        shown = numbers[scores.argmax(0)]
    else:
        labels, shown = np.zeros(unit.size, np.uint8), np.zeros(unit.image.shape[:2], np.uint8)
    entry = write_entry(unit.output, unit.id, unit.image, shown, labels, unit.numbers)
    return entry | {"skipped": unit.item["skipped"]}
