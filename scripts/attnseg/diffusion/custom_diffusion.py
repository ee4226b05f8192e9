"""Custom Diffusion: a new word, and cross-attention that knows it (Kumari et al. 2023).

Trained are the embedding of the identifier, such as ``<new1>``, and the projections of the text to
keys and values in every cross-attention; the prior of the class is preserved on images of it. What
was learnt is a `Personal`.
"""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.models.attention_processor import CustomDiffusionAttnProcessor

from attnseg.batches import Batches
from attnseg.datasets.images import read_image
from attnseg.datasets.mug19 import photos_in
from attnseg.diffusion.geometry import central_square
from attnseg.diffusion.personal import (
    INFO,
    Personal,
    PersonalEmbedding,
    attentions,
    fingerprint,
    initial_embedding,
    read_personal,
    with_tokens,
)
from attnseg.diffusion.pipeline import pipeline_of
from attnseg.errors import UserError
from attnseg.files import parameters_hash, sha256, start_folder, write_atomically
from attnseg.prompts import encode_text
from attnseg.seeds import generator_of
from attnseg.settings import SubjectTrainingJob


@dataclass(frozen=True)
class Concept:
    """A subject: its identifier, the word of its class, photos, and images of the class."""

    token: str
    class_word: str
    photos: tuple[Path, ...]
    regularisation: tuple[Path, ...] = ()


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


class _Latents:
    """Posteriors of photos, encoded once where they are not augmented."""

    def __init__(self, parts, size: int):
        self.parts, self.size = parts, size
        self.kept: dict[tuple[Path, bool], tuple[torch.Tensor, torch.Tensor]] = {}
        self.squares: dict[Path, torch.Tensor] = {}

    def photo(self, path: Path) -> torch.Tensor:
        if path not in self.squares:
            self.squares[path] = central_square(read_image(path), self.size)
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


def plan_of(parts, concepts: Sequence[Concept], settings: SubjectTrainingJob) -> dict:
    """All that decides what is learnt."""
    return {
        "settings": settings.identity(),
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
    settings: SubjectTrainingJob,
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
        "settings": settings.identity(),
        "photos": [len(concept.photos) for concept in concepts],
        "regularisation": [len(concept.regularisation) for concept in concepts],
        "losses": [round(loss, 5) for loss in losses],
    }
    return Personal(dict(zip(tokens, rows, strict=True)), projections, info)


def new_processors(unet: torch.nn.Module) -> dict[str, CustomDiffusionAttnProcessor]:
    """diffusers' trainable processors for every cross-attention, starting as what is there."""
    processors = {}
    for name, attention in attentions(unet):
        if name.endswith("attn2.processor"):
            key = attention.to_k.weight
            processor = CustomDiffusionAttnProcessor(
                train_q_out=False, hidden_size=key.shape[0], cross_attention_dim=key.shape[1]
            )
            processor.to_k_custom_diffusion.weight.data.copy_(key)
            processor.to_v_custom_diffusion.weight.data.copy_(attention.to_v.weight)
            processors[name] = processor.to(key.device)
    return processors


def check_prompts(tokenizer, concepts: Sequence[Concept], settings: SubjectTrainingJob) -> None:
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
    parts,
    tokenizer,
    concepts: Sequence[Concept],
    settings: SubjectTrainingJob,
    latents: _Latents,
    step: int,
) -> Batch:
    """The batch of one step, which depends on the seed and the step alone."""
    generator = generator_of(settings.seed, "step", step)

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


@torch.no_grad()
def regularisation_images(
    parts,
    class_word: str,
    folder: Path,
    count: int,
    settings: SubjectTrainingJob,
    *,
    steps: int = 50,
    guidance: float = 6.0,
    batch_size: int = 4,
    log: Callable[[str], None] = print,
) -> tuple[Path, ...]:
    """`count` images of a class: those in `folder`, and the missing ones generated there by `parts`.

    A folder of one's own images is used as it is; images that other settings generated are made
    again. Each image has its own noise, so that an
    interrupted call ends with the same ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = [p for p in photos_in(folder) if not re.fullmatch(r"generated-\d{5}\.png", p.name)]
    if given:
        if len(given) < 2:
            raise UserError(f"{folder}: one image of the class {class_word!r}; give at least 2")
        return tuple(given)
    made_with = {
        "base": fingerprint(parts), "prompt": settings.prompt.format(class_word), "steps": steps,
        "guidance": guidance, "size": settings.size, "seed": settings.seed,
    }  # fmt: skip
    start_folder(folder, made_with, ("generated-*.png",))
    paths = [folder / f"generated-{i:05d}.png" for i in range(count)]
    pipe = pipeline_of(parts, DDIMScheduler.from_config(parts.scheduler.config))
    pipe.set_progress_bar_config(disable=True)

    def generate(part: Sequence[Path]) -> None:
        if all(path.exists() for path in part):
            return
        generators = [generator_of(settings.seed, "class", class_word, path.name) for path in part]
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
