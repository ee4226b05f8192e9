"""The files of a model in diffusers' layout: download, checks, hashes.

Imports neither torch nor diffusers, so that programs that only inspect a model start quickly.
"""

import re
from pathlib import Path

from attnseg.backbones import FAMILIES
from attnseg.backbones.supported import refusal
from attnseg.errors import TemporaryError, UserError
from attnseg.io.files import parsed, sha256

INDEX = "model_index.json"
# Repositories often hold their weights twice, in full and in half precision.
HUB_IGNORED = ["*.fp16.safetensors", "*.non_ema.safetensors", "*.fp16-*.safetensors"]
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")


def find_model(path: str | Path, revision: str | None = None) -> Path:
    """The model's folder, for an id on the hub that of its cached copy, downloaded if absent."""
    if Path(path).is_dir():
        pipeline_name(Path(path))
        return Path(path)
    if revision is None or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)):
        raise UserError(
            f"{path}: no such folder; name a folder in diffusers' layout (model.path, --model), or an "
            "id on the Hugging Face hub with its commit (model.revision, --revision)"
        )
    return fetch(str(path), revision)


def fetch(name: str, revision: str, folder: Path | None = None) -> Path:
    """Download a model from the hub to `folder` or the hub's cache; existing files are kept.

    The index comes first, then the configurations, so that what is not supported is refused before
    its weights are downloaded. Pickles and the safety checker are left out, and weights in half
    precision unless there are no others.
    """
    from huggingface_hub import snapshot_download

    def download(patterns: list[str], ignored: list[str] = HUB_IGNORED) -> Path:
        try:
            return Path(
                snapshot_download(
                    name,
                    revision=revision,
                    local_dir=folder,
                    allow_patterns=patterns,
                    ignore_patterns=ignored,
                )
            )
        except Exception as error:  # network, cache and hub raise many types
            if closed := no_access(name, error):
                raise closed from None
            reason = (str(error).strip().splitlines() or [""])[0]
            raise TemporaryError(
                f"{name} at {revision}: no such folder, and not available from the Hugging Face hub "
                f"({type(error).__name__}: {reason}); run again with network access, or set "
                "model.path to its folder and model.revision to null"
            ) from None

    found = download([INDEX])
    pipeline_name(found)
    pipeline_name(download([INDEX, "*/config.json"]))
    patterns = [INDEX]
    for component in components(found):
        if is_network(component):
            patterns += [f"{component}/config.json", f"{component}/*.safetensors*"]
        else:
            patterns.append(f"{component}/*")
    download(patterns)
    halves = [
        f"{component}/*.fp16*.safetensors*"
        for component in components(found)
        if is_network(component) and not weight_files(found, component)
    ]
    return download(halves, []) if halves else found


def check_access(name: str) -> bool:
    """Whether the hub says that a model may be downloaded from here; False if it does not answer.

    Raises:
        UserError: if it may not, with what to do.
    """
    from huggingface_hub import HfApi

    try:
        HfApi().auth_check(name)
    except Exception as error:  # network and hub raise many types
        if closed := no_access(name, error):
            raise closed from None
        return False
    return True


def no_access(name: str, error: Exception) -> UserError | None:
    """What to do, if the hub refuses a model to who asks."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return UserError(
            f"{name}: its licence must be accepted, on https://huggingface.co/{name}; then log in with "
            "`hf auth login`, or set HF_TOKEN, and run again"
        )
    if isinstance(error, RepositoryNotFoundError):
        return UserError(
            f"{name}: the hub has no such model, or it is private; correct model.path "
            "(--model), or log in with `hf auth login`, or set HF_TOKEN"
        )
    return None


def read_index(folder: Path) -> dict:
    try:
        index = parsed((folder / INDEX).read_text())
        if not isinstance(index, dict) or not isinstance(index.get("_class_name", ""), str):
            raise ValueError
        return index
    except (OSError, ValueError) as error:
        reason = "no" if isinstance(error, FileNotFoundError) else "damaged"
        raise UserError(f"{folder}: {reason} {INDEX}; give a model in diffusers' layout") from None


def pipeline_name(folder: Path) -> str:
    """The pipeline class in a model's index, which determines the family.

    Raises:
        UserError: if that family is unknown, or the model a variant that is not supported.
    """
    index = read_index(folder)
    name, reason = index.get("_class_name"), refusal(folder, index)
    if name not in FAMILIES or reason:
        raise UserError(
            f"{folder}: {'this ' if name in FAMILIES else ''}{name} is not supported"
            f"{f' ({reason})' if reason else ''}; choose a model of {', '.join(FAMILIES)}, or write its "
            "family in one file (docs/adding.md)"
        )
    return name


def components(folder: Path) -> list[str]:
    """The subfolders that are read, one per component of the model."""
    return [
        name
        for name, value in read_index(folder).items()
        if isinstance(value, list) and value and value[-1] is not None and name not in UNUSED
    ]


def is_network(component: str) -> bool:
    return not component.startswith(("tokenizer", "scheduler"))


def check_model(folder: Path) -> None:
    """Raise a one-line `UserError` for the first component with missing files."""
    pipeline_name(folder)
    for component in components(folder):
        check_component(folder, component)


def check_component(folder: Path, component: str) -> None:
    """Raise a one-line `UserError` if `folder` lacks files of `component`."""
    part = folder / component
    layout = "give a complete model in diffusers' layout"
    if not part.is_dir():
        raise UserError(f"{folder}: no {component}/; {layout}")
    needed = "config.json"
    if component == "scheduler":
        needed = "scheduler_config.json"
    elif not is_network(component):
        needed = "merges.txt" if (part / "vocab.json").is_file() else "tokenizer_config.json"
    if not (part / needed).is_file():
        raise UserError(f"{folder}: {component}/ has no {needed}; {layout}")
    if is_network(component) and not weight_files(folder, component):
        pickles = [*part.glob("*.bin"), *part.glob("*.ckpt"), *part.glob("*.pt")]
        what = f"only {pickles[0].name}, a pickle, which is never read" if pickles else "no weights"
        raise UserError(f"{folder}: {component}/ has {what}; save it as safetensors")


def weight_files(folder: str | Path, component: str) -> list[Path]:
    """The safetensors files of a network to read: those without a variant, else of the first one."""
    files = sorted((Path(folder) / component).glob("*.safetensors"))
    plain = [file for file in files if variant_of(file) is None]
    if plain or not files:
        return plain
    first = variant_of(files[0])
    return [file for file in files if variant_of(file) == first]


def all_weights(folder: str | Path) -> list[Path]:
    """All weight files that are read."""
    networks = filter(is_network, components(Path(folder)))
    return [file for network in networks for file in weight_files(folder, network)]


def weight_hashes(folder: str | Path) -> dict[str, str]:
    """SHA-256 of all weight files that are read, by ``<component>/<file>``, for the provenance."""
    return {f"{file.parent.name}/{file.name}": sha256(file) for file in all_weights(folder)}


def variant_of(file: Path) -> str | None:
    """A weight file's variant: ``fp16`` of model.fp16.safetensors or model.fp16-00001-of-00002.safetensors."""
    match = re.fullmatch(r"[^.]+\.(\w+?)(-\d+-of-\d+)?\.safetensors", file.name)
    return match[1] if match else None
