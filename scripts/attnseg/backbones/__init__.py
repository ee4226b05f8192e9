"""The families of text-to-image models, each behind the same interface, in a file of its own."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a program that only looks at a model's files is quick
    import torch

    from attnseg.backbones.interface import Backbone

# the pipeline that model_index.json names -> its module in this package, and its class there
FAMILIES = {"StableDiffusionPipeline": ("stable_diffusion", "StableDiffusion")}


def load_backbone(
    path_or_id: str | Path,
    revision: str | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype | str | None = None,
) -> Backbone:
    """The model in a folder, or of that id and revision on the hub.

    Args:
        path_or_id: a folder in diffusers' layout; where there is none and a revision is given, a
            hub id.
        revision: a commit on the hub; not used for a folder.
        device: auto, cpu or cuda, or a torch device.
        dtype: None for bfloat16 or float16 on a GPU and float32 on a CPU.

    Raises:
        UserError: one line, for a family that is not known (before its weights are fetched), and
            for files that are missing or wrong.
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
