"""Families of text-to-image models, one file each, behind a common interface."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # programs that only inspect a model's files must not import torch
    import torch

    from attnseg.backbones.interface import Backbone

# the pipeline class in model_index.json -> (module of this package, class in it)
FAMILIES = {"StableDiffusionPipeline": ("stable_diffusion", "StableDiffusion")}


def load_backbone(
    path_or_id: str | Path,
    revision: str | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype | str | None = None,
) -> Backbone:
    """Load a model from a folder or from the Hugging Face hub.

    Args:
        path_or_id: a folder in diffusers' layout, or an id on the hub.
        revision: a commit on the hub, which an id needs; ignored for a folder.
        device: auto, cpu or cuda, or a torch device.
        dtype: of the networks; by default bfloat16 or float16 on a GPU and float32 on a CPU.

    Returns:
        The model, in evaluation mode and without gradients.

    Raises:
        UserError: if the family is unknown (before its weights are fetched), or files are missing or
            wrong.
    """
    import torch

    from attnseg.backbones.model_files import find_model, pipeline_name
    from attnseg.io.gpu import pick_device, pick_dtype

    folder = find_model(path_or_id, revision)
    module, family = FAMILIES[pipeline_name(folder)]
    name = str(path_or_id) if Path(path_or_id).is_dir() else f"{path_or_id}@{revision}"
    device = pick_device(device) if isinstance(device, str) else device
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype or pick_dtype(device)
    loaded = importlib.import_module(f"attnseg.backbones.{module}")
    return getattr(loaded, family).load(folder, name, device, dtype)
