"""Read the predictions of segment_instances.py: segments, and their correlation with queries."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from attnseg.core.geometry import Fit
from attnseg.errors import UserError
from attnseg.personalised.instances import Segments


def read_predictions(folder: Path) -> tuple[dict, dict[tuple[str, str], Segments]]:
    """Read the manifest and the segments of each (scene, view)."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        tensors = load_file(folder / "segments.safetensors")
        segments = {}
        for name, view in manifest["views"].items():
            scene, _, number = name.rpartition("/")
            segments[scene, number] = Segments(
                tensors[f"{name}/labels"].long(),
                tensors[f"{name}/foreground"].float(),
                Fit(tuple(view["content"]), tuple(view["padded"])),
                tuple(view["size"]),
            )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(
            f"{folder}: incomplete predictions of segment_instances.py ({error}); run it again"
        ) from None
    return manifest, segments


def read_rows(path: Path) -> dict[str, np.ndarray]:
    """Read each triplet's correlation with the segments of its view: id -> [S]."""
    try:
        rows: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not readable ({error}); segment the instances again") from None
    return {name: row.numpy() for name, row in rows.items()}
