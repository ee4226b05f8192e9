"""The parts of a Stable Diffusion 1.x or 2.x model, from a folder or from the Hugging Face hub."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from attnseg.diffusion.attention import check_blocks
from attnseg.errors import UserError
from attnseg.files import sha256
from attnseg.gpu import pick_device, pick_dtype

NETWORKS = {"text_encoder": CLIPTextModel, "vae": AutoencoderKL, "unet": UNet2DConditionModel}
# component -> its configuration; a tokenizer has vocab.json and merges.txt or tokenizer.json
CONFIGURATIONS = {
    "tokenizer": "tokenizer_config.json",
    "text_encoder": "config.json",
    "vae": "config.json",
    "unet": "config.json",
    "scheduler": "scheduler_config.json",
}
# What is fetched from the hub: no pickles, no safety checker.
HUB_FILES = [
    "model_index.json",
    "tokenizer/*",
    "scheduler/*",
    *(
        f"{network}/{pattern}"
        for network in NETWORKS
        for pattern in ("config.json", "*.safetensors*")
    ),
]
# A repository often holds its weights twice: in full, and halved for those who ask.
HUB_IGNORED = ["*.fp16.safetensors", "*.non_ema.safetensors", "*.fp16-*.safetensors"]


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


def load_parts(
    path: str | Path,
    revision: str | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype | str | None = None,
    *,
    cross_blocks: Sequence[int] = (),
    self_block: int | None = None,
) -> Parts:
    """The parts of the model in the folder `path`, or of that id and revision on the hub.

    Args:
        path: a folder in diffusers' layout; where there is none and a revision is given, a hub id.
        revision: a commit on the hub; not used for a folder.
        device: auto, cpu or cuda, or a torch device.
        dtype: None for bfloat16 or float16 on a GPU and float32 on a CPU.
        cross_blocks, self_block: where given, refused if the U-Net has no such blocks.

    Raises:
        UserError: one line that names the folder and what is missing or wrong in it.
    """
    folder = find_model(path, revision)
    for component in CONFIGURATIONS:
        check_component(folder, component)
    name = str(path) if Path(path).is_dir() else f"{path}@{revision}"
    device = pick_device(device) if isinstance(device, str) else device
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype or pick_dtype(device)
    unet = _network(folder, "unet", dtype)
    if cross_blocks or self_block is not None:
        blocks = list(cross_blocks) or [self_block]
        check_blocks(unet, blocks, blocks[0] if self_block is None else self_block)
    return Parts(
        tokenizer=_tokenizer(folder),
        text_encoder=_network(folder, "text_encoder", dtype).to(device),
        vae=_network(folder, "vae", dtype).to(device),
        unet=unet.to(device),
        scheduler=_scheduler(folder),
        name=name,
        folder=folder,
    )


def find_model(path: str | Path, revision: str | None = None) -> Path:
    """The model's folder; from the hub its cached copy, downloaded where there is none."""
    if Path(path).is_dir():
        return Path(path)
    if revision is None or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)):
        raise UserError(
            f"{path}: no such folder; set model.path to a folder in diffusers' layout, or to an id "
            "on the Hugging Face hub with its commit in model.revision"
        )
    return fetch(str(path), revision)


def fetch(name: str, revision: str, folder: Path | None = None) -> Path:
    """A model of the hub, in `folder` or in the hub's cache; what is there is not fetched again."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                local_dir=folder,
                allow_patterns=HUB_FILES,
                ignore_patterns=HUB_IGNORED,
            )
        )
    except Exception as error:  # of the network, the cache or the hub: many types, one remedy
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"{name} at {revision}: no such folder, and not to be had from the Hugging Face hub "
            f"({type(error).__name__}: {reason}); run again where there is a network, or set "
            "model.path to its folder and model.revision to null"
        ) from None


def check_component(folder: Path, component: str) -> None:
    """Raise a one-line `UserError` where the files of `component` are not all in `folder`."""
    part = folder / component
    layout = "a Stable Diffusion 1.x or 2.x folder holds " + ", ".join(CONFIGURATIONS)
    if not part.is_dir():
        raise UserError(f"{folder}: no {component}/; {layout}")
    needed = CONFIGURATIONS[component]
    if component == "tokenizer" and (part / "vocab.json").is_file():
        needed = "merges.txt"
    if not (part / needed).is_file():
        raise UserError(f"{folder}: {component}/ has no {needed}; {layout}")
    if component not in NETWORKS:
        return
    if not weight_files(folder, component):
        pickles = [*part.glob("*.bin"), *part.glob("*.ckpt"), *part.glob("*.pt")]
        what = f"only {pickles[0].name}, a pickle, which is never read" if pickles else "no weights"
        raise UserError(f"{folder}: {component}/ has {what}; save it as safetensors")


def weight_files(folder: str | Path, component: str) -> list[Path]:
    """The safetensors files of a network that are read: the full ones, else a variant's."""
    files = sorted((Path(folder) / component).glob("*.safetensors"))
    plain = [file for file in files if _variant(file) is None]
    if plain or not files:
        return plain
    first = _variant(files[0])
    return [file for file in files if _variant(file) == first]


def weight_hashes(folder: str | Path) -> dict[str, str]:
    """SHA-256 of every weight file that is read, by ``<component>/<file>``, for the provenance."""
    return {
        f"{network}/{file.name}": sha256(file)
        for network in NETWORKS
        for file in weight_files(folder, network)
    }


def _variant(file: Path) -> str | None:
    """``fp16`` of model.fp16.safetensors and model.fp16-00001-of-00002.safetensors."""
    match = re.fullmatch(r"[^.]+\.(\w+?)(-\d+-of-\d+)?\.safetensors", file.name)
    return match[1] if match else None


def _network(folder: Path, component: str, dtype: torch.dtype) -> torch.nn.Module:
    transformer = component == "text_encoder"
    options = {
        "use_safetensors": True,
        "local_files_only": True,
        "variant": _variant(weight_files(folder, component)[0]),
        "output_loading_info": True,
        "dtype" if transformer else "torch_dtype": dtype,
    }
    where = f"{folder}: {component}/"
    try:
        network, info = NETWORKS[component].from_pretrained(folder / component, **options)
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
