"""Load the components of a model in diffusers' layout, with one-line errors."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, ModelMixin, SchedulerMixin
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import is_protobuf_available, is_sentencepiece_available

from attnseg.backbones.model_files import check_component, variant_of, weight_files
from attnseg.errors import UserError

transformers.utils.logging.disable_progress_bar()  # "Loading weights" takes no time and fills logs


@contextmanager
def _readable(folder: Path, component: str) -> Iterator[None]:
    """Turn errors of the block into a one-line `UserError` that names the component."""
    check_component(folder, component)
    try:
        yield
    except Exception as error:  # damaged files and wrong configurations raise many types
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise UserError(
            f"{folder}: {component}/ cannot be loaded ({reason}); fetch the model again"
        ) from None


def load_network(
    folder: Path, component: str, kind: type[ModelMixin | PreTrainedModel], dtype: torch.dtype
) -> ModelMixin | PreTrainedModel:
    """A network of transformers or diffusers, in evaluation mode and without gradients."""
    with _readable(folder, component):
        network, info = kind.from_pretrained(
            folder / component,
            use_safetensors=True,
            local_files_only=True,
            variant=variant_of(weight_files(folder, component)[0]),
            output_loading_info=True,
            **{"dtype" if issubclass(kind, PreTrainedModel) else "torch_dtype": dtype},
        )
    wrong = [*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])]
    if wrong:
        raise UserError(
            f"{folder}: {component}/ lacks {len(wrong)} weights or has them in another shape "
            f"({wrong[0]}, ...); the weights and config.json are of different models"
        )
    return network.eval().requires_grad_(False)


def load_autoencoder(folder: Path, dtype: torch.dtype) -> AutoencoderKL:
    """The autoencoder `vae`, in float32 if its configuration says that float16 overflows."""
    with _readable(folder, "vae"):
        config = json.loads((folder / "vae" / "config.json").read_text())
    overflows = config.get("force_upcast", True)
    if dtype == torch.float16 and overflows:
        dtype = torch.float32
    return load_network(folder, "vae", AutoencoderKL, dtype)


def load_tokenizer(
    folder: Path, component: str, kind: type[PreTrainedTokenizerBase]
) -> PreTrainedTokenizerBase:
    part = folder / component
    pieces = (part / "spiece.model").is_file() and not (part / "tokenizer.json").is_file()
    if pieces and not (is_sentencepiece_available() and is_protobuf_available()):
        raise UserError(
            f"{folder}: {component}/ has a spiece.model alone: install the extra `t5`, as in "
            "pip install sentencepiece protobuf"
        )
    with _readable(folder, component):
        return kind.from_pretrained(folder / component, local_files_only=True)


def load_scheduler(folder: Path) -> SchedulerMixin:
    with _readable(folder, "scheduler"):
        file = folder / "scheduler" / "scheduler_config.json"
        name = json.loads(file.read_text())["_class_name"]
        kind = getattr(diffusers, name)
        if not issubclass(kind, SchedulerMixin):
            raise ValueError(f"{name} is no scheduler")
        return kind.from_pretrained(file.parent, local_files_only=True)
