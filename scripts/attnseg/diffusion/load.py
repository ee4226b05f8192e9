"""The parts of a Stable Diffusion 1.x or 2.x model, from a folder or from the Hugging Face hub."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from attnseg.diffusion.model_files import (
    CONFIGURATIONS,
    check_component,
    find_model,
    variant_of,
    weight_files,
    weight_hashes,
)
from attnseg.errors import UserError
from attnseg.gpu import pick_device, pick_dtype

__all__ = ["Parts", "load_parts", "weight_files", "weight_hashes"]

CLASSES = {"text_encoder": CLIPTextModel, "vae": AutoencoderKL, "unet": UNet2DConditionModel}


@dataclass
class Parts:
    """The networks in evaluation mode, without gradients, on one device in one dtype."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: SchedulerMixin
    name: str  # the folder, or id@revision
    folder: Path  # where the files lie

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def factor(self) -> int:
        """The pixels of a side that are one latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)


def load_parts(
    path: str | Path,
    revision: str | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype | str | None = None,
) -> Parts:
    """The parts of the model in the folder `path`, or of that id and revision on the hub.

    Args:
        path: a folder in diffusers' layout; where there is none and a revision is given, a hub id.
        revision: a commit on the hub; not used for a folder.
        device: auto, cpu or cuda, or a torch device.
        dtype: None for bfloat16 or float16 on a GPU and float32 on a CPU.

    Raises:
        UserError: one line that names the folder and what is missing or wrong in it.
    """
    folder = find_model(path, revision)
    for component in CONFIGURATIONS:
        check_component(folder, component)
    name = str(path) if Path(path).is_dir() else f"{path}@{revision}"
    device = pick_device(device) if isinstance(device, str) else device
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype or pick_dtype(device)
    return Parts(
        tokenizer=_tokenizer(folder),
        text_encoder=_network(folder, "text_encoder", dtype).to(device),
        vae=_network(folder, "vae", dtype).to(device),
        unet=_network(folder, "unet", dtype).to(device, memory_format=torch.channels_last),
        scheduler=_scheduler(folder),
        name=name,
        folder=folder,
    )


def _network(folder: Path, component: str, dtype: torch.dtype) -> torch.nn.Module:
    transformer = component == "text_encoder"
    options = {
        "use_safetensors": True,
        "local_files_only": True,
        "variant": variant_of(weight_files(folder, component)[0]),
        "output_loading_info": True,
        "dtype" if transformer else "torch_dtype": dtype,
    }
    where = f"{folder}: {component}/"
    try:
        network, info = CLASSES[component].from_pretrained(folder / component, **options)
    except Exception as error:  # a damaged file, a configuration of another class: many types
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise UserError(f"{where} cannot be loaded ({reason}); fetch the model again") from None
    wrong = [*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])]
    if wrong:
        raise UserError(
            f"{where} lacks {len(wrong)} weights, or has them in another shape ({wrong[0]}, ...); "
            "the weights and config.json are of different models"
        )
    return network.eval().requires_grad_(False)


def _tokenizer(folder: Path) -> CLIPTokenizer:
    try:
        return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise UserError(
            f"{folder}: tokenizer/ cannot be loaded ({reason}); fetch the model again"
        ) from None


def _scheduler(folder: Path) -> SchedulerMixin:
    file = folder / "scheduler" / "scheduler_config.json"
    try:
        name = json.loads(file.read_text())["_class_name"]
        return getattr(diffusers, name).from_pretrained(file.parent, local_files_only=True)
    except (ValueError, KeyError, AttributeError, OSError) as error:
        raise UserError(
            f"{file}: names no scheduler of diffusers ({type(error).__name__}: {error})"
        ) from None
