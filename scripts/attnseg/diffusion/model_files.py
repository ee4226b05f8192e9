"""The files of a Stable Diffusion 1.x or 2.x folder: what it holds, where it comes from, its hashes.

Imports no network code, so that a program that only looks at a model is quick.
"""

import re
from pathlib import Path

from attnseg.errors import UserError
from attnseg.files import sha256

NETWORKS = ("text_encoder", "vae", "unet")
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


def find_model(path: str | Path, revision: str | None = None) -> Path:
    """The model's folder; from the hub its cached copy, downloaded where there is none."""
    if Path(path).is_dir():
        return Path(path)
    if revision is None or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)):
        raise UserError(
            f"{path}: no such folder; name a folder in diffusers' layout (model.path, --model), or an "
            "id on the Hugging Face hub with its commit (model.revision, --revision)"
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
    plain = [file for file in files if variant_of(file) is None]
    if plain or not files:
        return plain
    first = variant_of(files[0])
    return [file for file in files if variant_of(file) == first]


def weight_hashes(folder: str | Path) -> dict[str, str]:
    """SHA-256 of every weight file that is read, by ``<component>/<file>``, for the provenance."""
    return {
        f"{network}/{file.name}": sha256(file)
        for network in NETWORKS
        for file in weight_files(folder, network)
    }


def variant_of(file: Path) -> str | None:
    """``fp16`` of model.fp16.safetensors and model.fp16-00001-of-00002.safetensors."""
    match = re.fullmatch(r"[^.]+\.(\w+?)(-\d+-of-\d+)?\.safetensors", file.name)
    return match[1] if match else None
