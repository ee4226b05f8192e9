"""Training a few weights of a diffusion model: the loss, and a loop that can be resumed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from attnseg.backbones.interface import Backbone, Text
from attnseg.errors import UserError
from attnseg.io.batches import Batches
from attnseg.io.files import write_atomically


@dataclass
class Batch:
    """What one step learns from; each image counts by its share of the loss."""

    noisy: torch.Tensor  # [B, C, h, w]
    timesteps: torch.Tensor  # [B]
    text: Callable[[range], Text]  # of some rows
    target: torch.Tensor  # [B, C, h, w]
    shares: torch.Tensor  # [B]
    valid: torch.Tensor | None = None  # [B, 1, h, w], 0 where nothing is to be learnt


def noised(
    backbone: Backbone,
    clean: torch.Tensor,
    text: Callable[[range], Text],
    shares: Sequence[float],
    generator: torch.Generator,
    valid: torch.Tensor | None = None,
) -> Batch:
    """The batch of latents [B, C, h, w]: noise, then timesteps, by the generator."""
    noise = torch.randn(clean.shape, generator=generator)
    t = torch.randint(1000, (len(clean),), generator=generator)
    noisy, target = backbone.add_noise(clean, noise, t), backbone.target(clean, noise, t)
    return Batch(noisy, t, text, target, torch.tensor(shares), valid)


def batch_loss(backbone: Backbone, batch: Batch, rows: range) -> torch.Tensor:
    """What some of a batch add to its loss: the mean square error where they are valid."""
    predicted = backbone.denoise(batch.noisy[rows], batch.timesteps[rows], batch.text(rows))
    errors = (predicted - batch.target[rows].to(backbone.device)).square().mean(1, keepdim=True)
    valid = torch.ones_like(errors) if batch.valid is None else batch.valid[rows].to(errors)
    each = (errors * valid).sum((1, 2, 3)) / valid.sum((1, 2, 3)).clamp_min(1)
    return (each * batch.shares[rows].to(errors)).sum()


def train(
    backbone: Backbone,
    weights: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    batch_of: Callable[[int], Batch],
    steps: int,
    checkpoint: Path,
    made_with: str,
    checkpoint_every: int,
    log: Callable[[int, float], None],
    clip: float | None = None,
) -> list[float]:
    """Train `weights` in place; returns the losses of all steps.

    The batch of a step depends on nothing but its number, counted from 0, so that a training that
    goes on from its checkpoint ends as one without a break. A checkpoint of another `made_with` is
    replaced. `clip`: the largest norm of the gradient.

    Raises:
        UserError: for a loss that is not finite, and a damaged checkpoint.
    """
    losses = restored(checkpoint, made_with, weights, optimizer)
    passes: Batches | None = None
    for step in range(len(losses), steps):
        batch = batch_of(step)
        passes = passes or Batches(len(batch.noisy), "training image")

        def learnt(rows: range, batch: Batch = batch) -> float:
            """Adds the gradients of some of the images; their part of the loss."""
            loss = batch_loss(backbone, batch, rows)
            loss.backward()
            return float(loss.detach())

        losses.append(sum(passes.together(range(len(batch.noisy)), learnt, optimizer.zero_grad)))
        if not math.isfinite(losses[-1]):
            raise UserError(f"the loss is not finite at step {step + 1}: lower the learning rate")
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(weights, clip)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % checkpoint_every == 0 or step + 1 == steps:
            state = {
                "made_with": made_with,
                "weights": [weight.detach() for weight in weights],
                "optimizer": optimizer.state_dict(),
                "losses": losses,
            }
            with write_atomically(checkpoint) as partial:
                torch.save(state, partial)
        log(step + 1, losses[-1])
    return losses


def restored(
    checkpoint: Path,
    made_with: str,
    weights: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> list[float]:
    """The losses of the steps that a checkpoint of the same training has done, after loading it."""
    if not checkpoint.exists():
        return []
    try:
        state = torch.load(checkpoint, map_location=weights[0].device, weights_only=True)
        if state["made_with"] != made_with:
            return []
        for weight, kept in zip(weights, state["weights"], strict=True):
            weight.data.copy_(kept)
        optimizer.load_state_dict(state["optimizer"])
    except Exception as error:  # pickle, zip and torch raise many types for a damaged file
        reason = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        raise UserError(f"{checkpoint}: damaged checkpoint ({reason}); remove it") from None
    return list(state["losses"])
