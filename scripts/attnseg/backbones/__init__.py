"""Families of text-to-image models, one file each, behind a common interface."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from attnseg.errors import UserError
from attnseg.io.modules import load_module

if TYPE_CHECKING:  # a program that only looks at a model's files is quick
    import torch

    from attnseg.backbones.interface import Backbone

# the pipeline class in model_index.json -> (module of this package, class in it)
FAMILIES = {
    "StableDiffusionPipeline": ("stable_diffusion", "StableDiffusion"),
    "StableDiffusionXLPipeline": ("sdxl", "SDXL"),
    "PixArtAlphaPipeline": ("pixart", "PixArtAlpha"),
    "PixArtSigmaPipeline": ("pixart", "PixArtSigma"),
    "SanaPipeline": ("sana", "Sana"),
    "StableDiffusion3Pipeline": ("stable_diffusion_3", "StableDiffusion3"),
    "FluxPipeline": ("flux", "Flux"),
    "Flux2KleinPipeline": ("flux2", "Flux2Klein"),
    "QwenImagePipeline": ("qwen_image", "QwenImage"),
    "ZImagePipeline": ("z_image", "ZImage"),
}


def load_backbone(
    path_or_id: str | Path,
    revision: str | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype | str | None = None,
    file: str | Path | None = None,
) -> Backbone:
    """Load a model from a folder or from the Hugging Face hub.

    Args:
        path_or_id: a folder in diffusers' layout, or an id on the hub.
        revision: a commit on the hub, which an id needs; ignored for a folder.
        device: auto, cpu or cuda, or a torch device.
        dtype: None for bfloat16 or float16 on a GPU and float32 on a CPU.
        file: a Python file that exports the family, `BACKBONE`; its `load` reads the folder.

    Raises:
        UserError: if the family is unknown (before its weights are fetched), or files are missing or
            wrong.
    """
    import torch

    from attnseg.backbones.model_files import find_model, pipeline_name
    from attnseg.io.gpu import pick_device, pick_dtype

    if file is None:
        folder = find_model(path_or_id, revision)
        module, kind = FAMILIES[pipeline_name(folder)]
        family: type[Backbone] = getattr(
            importlib.import_module(f"attnseg.backbones.{module}"), kind
        )
    else:
        folder, family = Path(path_or_id), _family_of(Path(file))
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; name the model's (model.path, --model)")
    name = str(path_or_id) if Path(path_or_id).is_dir() else f"{path_or_id}@{revision}"
    device = pick_device(device) if isinstance(device, str) else device
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype or pick_dtype(device)
    backbone = family.load(folder, name, device, dtype)
    backbone.file = None if file is None else Path(file)
    return backbone


def _family_of(path: Path) -> type[Backbone]:
    """What a Python file exports."""
    from attnseg.backbones.interface import Backbone

    wrong = f"{path}: no such Python file; correct model.file (--model-file)"
    module = load_module(path, "attnseg_backbone", wrong)
    family = getattr(module, "BACKBONE", None)
    if not (isinstance(family, type) and issubclass(family, Backbone)):
        raise UserError(f"{path}: it exports no BACKBONE, a class of attnseg.backbones.interface")
    if inspect.isabstract(family):
        missing = ", ".join(sorted(family.__abstractmethods__))
        raise UserError(f"{path}: BACKBONE lacks {missing}; attnseg.backbones.interface says what")
    return family
