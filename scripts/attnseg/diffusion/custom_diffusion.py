"""Custom Diffusion: a new word, and cross-attention that knows it (Kumari et al. 2023).

Trained are the embedding of the identifier, such as ``<new1>``, and the projections of the text to
keys and values in every cross-attention; the prior of the class is preserved on images of it.

A folder of weights is in diffusers' own formats, for a stock pipeline::

    name = "pytorch_custom_diffusion_weights.safetensors"
    pipe.unet.load_attn_procs(folder, weight_name=name, _pipeline=pipe)
    pipe.load_textual_inversion(folder, weight_name="token_1.safetensors")

(diffusers 0.42 loads nothing, silently, without `_pipeline`.) Here the projections are folded into
the attention layers, because a processor that watches attention replaces diffusers' own and with it
everything learnt.
"""

import copy
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import CustomDiffusionAttnProcessor
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from attnseg.batches import Batches
from attnseg.datasets.images import read_image
from attnseg.datasets.mug19 import photos_in
from attnseg.errors import UserError
from attnseg.files import parameters_hash, sha256, write_atomically, write_json
from attnseg.prompts import Query, encode_text

PROJECTIONS = "pytorch_custom_diffusion_weights.safetensors"
INFO = "personal.json"


@dataclass(frozen=True)
class Concept:
    """A subject: its identifier, the word of its class, photos, and images of the class."""

    token: str
    class_word: str
    photos: tuple[Path, ...]
    regularisation: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Settings:
    """How a subject is learnt; the defaults are Custom Diffusion's."""

    steps: int = 250
    batch_size: int = 2  # photos a step, and as many images of the class
    learning_rate: float = 1e-5  # times the batch size
    embedding_factor: float = 1.0  # of the embedding's rate, for one of another scale than SD's
    prior_weight: float = 1.0
    size: int = 512  # of the square that photos are cropped to, pixels
    prompt: str = "photo of a {}"
    initial_word: str = "ktn"  # the identifier starts as the mean of this word's tokens
    augment: bool = True  # shrink or enlarge most photos, and say so in the prompt
    flip: bool = True
    seed: int = 0


@dataclass
class Personal:
    """What was learnt. `info`: classes {identifier: class word}, base, model, settings, losses."""

    embeddings: dict[str, torch.Tensor]  # identifier -> [D] float32
    projections: dict[str, torch.Tensor]  # "<attention>.to_k.weight" -> its weight, float32
    info: dict = field(default_factory=dict)

    @property
    def classes(self) -> dict[str, str]:
        return self.info["classes"]


# --- queries


def personal_description(description: str, class_word: str, token: str) -> str:
    """``the mug with tea`` -> ``the <new1> mug with tea`` (Section 5.3)."""
    named = re.sub(rf"\b{re.escape(class_word)}\b", f"{token} {class_word}", description, count=1)
    if named == description:
        raise UserError(f"{description!r} does not name the class {class_word!r}")
    return named


def phrase_query(description: str, template: str = "{}") -> Query:
    """A query whose one class is all words of the description but a leading article.

    The text encoder is causal: what is said after the class's word ("filled with cola") is seen
    in the attention of its own tokens alone, so they count too.
    """
    if template.count("{}") != 1:
        raise UserError(
            f"the template {template!r} must hold one {{}}, the place of the description"
        )
    description = description.strip().rstrip(".")
    start = template.index("{}")
    article = re.match(r"(?:the|an?) ", description)
    text = template.format(description)
    return Query(text, ((start + (article.end() if article else 0), start + len(description)),))


def check_identifier(query: str, personal: Personal) -> None:
    """Raise where a query by a personalised model has none of its identifiers."""
    if not any(token in query for token in personal.embeddings):
        tokens, (token, word) = ", ".join(personal.embeddings), next(iter(personal.classes.items()))
        raise UserError(
            f"the query {query!r} has no identifier ({tokens}): ask as in 'the {token} {word}'"
        )


# --- applying


class PersonalEmbedding(torch.nn.Module):
    """Token embeddings with new rows after the old ones, which alone may be trained."""

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


def text_projections(unet: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """to_k and to_v of every cross-attention, by ``<attention>.to_k.weight``."""
    return {
        f"{name.removesuffix('.processor')}.{part}.weight": getattr(attention, part)
        for name, attention in _attentions(unet)
        if name.endswith("attn2.processor")
        for part in ("to_k", "to_v")
    }


def _attentions(unet: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """The name of every attention processor and the module that has it."""
    return [
        (name, unet.get_submodule(name.removesuffix(".processor"))) for name in unet.attn_processors
    ]


def fingerprint(parts) -> str:
    """Names the model that weights are for: a hash of its projections, the same in any dtype."""
    digest = hashlib.sha256(str(parts.text_encoder.get_input_embeddings().weight.shape[1]).encode())
    for name, layer in sorted(text_projections(parts.unet).items()):
        weight = layer.weight.detach().cpu().half().contiguous()
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()[:16]


def check_base(parts, personal: Personal, where: str = "the personal weights") -> None:
    """Raise where `parts` is not the model that the weights were trained on."""
    base, own = personal.info.get("base"), fingerprint(parts)
    if base != own:
        raise UserError(
            f"{where}: trained on another base model, {personal.info.get('model')} ({base}); this "
            f"is {parts.name} ({own}): give that model, or train on this one"
        )


def with_tokens(tokenizer, tokens: Sequence[str]):
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
def personalised(parts, personal: Personal, where: str = "the personal weights") -> Iterator:
    """`parts` with what was learnt, for the block; afterwards they are as before.

    Yields new parts; the networks are those of `parts`, changed in place meanwhile.
    """
    tokenizer = with_tokens(parts.tokenizer, list(personal.embeddings))
    check_base(parts, personal, where)
    old = parts.text_encoder.get_input_embeddings()
    rows = torch.stack(list(personal.embeddings.values()))
    layers = text_projections(parts.unet)
    kept = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    try:
        parts.text_encoder.set_input_embeddings(PersonalEmbedding(old, rows).requires_grad_(False))
        for name, layer in layers.items():
            layer.weight.data.copy_(personal.projections[name])
        yield replace(parts, tokenizer=tokenizer)
    finally:
        parts.text_encoder.set_input_embeddings(old)
        for name, layer in layers.items():
            layer.weight.data.copy_(kept[name])


def load_personal(parts, weights: str | Path):
    """`parts` with the weights of a folder, for good: keys and values are folded in.

    Raises:
        UserError: no such folder, weights for another base model, a token that already exists.
    """
    personal = read_personal(weights)
    tokenizer = with_tokens(parts.tokenizer, list(personal.embeddings))
    check_base(parts, personal, str(weights))
    rows = torch.stack(list(personal.embeddings.values()))
    old = parts.text_encoder.get_input_embeddings()
    parts.text_encoder.set_input_embeddings(PersonalEmbedding(old, rows).requires_grad_(False))
    for name, layer in text_projections(parts.unet).items():
        layer.weight.data.copy_(personal.projections[name])
    return replace(parts, tokenizer=tokenizer)


# --- files


def save_personal(folder: Path, personal: Personal) -> None:
    """Write diffusers' files, then personal.json: where that is, the folder is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {}
    for name, weight in personal.projections.items():
        attention, part = name.removesuffix(".weight").rsplit(".", 1)
        state[f"{attention}.processor.{part}_custom_diffusion.weight"] = weight.contiguous()
        # diffusers wants an entry for every processor; an empty one leaves it as it is
        state[f"{attention.removesuffix('attn2')}attn1.processor"] = torch.empty(0)
    with write_atomically(folder / PROJECTIONS) as partial:
        save_file(state, partial, metadata={"format": "pt"})
    for i, (token, row) in enumerate(personal.embeddings.items(), 1):
        with write_atomically(folder / f"token_{i}.safetensors") as partial:
            save_file({token: row.contiguous()}, partial, metadata={"format": "pt"})
    write_json(folder / INFO, personal.info)


def read_personal(folder: str | Path) -> Personal:
    """The weights of a folder."""
    folder = Path(folder)
    if not (folder / INFO).is_file():
        raise UserError(
            f"{folder}: no finished personal weights ({INFO} is missing); make them with "
            "scripts/train_custom_diffusion.py"
        )
    try:
        info = json.loads((folder / INFO).read_text())
        state = load_file(folder / PROJECTIONS)
        embeddings = {}
        for i, token in enumerate(info["classes"], 1):
            embeddings[token] = load_file(folder / f"token_{i}.safetensors")[token]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder}: damaged personal weights ({error}); train them again") from None
    projections = {
        re.sub(r"\.processor\.(to_[kv])_custom_diffusion\.weight$", r".\1.weight", name): weight
        for name, weight in state.items()
        if weight.numel()
    }
    return Personal(embeddings, projections, info)


# --- training


def concepts_from(
    photos: Sequence[Path], classes: Sequence[str], tokens: Sequence[str]
) -> list[Concept]:
    """One concept a folder of photos, checked: two readable photos each, at least."""
    concepts = []
    for folder, word, token in zip(photos, classes, tokens, strict=True):
        found = photos_in(Path(folder))
        if len(found) < 2:
            raise UserError(
                f"{folder}: {len(found)} photo{'' if len(found) == 1 else 's'} of the subject; at "
                "least 2 are needed, 5 to 10 are better"
            )
        for path in found:
            read_image(path)
        concepts.append(Concept(token, word, tuple(found)))
    return concepts


def drawn(*names: object) -> torch.Generator:
    """A generator that depends on the names alone, so that no state has to be kept."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def square(image: np.ndarray, size: int) -> torch.Tensor:
    """[H, W, 3] uint8 -> its central square [3, size, size] float32 in [-1, 1]."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    crop = Image.fromarray(image[top : top + side, left : left + side])
    if side != size:
        crop = crop.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(crop, np.float32) / 127.5 - 1).permute(2, 0, 1)


def augmented(
    image: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Custom Diffusion's augmentation: two photos in three are shrunk, one is enlarged.

    [3, S, S] in [-1, 1] -> the photo [3, S, S], where it is valid [S, S] bool, and the words that
    say so: a small one lies on grey, which the loss leaves out.
    """

    def whole(low: float, high: float) -> int:
        return int(
            torch.randint(int(low), max(int(low) + 1, int(high) + 1), (), generator=generator)
        )

    size = image.shape[-1]
    shrink = float(torch.rand((), generator=generator)) < 0.66
    side = whole(size / 3, size) if shrink else whole(1.2 * size, 1.4 * size)
    options: tuple[str, ...] = ("",)
    if side < 0.6 * size:
        options = ("a far away ", "very small ")
    elif side > size:
        options = ("zoomed in ", "close up ")
    words = options[whole(0, len(options) - 1)]
    scaled = F.interpolate(image[None], (side, side), mode="bilinear", antialias=True)[0]
    top, left = whole(0, abs(size - side)), whole(0, abs(size - side))
    if side >= size:
        valid = torch.ones(size, size, dtype=torch.bool)
        return scaled[:, top : top + size, left : left + size], valid, words
    canvas, valid = torch.zeros_like(image), torch.zeros(size, size, dtype=torch.bool)
    canvas[:, top : top + side, left : left + side] = scaled
    valid[top : top + side, left : left + side] = True
    return canvas, valid, words


def initial_embedding(tokenizer, table: torch.Tensor, word: str) -> torch.Tensor:
    """The mean of the embeddings of the word's tokens: [D] float32. `table`: [V, D]."""
    ids = tokenizer(word, add_special_tokens=False).input_ids
    if not ids:
        raise UserError(f"the tokenizer has no token for the initial word {word!r}")
    return table[ids].detach().float().mean(0)


class _Latents:
    """Posteriors of photos, encoded once where they are not augmented."""

    def __init__(self, parts, size: int):
        self.parts, self.size = parts, size
        self.kept: dict[tuple[Path, bool], tuple[torch.Tensor, torch.Tensor]] = {}
        self.squares: dict[Path, torch.Tensor] = {}

    def photo(self, path: Path) -> torch.Tensor:
        if path not in self.squares:
            self.squares[path] = square(read_image(path), self.size)
        return self.squares[path]

    @torch.no_grad()
    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vae = self.parts.vae
        posterior = vae.encode(image[None].to(vae.device, vae.dtype)).latent_dist
        return posterior.mean[0].float().cpu(), posterior.std[0].float().cpu()

    def posterior(self, path: Path, flipped: bool) -> tuple[torch.Tensor, torch.Tensor]:
        key = (path, flipped)
        if key not in self.kept:
            image = self.photo(path)
            self.kept[key] = self.encode(image.flip(-1) if flipped else image)
        return self.kept[key]


def plan_of(parts, concepts: Sequence[Concept], settings: Settings) -> dict:
    """All that decides what is learnt."""
    return {
        "settings": asdict(settings),
        "base": fingerprint(parts),
        "concepts": [
            [
                c.token,
                c.class_word,
                *([sha256(p) for p in images] for images in (c.photos, c.regularisation)),
            ]
            for c in concepts
        ],
    }


def is_learnt(folder: Path, plan: dict) -> bool:
    """Whether a folder holds the finished weights of this plan."""
    path = folder / INFO
    return path.is_file() and read_personal(folder).info.get("plan") == parameters_hash(plan)


def train(
    parts,
    concepts: Sequence[Concept],
    settings: Settings,
    checkpoint: Path,
    checkpoint_every: int = 50,
    log: Callable[[str], None] = print,
) -> Personal:
    """Learn the concepts, together. Interrupted, the same call goes on from `checkpoint`.

    A checkpoint of other settings, photos or of another model is not used, and replaced.
    `parts` are left as they were. Every random number depends on the seed and the step alone, so a
    resumed run ends with the weights of an uninterrupted one.
    """
    tokens = [concept.token for concept in concepts]
    tokenizer = with_tokens(parts.tokenizer, tokens)
    unet, encoder = parts.unet, parts.text_encoder
    check_prompts(tokenizer, concepts, settings)
    old = encoder.get_input_embeddings()
    start = initial_embedding(parts.tokenizer, old.weight, settings.initial_word)
    embedding = PersonalEmbedding(old, start.repeat(len(tokens), 1))
    before = unet.attn_processors
    processors = new_processors(unet)
    weights = [embedding.new, *(p for module in processors.values() for p in module.parameters())]
    rate = settings.learning_rate * settings.batch_size
    optimizer = torch.optim.AdamW(
        [{"params": weights[:1], "lr": rate * settings.embedding_factor}, {"params": weights[1:]}],
        rate,
    )
    plan = plan_of(parts, concepts, settings)
    first, losses = resume(checkpoint, plan, weights, optimizer)
    if first:
        log(f"going on from step {first}")
    latents = _Latents(parts, settings.size)
    passes = Batches(2 * settings.batch_size, "training image")
    encoder.set_input_embeddings(embedding)
    unet.set_attn_processor({**before, **processors})
    try:
        for step in range(first, settings.steps):
            batch = step_batch(parts, tokenizer, concepts, settings, latents, step)

            def learnt(rows: range, batch=batch) -> float:
                loss = batch_loss(parts, batch, rows)
                loss.backward()
                return float(loss.detach())

            rows = range(len(batch.shares))
            losses.append(sum(passes.together(rows, learnt, optimizer.zero_grad)))
            optimizer.step()
            optimizer.zero_grad()
            if not math.isfinite(losses[-1]):
                raise UserError(
                    f"the loss is not finite at step {step + 1}: lower the learning rate"
                )
            done = step + 1
            if done % checkpoint_every == 0 and done < settings.steps:
                keep(checkpoint, plan, weights, optimizer, losses)
                log(f"step {done}/{settings.steps} loss {np.mean(losses[-checkpoint_every:]):.4f}")
    finally:
        encoder.set_input_embeddings(old)
        unet.set_attn_processor(before)
    projections = {
        f"{name.removesuffix('.processor')}.{part}.weight": getattr(
            module, f"{part}_custom_diffusion"
        ).weight.detach().float().cpu()
        for name, module in processors.items()
        for part in ("to_k", "to_v")
    }  # fmt: skip
    rows = embedding.new.detach().float().cpu()
    info = {
        "classes": {concept.token: concept.class_word for concept in concepts},
        "base": plan["base"],
        "plan": parameters_hash(plan),
        "model": parts.name,
        "settings": asdict(settings),
        "photos": [len(concept.photos) for concept in concepts],
        "regularisation": [len(concept.regularisation) for concept in concepts],
        "losses": [round(loss, 5) for loss in losses],
    }
    return Personal(dict(zip(tokens, rows, strict=True)), projections, info)


def new_processors(unet: torch.nn.Module) -> dict[str, CustomDiffusionAttnProcessor]:
    """diffusers' trainable processors for every cross-attention, starting as what is there."""
    processors = {}
    for name, attention in _attentions(unet):
        if name.endswith("attn2.processor"):
            key = attention.to_k.weight
            processor = CustomDiffusionAttnProcessor(
                train_q_out=False, hidden_size=key.shape[0], cross_attention_dim=key.shape[1]
            )
            processor.to_k_custom_diffusion.weight.data.copy_(key)
            processor.to_v_custom_diffusion.weight.data.copy_(attention.to_v.weight)
            processors[name] = processor.to(key.device)
    return processors


def check_prompts(tokenizer, concepts: Sequence[Concept], settings: Settings) -> None:
    """Raise where the prompt has no place for the subject, or is too long for it."""
    if settings.prompt.count("{}") != 1:
        raise UserError(f"the prompt {settings.prompt!r} must hold one {{}}, the subject's place")
    for concept in concepts:
        text = settings.prompt.format(f"{concept.token} {concept.class_word}")
        if len(tokenizer(text).input_ids) > tokenizer.model_max_length:
            raise UserError(f"the prompt {text!r} does not fit the text encoder's window")


@dataclass
class Batch:
    """What one step learns from: photos of the subjects, then images of their classes."""

    noisy: torch.Tensor  # [B, C, h, w]
    timesteps: torch.Tensor  # [B]
    tokens: torch.Tensor  # [B, L]
    target: torch.Tensor  # [B, C, h, w]
    valid: torch.Tensor  # [B, 1, h, w], 0 outside an augmented photo
    shares: torch.Tensor  # [B], of each in the loss


def step_batch(
    parts, tokenizer, concepts: Sequence[Concept], settings: Settings, latents: _Latents, step: int
) -> Batch:
    """The batch of one step, which depends on the seed and the step alone."""
    generator = drawn(settings.seed, "step", step)

    def below(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    means, stds, valid, texts = [], [], [], []
    chosen = [concepts[below(len(concepts))] for _ in range(settings.batch_size)]
    for concept in chosen:
        path = concept.photos[below(len(concept.photos))]
        flipped = settings.flip and below(2) == 1
        text = settings.prompt.format(f"{concept.token} {concept.class_word}")
        if settings.augment:
            image = latents.photo(path)
            image, inside, words = augmented(image.flip(-1) if flipped else image, generator)
            mean, std = latents.encode(image)
            inside = F.interpolate(inside[None, None].float(), mean.shape[1:], mode="nearest")[0]
            text = words + text
        else:
            mean, std = latents.posterior(path, flipped)
            inside = torch.ones(1, *mean.shape[1:])
        means.append(mean), stds.append(std), valid.append(inside), texts.append(text)
    subjects = len(texts)
    for concept in chosen:
        if concept.regularisation:
            path = concept.regularisation[below(len(concept.regularisation))]
            mean, std = latents.posterior(path, settings.flip and below(2) == 1)
            means.append(mean), stds.append(std), valid.append(torch.ones(1, *mean.shape[1:]))
            texts.append(settings.prompt.format(concept.class_word))
    clean = torch.stack(means) + torch.stack(stds) * torch.randn(
        len(means), *means[0].shape, generator=generator
    )
    clean = clean * parts.vae.config.scaling_factor
    noise = torch.randn(clean.shape, generator=generator)
    noising = DDPMScheduler.from_config(parts.scheduler.config)
    t = torch.randint(noising.config.num_train_timesteps, (len(clean),), generator=generator)
    velocity = noising.config.prediction_type == "v_prediction"
    target = noising.get_velocity(clean, noise, t) if velocity else noise
    noisy = noising.add_noise(clean, noise, t)
    others = len(texts) - subjects
    shares = [1 / subjects] * subjects + [settings.prior_weight / max(others, 1)] * others
    return Batch(
        noisy, t, encode_text(tokenizer, texts), target, torch.stack(valid), torch.tensor(shares)
    )


def batch_loss(parts, batch: Batch, rows: range) -> torch.Tensor:
    """What some of a batch add to its loss."""
    device, dtype = parts.unet.device, parts.unet.dtype
    hidden = parts.text_encoder(batch.tokens[rows].to(device)).last_hidden_state
    noisy, t = batch.noisy[rows].to(device, dtype), batch.timesteps[rows].to(device)
    predicted = parts.unet(noisy, t, hidden).sample.float()
    error = (predicted - batch.target[rows].to(device)).square().mean(1, keepdim=True)
    mask = batch.valid[rows].to(device)
    each = (error * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp_min(1)
    return (each * batch.shares[rows].to(device)).sum()


def keep(
    checkpoint: Path, plan: dict, weights: list, optimizer: torch.optim.Optimizer, losses: list
) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "plan": parameters_hash(plan),
        "weights": [weight.detach() for weight in weights],
        "optimizer": optimizer.state_dict(),
        "losses": losses,
    }
    with write_atomically(checkpoint) as partial:
        torch.save(state, partial)


def resume(
    checkpoint: Path, plan: dict, weights: list, optimizer: torch.optim.Optimizer
) -> tuple[int, list[float]]:
    """The number of steps done and their losses; 0 where there is no checkpoint of this plan."""
    if not checkpoint.exists():
        return 0, []
    try:
        state = torch.load(checkpoint, map_location=weights[0].device, weights_only=True)
        if state["plan"] != parameters_hash(plan):
            return 0, []
        for weight, kept in zip(weights, state["weights"], strict=True):
            weight.data.copy_(kept)
        optimizer.load_state_dict(state["optimizer"])
    except Exception as error:  # pickle, zip and torch raise many types for a damaged file
        reason = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        raise UserError(f"{checkpoint}: damaged checkpoint ({reason}); remove it") from None
    return len(state["losses"]), list(state["losses"])


# --- images of the class


@torch.no_grad()
def regularisation_images(
    parts,
    class_word: str,
    folder: Path,
    count: int,
    settings: Settings,
    *,
    steps: int = 50,
    guidance: float = 6.0,
    batch_size: int = 4,
    log: Callable[[str], None] = print,
) -> tuple[Path, ...]:
    """`count` images of a class: those in `folder`, and the missing ones generated there by `parts`.

    A folder of one's own images is used as it is. Each image has its own noise, so that an
    interrupted call ends with the same ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = [p for p in photos_in(folder) if not re.fullmatch(r"generated-\d{5}\.png", p.name)]
    if given:
        if len(given) < 2:
            raise UserError(f"{folder}: one image of the class {class_word!r}; give at least 2")
        return tuple(given)
    paths = [folder / f"generated-{i:05d}.png" for i in range(count)]
    pipe = StableDiffusionPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet,
        scheduler=DDIMScheduler.from_config(parts.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)

    def generate(part: Sequence[Path]) -> None:
        if all(path.exists() for path in part):
            return
        generators = [drawn(settings.seed, "class", class_word, path.name) for path in part]
        images = pipe(
            [settings.prompt.format(class_word)] * len(part),
            height=settings.size,
            width=settings.size,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators,
        ).images
        for path, image in zip(part, images, strict=True):
            with write_atomically(path) as partial:
                image.save(partial)
        log(f"images of the class {class_word}: {int(part[-1].stem[-5:]) + 1}/{count}")

    for _ in Batches(batch_size, "image").over(paths, generate):
        pass
    return tuple(paths)


def remove_checkpoint(checkpoint: Path) -> None:
    """A finished training's checkpoint, and its folder where nothing else is in it."""
    checkpoint.unlink(missing_ok=True)
    if checkpoint.parent.is_dir() and not os.listdir(checkpoint.parent):
        checkpoint.parent.rmdir()
