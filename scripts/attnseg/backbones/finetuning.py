"""Finetune some weights of a diffusion model: the loss and a resumable training loop."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from attnseg.backbones.interface import Backbone, Text
from attnseg.core.finite import all_finite
from attnseg.errors import UserError, sigterm_waits
from attnseg.io.batches import Batches
from attnseg.io.tensors import read_checkpoint, write_checkpoint


@dataclass
class TrainingBatch:
    """The inputs and targets of one training step."""

    noisy: torch.Tensor  # [B, C, h, w]
    timesteps: torch.Tensor  # [B]
    text: Callable[[range], Text]  # encodes the texts of some rows
    target: torch.Tensor  # [B, C, h, w]
    shares: torch.Tensor  # [B], each image's weight in the loss
    valid: torch.Tensor | None = None  # [B, 1, h, w], 0 where the loss is masked out


def noised(
    backbone: Backbone,
    clean: torch.Tensor,
    text: Callable[[range], Text],
    shares: Sequence[float],
    generator: torch.Generator,
    valid: torch.Tensor | None = None,
) -> TrainingBatch:
    """Noise the latents `clean` [B, C, h, w] at random timesteps.

    `generator` draws the noise first, then the timesteps.
    """
    noise = torch.randn(clean.shape, generator=generator)
    t = torch.randint(1000, (len(clean),), generator=generator)
    noisy, target = backbone.add_noise(clean, noise, t), backbone.target(clean, noise, t)
    return TrainingBatch(noisy, t, text, target, torch.tensor(shares), valid)


def batch_loss(backbone: Backbone, batch: TrainingBatch, rows: range) -> torch.Tensor:
    """The contribution of some rows to a batch's loss: their weighted, masked mean squared error."""
    predicted = backbone.denoise(batch.noisy[rows], batch.timesteps[rows], batch.text(rows))
    errors = (predicted - batch.target[rows].to(backbone.device)).square().mean(1, keepdim=True)
    valid = torch.ones_like(errors) if batch.valid is None else batch.valid[rows].to(errors)
    each = (errors * valid).sum((1, 2, 3)) / valid.sum((1, 2, 3)).clamp_min(1)
    return (each * batch.shares[rows].to(errors)).sum()


def train_weights(
    backbone: Backbone,
    weights: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    batch_of: Callable[[int], TrainingBatch],
    steps: int,
    checkpoint: Path,
    made_with: str,
    checkpoint_every: int,
    log: Callable[[int, float], None],
    clip: float | None = None,
) -> list[float]:
    """Train `weights` in place and return the losses of all steps.

    Args:
        batch_of: the batch of a step, counted from 0. It depends only on the step, so that a resumed
            training ends with the same weights as an uninterrupted one.
        checkpoint: resumed from if it is whole and has the same `made_with`, otherwise replaced. SIGTERM
            ends the training after a step, with a checkpoint.
        made_with: identifies the training: a hash of its settings and data.
        log: called with the number of finished steps and the last loss.
        clip: maximal norm of the gradient.

    Raises:
        UserError: if the loss or weights are not finite.
    """
    losses = restored(checkpoint, made_with, weights, optimizer)
    passes: Batches | None = None
    with sigterm_waits() as ended:
        for step in range(len(losses), steps):
            batch = batch_of(step)
            passes = passes or Batches(len(batch.noisy), "training image")

            def backward(rows: range, batch: TrainingBatch = batch) -> float:
                """Adds the gradients of some of the images; their part of the loss."""
                loss = batch_loss(backbone, batch, rows)
                loss.backward()
                return float(loss.detach())

            losses.append(
                sum(passes.together(range(len(batch.noisy)), backward, optimizer.zero_grad))
            )
            if not math.isfinite(losses[-1]):
                raise UserError(
                    f"the loss is not finite at step {step + 1}: lower the learning rate"
                )
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(weights, clip)
            optimizer.step()
            optimizer.zero_grad()
            last = step + 1 == steps or ended()
            if (step + 1) % checkpoint_every == 0 or last:
                if not all_finite(weights):
                    raise UserError(
                        f"the weights are not finite after step {step + 1}: lower the learning rate"
                    )
                state = {
                    "made_with": made_with,
                    "weights": [weight.detach() for weight in weights],
                    "optimizer": optimizer.state_dict(),
                    "losses": losses,
                }
                write_checkpoint(state, checkpoint)
            log(step + 1, losses[-1])
            if last:
                break
    return losses


def restored(
    checkpoint: Path,
    made_with: str,
    weights: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> list[float]:
    """Load a checkpoint of the same training, if there is one, and return the losses so far."""
    state = read_checkpoint(checkpoint)
    if state is None or state["made_with"] != made_with:
        return []
    for weight, kept in zip(weights, state["weights"], strict=True):
        weight.data.copy_(kept)
    optimizer.load_state_dict(state["optimizer"])
    return list(state["losses"])
