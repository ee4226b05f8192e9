"""A photo's self-attention beside its mask, from which `attnseg export --instances attention` tells objects."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from attnseg.core.cuts import instances_of_cells
from attnseg.core.geometry import Fit, to_photo
from attnseg.errors import UserError
from attnseg.io.files import write_atomically
from attnseg.io.tensors import save_tensors

FOLDER = "attention"  # in the folder of the masks
FACTS = ("grid", "content", "padded")  # of a photo's entry in a shard's manifest


@dataclass(frozen=True)
class Own:
    """Self [N, N] of the cells of a grid, and where the photo lies on it."""

    affinity: np.ndarray
    grid: tuple[int, int]
    fit: Fit

    def objects(self, mask: np.ndarray) -> np.ndarray:
        """Number the objects in a class's mask [H, W] bool: [H, W] int32, 0 outside."""
        rows, columns = (
            ((np.arange(pixels) + 0.5) / pixels * content / padded * cells).astype(np.int32)
            for pixels, content, padded, cells in zip(
                mask.shape, self.fit.content, self.fit.padded, self.grid, strict=True
            )
        )
        cells = (rows[:, None] * self.grid[1] + columns)[mask]
        inside = np.bincount(cells, minlength=self.grid[0] * self.grid[1]) > 0
        numbers = instances_of_cells(self.affinity, inside.reshape(self.grid))
        found = mask.astype(np.int32)
        highest = np.zeros(mask.shape, np.float32)
        for number in range(1, numbers.max(initial=0) + 1):
            one = torch.from_numpy((numbers == number)[None]).float()
            share = to_photo(one, self.fit, (mask.shape[0], mask.shape[1]))[0].numpy()
            found[mask & (share > highest)] = number
            highest = np.maximum(highest, share)
        return found


def path_of(folder: Path, image_id: str) -> Path:
    return folder / FOLDER / f"{image_id}.safetensors"


def write(folder: Path, item: dict, affinity: torch.Tensor) -> None:
    """Keep the Self [N, N] of a photo, whose entry in a shard's manifest `item` is."""
    with write_atomically(path_of(folder, item["id"])) as partial:
        facts = {name: json.dumps(item[name]) for name in FACTS}
        save_tensors({"self": affinity.half().contiguous()}, partial, facts)


def read(folder: Path, image_id: str) -> Own:
    """
    Raises:
        UserError: if it was not kept, or is damaged.
    """
    path = path_of(folder, image_id)
    try:
        with safe_open(path, "numpy") as file:
            grid, content, padded = (tuple(json.loads(file.metadata()[name])) for name in FACTS)
            return Own(file.get_tensor("self"), grid, Fit(content, padded))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{path}: not there, or damaged: --instances attention needs masks of `attnseg segment "
            "--keep-attention`; make them so, or leave out --instances"
        ) from None
