"""Read the predictions of segment_instances.py: segments, and their correlation with queries."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from attnseg.core.finite import check_finite
from attnseg.core.geometry import Fit
from attnseg.errors import WRONG, UserError
from attnseg.io.files import parsed, write_atomically, write_json
from attnseg.io.tensors import save_tensors
from attnseg.personalised.instances import Segments


def read_predictions(folder: Path) -> tuple[dict, dict[tuple[str, str], Segments]]:
    """Read the manifest and the segments of each (scene, view)."""
    try:
        manifest = parsed((folder / "manifest.json").read_text())
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
    except (*WRONG, SafetensorError) as error:
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
    for name, row in rows.items():  # of an earlier release, which wrote what is not
        check_finite("the correlations are", [f"{path}: {name}"], row.dtype, row[None])
    return {name: row.numpy() for name, row in rows.items()}


def write_rows(path: Path, rows: dict[str, np.ndarray], made_with: str, about: dict) -> None:
    """A file of a method's correlations, [S] float32 a triplet, as soon as they are there.

    `about`: what its results say of it; `made_with`: hash of all that decides them.
    """
    tensors = {name: torch.from_numpy(np.asarray(row)).float() for name, row in rows.items()}
    for name, row in tensors.items():
        check_finite("the correlations are", [name], row.dtype, row[None])
    with write_atomically(path) as partial:
        save_tensors(tensors, partial, {"made_with": made_with, "about": json.dumps(about)})


def kept_rows(path: Path, made_with: str) -> tuple[dict[str, np.ndarray], dict] | None:
    """What an interrupted run has finished with the same inputs: rows, and what is said of them."""
    try:
        with safe_open(path, "np") as file:
            kept = file.metadata() or {}
            if kept.get("made_with") != made_with:
                return None
            rows = {name: file.get_tensor(name) for name in file.keys()}
            return rows, json.loads(kept["about"])
    except (*WRONG, SafetensorError):
        return None


def write_predictions(
    folder: Path, segments: dict[tuple[str, str], Segments], manifest: dict
) -> None:
    """segments.safetensors, and the manifest last; `manifest` is what it says beside the views."""
    tensors = {}
    for (scene, view), found in segments.items():
        tensors[f"{scene}/{view}/labels"] = found.labels.to(torch.int8)
        tensors[f"{scene}/{view}/foreground"] = found.foreground.half()
    with write_atomically(folder / "segments.safetensors") as partial:
        save_file(tensors, partial)
    views = {
        "/".join(view): {"size": s.size, "content": s.fit.content, "padded": s.fit.padded}
        for view, s in segments.items()
    }
    write_json(folder / "manifest.json", manifest | {"views": views})
