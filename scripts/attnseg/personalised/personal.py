"""Personal weights, the result of Custom Diffusion: queries, application, files.

A folder of weights is in diffusers' formats, and can be loaded into a stock pipeline::

    name = "pytorch_custom_diffusion_weights.safetensors"
    pipe.unet.load_attn_procs(folder, weight_name=name, _pipeline=pipe)
    pipe.load_textual_inversion(folder, weight_name="token_1.safetensors")

(diffusers 0.42 silently loads nothing without `_pipeline`.) Here, too, the projections are in
diffusers' attention processors.
"""

import copy
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import CustomDiffusionAttnProcessor2_0
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.backbones.text import Query
from attnseg.errors import WRONG, UserError
from attnseg.io.costs import job_log
from attnseg.io.files import (
    is_broken,
    parsed,
    sealed,
    set_aside,
    sha256,
    write_atomically,
    write_json,
)

PROJECTIONS = "pytorch_custom_diffusion_weights.safetensors"
INFO = "personal.json"


@dataclass
class Personal:
    """Trained weights of subjects; `info`: classes {identifier: class word}, base, settings, ..."""

    embeddings: dict[str, torch.Tensor]  # identifier -> [D] float32
    projections: dict[str, torch.Tensor]  # "<attention>.to_k.weight" -> its weight, float32
    info: dict = field(default_factory=dict)

    @property
    def classes(self) -> dict[str, str]:
        return self.info["classes"]


def personal_description(description: str, class_word: str, token: str) -> str:
    """Insert the identifier: ``the mug with tea`` -> ``the <new1> mug with tea`` (Section 5.3)."""
    named = re.sub(rf"\b{re.escape(class_word)}\b", f"{token} {class_word}", description, count=1)
    if named == description:
        raise UserError(f"{description!r} does not name the class {class_word!r}")
    return named


def phrase_query(description: str, template: str = "{}", words: Sequence[str] = ()) -> Query:
    """A query whose first class is the whole description, without a leading article.

    The text encoder is causal: words after the class word ("filled with cola") do not affect its
    token, so their tokens' attention must be included. Section 5.3 says "relevant tokens" only.

    `words`: words of the description that are further classes on their own, as "<new1> mug".
    """
    if template.count("{}") != 1:
        raise UserError(f"the template {template!r} must contain {{}} once, for the description")
    description = description.strip().rstrip(".")
    start = template.index("{}")
    article = re.match(r"(?:the|an?) ", description)
    text = template.format(description)
    places = [(start + description.index(part), len(part)) for part in words]
    others = tuple((place, place + length) for place, length in places)
    whole = (start + (article.end() if article else 0), start + len(description))
    return Query(text, (whole, *others))


def check_identifier(query: str, personal: Personal) -> None:
    """Raise a `UserError` if a query contains none of the identifiers."""
    if not any(token in query for token in personal.embeddings):
        tokens, (token, word) = ", ".join(personal.embeddings), next(iter(personal.classes.items()))
        raise UserError(
            f"the query {query!r} has no identifier ({tokens}): ask as in 'the {token} {word}'"
        )


class PersonalEmbedding(torch.nn.Module):
    """Token embeddings with new, trainable rows after the old, frozen ones."""

    def __init__(self, old: torch.nn.Embedding, new: torch.Tensor):
        super().__init__()
        self.old = old
        self.new = torch.nn.Parameter(new.float().to(old.weight.device))  # [M, D]

    @property
    def weight(self) -> torch.Tensor:
        return torch.cat([self.old.weight, self.new.to(self.old.weight)])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """[B, L] int64 -> [B, L, D]."""
        count = self.old.num_embeddings
        known = self.old(ids.clamp(max=count - 1))
        fresh = F.embedding((ids - count).clamp(min=0), self.new).to(known)
        return torch.where((ids < count)[..., None], known, fresh)


def initial_embedding(tokenizer: CLIPTokenizer, table: torch.Tensor, word: str) -> torch.Tensor:
    """The mean of the embeddings of the word's tokens: [D] float32. `table`: [V, D]."""
    ids = tokenizer(word, add_special_tokens=False).input_ids
    if not ids:
        raise UserError(f"the tokenizer has no token for the initial word {word!r}")
    return table[ids].detach().float().mean(0)


def text_projections(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """The model's own weights of to_k and to_v of every cross-attention, by ``<attention>.to_k.weight``."""
    return {
        f"{name}.{part}.weight": getattr(unet.get_submodule(name), part).weight
        for name in cross_attentions(unet)
        for part in ("to_k", "to_v")
    }


def cross_attentions(unet: UNet2DConditionModel) -> list[str]:
    names = (name.removesuffix(".processor") for name in unet.attn_processors)
    return [name for name in names if name.endswith("attn2")]


def processors_with(
    unet: UNet2DConditionModel, projections: dict[str, torch.Tensor]
) -> dict[str, CustomDiffusionAttnProcessor2_0]:
    """Attention processors of diffusers with these projections, by name of the cross-attention."""
    processors = {}
    for name in cross_attentions(unet):
        width, text = projections[f"{name}.to_k.weight"].shape
        processor = processors[name] = CustomDiffusionAttnProcessor2_0(
            train_q_out=False, hidden_size=width, cross_attention_dim=text
        ).to(unet.device)
        for part in ("to_k", "to_v"):
            own = getattr(processor, f"{part}_custom_diffusion").weight
            own.data.copy_(projections[f"{name}.{part}.weight"])
    return processors


@contextmanager
def installed(
    backbone: StableDiffusion,
    embedding: "PersonalEmbedding",
    processors: dict[str, CustomDiffusionAttnProcessor2_0],
) -> Iterator[None]:
    """Install new token embeddings and attention processors in a model while the block runs."""
    old, before = backbone.text_encoder.get_input_embeddings(), backbone.unet.attn_processors
    try:
        backbone.text_encoder.set_input_embeddings(embedding)
        named = {f"{name}.processor": processor for name, processor in processors.items()}
        backbone.unet.set_attn_processor({**before, **named})
        yield
    finally:
        backbone.text_encoder.set_input_embeddings(old)
        backbone.unet.set_attn_processor(before)


def fingerprint(backbone: StableDiffusion) -> str:
    """A hash of a model's projections that identifies it, regardless of its dtype."""
    table = backbone.text_encoder.get_input_embeddings().weight
    digest = hashlib.sha256(str(table.shape[1]).encode())
    for name, weight in sorted(text_projections(backbone.unet).items()):
        weight = weight.detach().cpu().half().contiguous()
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()[:16]


def check_base(
    backbone: StableDiffusion, personal: Personal, where: str = "the personal weights"
) -> None:
    """Raise a `UserError` if the weights were trained on another base model."""
    base, own = personal.info.get("base"), fingerprint(backbone)
    if base != own:
        raise UserError(
            f"{where}: trained on another base model, {personal.info.get('model')} ({base}); this "
            f"is {backbone.name} ({own}): give that model, or train on this one"
        )


def with_tokens(tokenizer: CLIPTokenizer, tokens: Sequence[str]) -> CLIPTokenizer:
    """A copy of the tokenizer that knows the identifiers."""
    known = tokenizer.get_vocab()
    for token in tokens:
        if token in known or f"{token}</w>" in known:
            raise UserError(f"the token {token!r} already exists in the model: choose another one")
        if not re.fullmatch(r"<[^<>\s]+>", token):
            raise UserError(
                f"the identifier {token!r} must be one word in angle brackets, as <new1>"
            )
    if len(set(tokens)) < len(tokens):
        raise UserError(f"the token {max(tokens, key=list(tokens).count)!r} is given twice")
    extended = copy.deepcopy(tokenizer)
    extended.add_tokens(list(tokens))
    return extended


@contextmanager
def personalised(
    backbone: StableDiffusion, personal: Personal, where: str = "the personal weights"
) -> Iterator[StableDiffusion]:
    """Yield the model with personal weights applied.

    Its networks are those of `backbone`, changed in place and restored after the block.
    """
    tokenizer = with_tokens(backbone.tokenizer, list(personal.embeddings))
    check_base(backbone, personal, where)
    rows = torch.stack(list(personal.embeddings.values()))
    old = backbone.text_encoder.get_input_embeddings()
    embedding = PersonalEmbedding(old, rows).requires_grad_(False)
    processors = processors_with(backbone.unet, personal.projections)
    for processor in processors.values():
        processor.to(backbone.dtype).requires_grad_(False)
    with installed(backbone, embedding, processors):
        yield replace(backbone, tokenizer=tokenizer)


def save_personal(folder: Path, personal: Personal) -> None:
    """Write diffusers' files, then personal.json, which marks the folder as complete."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {}
    for name, weight in personal.projections.items():
        attention, part = name.removesuffix(".weight").rsplit(".", 1)
        state[f"{attention}.processor.{part}_custom_diffusion.weight"] = weight.contiguous()
        # diffusers needs an entry for every processor; an empty one leaves it unchanged
        state[f"{attention.removesuffix('attn2')}attn1.processor"] = torch.empty(0)
    with write_atomically(folder / PROJECTIONS) as partial:
        save_file(state, partial, metadata={"format": "pt"})
    for i, (token, row) in enumerate(personal.embeddings.items(), 1):
        with write_atomically(folder / f"token_{i}.safetensors") as partial:
            save_file({token: row.contiguous()}, partial, metadata={"format": "pt"})
    names = [PROJECTIONS, *(f"token_{i + 1}.safetensors" for i in range(len(personal.embeddings)))]
    files = {name: sha256(folder / name) for name in names}
    write_json(folder / INFO, sealed(personal.info | {"files": files}))


def read_personal(folder: str | Path) -> Personal:
    """Read the personal weights in a folder.

    Raises:
        UserError: where they are absent or damaged. Damaged ones are no longer taken for complete, nor, in a
            job of the workflow, its lists of subjects beside them, so that it makes them again alone.
    """
    folder = Path(folder)
    if not (folder / INFO).is_file():
        raise UserError(
            f"{folder}: no finished personal weights ({INFO} is missing); make them with "
            "`attnseg train-subject` (scripts/train_custom_diffusion.py)"
        )
    try:
        info = parsed((folder / INFO).read_text())
        if is_broken(info):
            raise ValueError("its content was changed")
        info.pop("digest", None)
        for name, digest in info.pop("files", {}).items():  # absent from an earlier release's
            if Path(name).name != name or sha256(folder / name) != digest:
                raise ValueError(f"{name} was changed")
        state = load_file(folder / PROJECTIONS)
        embeddings = {}
        for i, token in enumerate(info["classes"], 1):
            embeddings[token] = load_file(folder / f"token_{i}.safetensors")[token]
    except (*WRONG, SafetensorError) as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise UserError(f"{folder}: not readable ({error}); try again") from None
        if job_log():
            for mark in folder.parent.parent.glob("part-*.json"):
                mark.unlink(missing_ok=True)
        aside = set_aside(folder / INFO)
        raise UserError(f"{folder}: damaged personal weights ({error}); {INFO} {aside}") from None
    projections = {
        re.sub(r"\.processor\.(to_[kv])_custom_diffusion\.weight$", r".\1.weight", name): weight
        for name, weight in state.items()
        if weight.numel()
    }
    return Personal(embeddings, projections, info)
