"""Pretrain backbones on image classification."""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from attnseg.core.finite import all_finite
from attnseg.errors import UserError
from attnseg.io.files import write_atomically
from attnseg.io.precision import number_format
from attnseg.segmentation.model import MEAN, STD, build_model
from attnseg.settings import Segmentor


def augmented(
    images: np.ndarray, chosen: np.ndarray, rng: np.random.Generator, pad: int = 6
) -> torch.Tensor:
    """Randomly mirrored and shifted images of a batch, normalised: [B, 3, H, W] float32.

    images: [N, H, W, 3] uint8 RGB. chosen: [B], the batch's indices.
    """
    side_y, side_x = images.shape[1:3]
    batch = np.pad(images[chosen], ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    y, x = rng.integers(0, 2 * pad + 1, (2, len(chosen)))
    batch = np.stack(
        [im[j : j + side_y, i : i + side_x] for im, j, i in zip(batch, y, x, strict=True)]
    )
    mirrored = rng.random(len(chosen)) < 0.5
    batch[mirrored] = batch[mirrored, :, ::-1]
    normalised = (batch.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(normalised.transpose(0, 3, 1, 2).copy())


def train_classifier(
    settings: Segmentor,
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    output: Path,
    device: torch.device | str = "cpu",
) -> float:
    """Train a backbone with a linear classifier on its mean feature; write the backbone's weights.

    AdamW with a one-cycle schedule. images: [N, H, W, 3] uint8 RGB. labels: [N] in [0, classes).

    Returns:
        The accuracy in [0, 1] over the last tenth of the iterations' batches.

    Raises:
        UserError: if the loss or the weights are not finite.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    backbone = build_model(settings, classes).backbone.to(device)
    backbone.train()
    features = settings.width * 8 * (1 if settings.depth < 50 else 4)
    head = torch.nn.Linear(features, classes).to(device)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.iterations, pct_start=0.1
    )
    device_type = torch.device(device).type
    half = number_format(settings.precision, device) == "bfloat16"
    right = []
    for iteration in range(settings.iterations):
        chosen = rng.choice(len(images), settings.batch, replace=False)
        target = torch.from_numpy(labels[chosen]).to(device)
        with torch.autocast(device_type, torch.bfloat16, enabled=half):
            last = backbone(augmented(images, chosen, rng).to(device))[-1]
        logits = head(last.float().mean((2, 3)))
        loss = F.cross_entropy(logits, target, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        right.append(float((logits.argmax(1) == target).float().mean()))
        done = iteration + 1
        if done % max(1, settings.iterations // 20) == 0 or done == settings.iterations:
            if not math.isfinite(loss.item()):
                raise UserError(
                    f"the loss is {loss.item()} at iteration {done}: lower the learning rate (--lr)"
                )
            print(
                f"iteration {done} of {settings.iterations}: loss {loss.item():.3f}, "
                f"accuracy {np.mean(right[-50:]):.3f}",
                flush=True,
            )
    state = {k: v.detach().cpu().contiguous() for k, v in backbone.state_dict().items()}
    if not all_finite(state.values()):
        raise UserError("the weights are not finite at the end: lower the learning rate (--lr)")
    with write_atomically(output) as partial:
        save_file(state, partial)
    return float(np.mean(right[-max(1, settings.iterations // 10) :]))
