"""Custom Diffusion: teach a model a new word for a subject (Kumari et al. 2023).

The embedding of the identifier, such as ``<new1>``, and the key and value projections of every
cross-attention are trained, with prior preservation on images of the class. The result is a
`Personal`.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTokenizer

from attnseg.backbones import finetuning
from attnseg.backbones.class_images import class_images
from attnseg.backbones.interface import Posterior
from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.core.finite import check_finite
from attnseg.core.geometry import central_square
from attnseg.core.seeds import generator_of
from attnseg.datasets.images import read_image
from attnseg.errors import UserError
from attnseg.io import provenance
from attnseg.io.files import images_in, parameters_hash, sha256
from attnseg.io.runs import forced
from attnseg.personalised.personal import (
    INFO,
    Personal,
    PersonalEmbedding,
    fingerprint,
    initial_embedding,
    installed,
    processors_with,
    read_personal,
    save_personal,
    text_projections,
    with_tokens,
)
from attnseg.settings import SubjectTrainingJob


@dataclass(frozen=True)
class Concept:
    """A subject: its identifier, its class word, photos of it, and images of its class."""

    token: str
    class_word: str
    photos: tuple[Path, ...]
    regularisation: tuple[Path, ...] = ()


def concepts_from(
    photos: Sequence[Path], classes: Sequence[str], tokens: Sequence[str]
) -> list[Concept]:
    """Make one concept per folder of photos; check that each has at least two readable photos."""
    concepts = []
    for folder, word, token in zip(photos, classes, tokens, strict=True):
        found = images_in(Path(folder))
        if len(found) < 2:
            raise UserError(
                f"{folder}: {len(found)} photo{'' if len(found) == 1 else 's'} of the subject; at "
                "least 2 are needed, 5 to 10 are better"
            )
        others = sorted({path.name for path in set(Path(folder).glob("[!.]*")) - set(found)})
        if others:
            print(f"{folder}: left out, no photos: {', '.join(others)}", file=sys.stderr)
        for path in found:
            read_image(path)
        concepts.append(Concept(token, word, tuple(found)))
    return concepts


def augmented(
    image: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Custom Diffusion's augmentation: shrink a photo with probability 0.66, otherwise enlarge it.

    `image`: [3, S, S] in [-1, 1]. Returns the photo [3, S, S]; the pixels that it covers [S, S] bool,
    since a shrunk photo has a grey margin that the loss leaves out; and words for the prompt, such as
    "close up ".
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


class _Photos:
    """Photos and their posteriors, encoded once unless augmented."""

    def __init__(self, backbone: StableDiffusion, size: int):
        self.backbone, self.size = backbone, size
        self.kept: dict[tuple[Path, bool], Posterior] = {}
        self.squares: dict[Path, torch.Tensor] = {}

    def photo(self, path: Path) -> torch.Tensor:
        if path not in self.squares:
            self.squares[path] = central_square(read_image(path, turn=True), self.size)
        return self.squares[path]

    def posterior(self, path: Path, flipped: bool) -> Posterior:
        key = (path, flipped)
        if key not in self.kept:
            image = self.photo(path)
            image = image.flip(-1) if flipped else image
            self.kept[key] = self.encoded(path, image)
        return self.kept[key]

    def encoded(self, path: Path, image: torch.Tensor) -> Posterior:
        """The posterior of a photo [3, S, S], or of what was made of it."""
        found = self.backbone.encode_images(image[None])
        check_finite("the latents are", [str(path)], self.backbone.dtype, found.mean, found.std)
        return found


def plan_of(
    backbone: StableDiffusion, concepts: Sequence[Concept], settings: SubjectTrainingJob
) -> dict:
    """Everything that determines the trained weights, as JSON-compatible values."""
    return {
        "settings": settings.record(),
        "base": fingerprint(backbone),
        "concepts": [
            [
                c.token,
                c.class_word,
                *([sha256(p) for p in images] for images in (c.photos, c.regularisation)),
            ]
            for c in concepts
        ],
    }


def is_trained(folder: Path, plan: dict) -> bool:
    """True if a folder holds the finished weights of `plan`."""
    path = folder / INFO
    return path.is_file() and read_personal(folder).info.get("plan") == parameters_hash(plan)


def train(
    backbone: StableDiffusion,
    concepts: Sequence[Concept],
    settings: SubjectTrainingJob,
    checkpoint: Path,
    checkpoint_every: int = 50,
    log: Callable[[str], None] = print,
) -> Personal:
    """Train the concepts jointly; the model is left unchanged.

    Random numbers depend only on the seed and the step, so that a training resumed from `checkpoint`
    ends with the same weights as an uninterrupted one.

    Args:
        checkpoint: file to resume from, written every `checkpoint_every` steps. It is replaced if it
            is of other settings, photos or another model.
        log: called with lines of text.

    Raises:
        UserError: if a prompt or an identifier is invalid, or the loss is not finite.
    """
    tokens = [concept.token for concept in concepts]
    changed = replace(backbone, tokenizer=with_tokens(backbone.tokenizer, tokens))
    check_prompts(changed.tokenizer, concepts, settings)
    old = backbone.text_encoder.get_input_embeddings()
    start = initial_embedding(backbone.tokenizer, old.weight, settings.initial_word)
    embedding = PersonalEmbedding(old, start.repeat(len(tokens), 1))
    processors = processors_with(backbone.unet, text_projections(backbone.unet))
    weights = [embedding.new, *(p for module in processors.values() for p in module.parameters())]
    rate = settings.learning_rate * settings.batch_size
    groups: list[dict[str, Any]] = [
        {"params": weights[:1], "lr": rate * settings.embedding_factor},
        {"params": weights[1:]},
    ]
    optimizer = torch.optim.AdamW(groups, rate)
    plan = plan_of(backbone, concepts, settings)
    photos = _Photos(backbone, settings.size or min(backbone.size))
    recent: list[float] = []

    def report(step: int, loss: float) -> None:
        if not recent and step > 1:
            log(f"resumed after step {step - 1}")
        recent.append(loss)
        if step % checkpoint_every == 0 and step < settings.steps:
            mean = np.mean(recent[-checkpoint_every:])
            log(f"step {step}/{settings.steps} loss {mean:.4f}")

    with installed(backbone, embedding, processors):
        losses = finetuning.train_weights(
            changed,
            weights,
            optimizer,
            lambda step: step_batch(changed, concepts, settings, photos, step),
            settings.steps,
            checkpoint,
            parameters_hash(plan),
            checkpoint_every,
            report,
        )
    projections = {
        f"{name}.{part}.weight": getattr(
            processor, f"{part}_custom_diffusion"
        ).weight.detach().float().cpu()
        for name, processor in processors.items()
        for part in ("to_k", "to_v")
    }  # fmt: skip
    rows = embedding.new.detach().float().cpu()
    info = {
        "classes": {concept.token: concept.class_word for concept in concepts},
        "base": plan["base"],
        "plan": parameters_hash(plan),
        "model": backbone.name,
        "settings": settings.identity(),
        "photos": [len(concept.photos) for concept in concepts],
        "regularisation": [len(concept.regularisation) for concept in concepts],
        "losses": [round(loss, 5) for loss in losses],
    }
    return Personal(dict(zip(tokens, rows, strict=True)), projections, info)


def check_prompts(
    tokenizer: CLIPTokenizer, concepts: Sequence[Concept], settings: SubjectTrainingJob
) -> None:
    """Raise where the prompt has no place for the subject, or is too long for it."""
    if settings.prompt.count("{}") != 1:
        raise UserError(f"the prompt {settings.prompt!r} must contain {{}} once, for the subject")
    for concept in concepts:
        text = settings.prompt.format(f"{concept.token} {concept.class_word}")
        if len(tokenizer(text).input_ids) > tokenizer.model_max_length:
            raise UserError(f"the prompt {text!r} does not fit the text encoder's window")


def step_batch(
    backbone: StableDiffusion,
    concepts: Sequence[Concept],
    settings: SubjectTrainingJob,
    photos: _Photos,
    step: int,
) -> finetuning.TrainingBatch:
    """Draw photos of the subjects, then images of their classes, by the seed and the step alone."""
    generator = generator_of(settings.seed, "step", step)

    def below(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    found: list[tuple[Posterior, torch.Tensor, str]] = []  # with its valid cells [1, h, w]

    def add(posterior: Posterior, valid: torch.Tensor | None, text: str) -> None:
        grid = posterior.mean.shape[2:]
        inside = torch.ones(1, *grid)
        if valid is not None:
            inside = F.interpolate(valid[None, None].float(), grid, mode="nearest")[0]
        found.append((posterior, inside, text))

    chosen = [concepts[below(len(concepts))] for _ in range(settings.batch_size)]
    for concept in chosen:
        path = concept.photos[below(len(concept.photos))]
        flipped = settings.flip and below(2) == 1
        text = settings.prompt.format(f"{concept.token} {concept.class_word}")
        if settings.augment:
            image = photos.photo(path)
            image, valid, words = augmented(image.flip(-1) if flipped else image, generator)
            add(photos.encoded(path, image), valid, words + text)
        else:
            add(photos.posterior(path, flipped), None, text)
    subjects = len(found)
    for concept in chosen:
        if concept.regularisation:
            path = concept.regularisation[below(len(concept.regularisation))]
            posterior = photos.posterior(path, settings.flip and below(2) == 1)
            add(posterior, None, settings.prompt.format(concept.class_word))
    others = len(found) - subjects
    shares = [1 / subjects] * subjects + [settings.prior_weight / max(others, 1)] * others
    posteriors, masks, texts = zip(*found, strict=True)
    draws = torch.randn(len(found), *posteriors[0].mean.shape[1:], generator=generator)
    latents = [p.latents(draw[None]) for p, draw in zip(posteriors, draws, strict=True)]
    return finetuning.noised(
        backbone,
        torch.cat(latents),
        lambda rows: backbone.encode_text([texts[row] for row in rows]),
        shares,
        generator,
        torch.stack(masks),
    )


def regularisation_images(
    backbone: StableDiffusion,
    class_word: str,
    folder: Path,
    count: int,
    settings: SubjectTrainingJob,
    **options: Any,
) -> tuple[Path, ...]:
    """Return `count` images of a class in `folder`; `options` are those of `class_images`."""
    return class_images(
        backbone,
        fingerprint(backbone),
        class_word,
        settings.prompt.format(class_word),
        folder,
        count,
        size=settings.size,
        guidance=6.0,
        seed=settings.seed,
        **options,
    )


def remove_checkpoint(checkpoint: Path) -> None:
    """Delete a finished training's checkpoint, and its folder if that is then empty."""
    checkpoint.unlink(missing_ok=True)
    if checkpoint.parent.is_dir() and not os.listdir(checkpoint.parent):
        checkpoint.parent.rmdir()


def learn(
    backbone: StableDiffusion,
    concepts: list[Concept],
    settings: SubjectTrainingJob,
    output: Path,
    workdir: Path,
    log: Callable[[str], None] = print,
) -> None:
    """Write the weights in `output`, unless those of the same plan are there already."""
    if not forced(output) and is_trained(output, plan_of(backbone, concepts, settings)):
        log(f"{output} is there already")
        return
    started = time.monotonic()
    checkpoint = workdir / "checkpoint.pt"
    personal = train(backbone, concepts, settings, checkpoint, settings.checkpoint_interval, log)
    personal.info["seconds"] = round(time.monotonic() - started, 1)
    personal.info["device"] = provenance.device(str(backbone.device))
    save_personal(output, personal)
    remove_checkpoint(checkpoint)
    log(f"{', '.join(concept.token for concept in concepts)} learnt in {output}")


def check_size(backbone: StableDiffusion, size: int) -> None:
    """Raise where the U-Net cannot halve the latents of such a photo as often as it does."""
    multiple = backbone.multiple
    if size < multiple or size % multiple:
        raise UserError(f"size {size}: it must be a multiple of {multiple} for this model")
