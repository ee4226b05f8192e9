"""Train the miniatures: first the autoencoder, then what a recipe says.

Both loops can be resumed: their checkpoints contain all state, including that of the generator. SIGTERM
ends them after a step, with a checkpoint.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from attnseg.core.finite import all_finite
from attnseg.errors import UserError, sigterm_waits
from attnseg.io.files import write_atomically, write_json
from attnseg.io.precision import computes_bfloat16
from attnseg.io.tensors import read_checkpoint, write_checkpoint
from attnseg.mini.recipes import Recipe
from attnseg.mini.world.training import training_scenes

VAE_LEARNING_RATE = 1e-3
VAE_BATCH = 16
UNCONDITIONAL = 0.1  # fraction of captions left out, for classifier-free guidance
EMA = 0.9995
PATIENCE = 300  # seconds after which a checkpoint is written at the latest


def check_loss(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"the loss is {loss} at step {step}; the last checkpoint is kept: lower the learning rate"
        )


def save_checkpoint(state: dict, path: Path, weights: Iterable[torch.Tensor]) -> None:
    """Write what a training goes on from; `weights`: of it, which must be finite."""
    if not all_finite(weights):
        raise UserError(f"{path}: not written: the weights are not finite: lower the learning rate")
    write_checkpoint(state, path)


def learning_rate(
    step: int, steps: int, peak: float, warmup: int = 200, tail: float = 0.3
) -> float:
    """Linear warm-up, a plateau, and a linear decay over the last fraction `tail` of the steps."""
    fall = min(1.0, max(0.02, (steps - step) / (tail * steps)))
    return peak * min(1.0, (step + 1) / warmup) * fall


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """Scale images: [B, 64, 64, 3] uint8 -> [B, 3, 64, 64] float32 in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def train_autoencoder(
    vae: AutoencoderKL, images: np.ndarray, steps: int, folder: Path, device: str, log: Callable
) -> None:
    """Train `vae` in place on images [N, 64, 64, 3] uint8, and set its scaling factor."""
    checkpoint = folder / "vae.pt"
    optimizer = torch.optim.AdamW(
        vae.parameters(), VAE_LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0
    )
    vae.to(device).train()
    first, pixels = 0, torch.from_numpy(images)
    generator = torch.Generator().manual_seed(0)
    if (state := read_checkpoint(checkpoint)) is not None:
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"].cpu())
        first = state["step"]
    started, running = time.monotonic(), 0.0
    with sigterm_waits() as ended:
        for step in range(first, steps):
            optimizer.param_groups[0]["lr"] = learning_rate(
                step, steps, VAE_LEARNING_RATE, tail=0.5
            )
            batch = torch.randint(len(pixels), (VAE_BATCH,), generator=generator)
            target = to_unit(pixels[batch].to(device))
            with torch.autocast(device, torch.bfloat16, enabled=computes_bfloat16(device)):
                posterior = vae.encode(target).latent_dist
                decoded = vae.decode(posterior.sample(generator)).sample
            error = decoded.float() - target
            loss = error.abs().mean() + 2 * error.square().mean()
            loss = loss + 3e-4 * posterior.kl().float().mean() / posterior.mean[0].numel()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            running += float(error.detach().square().mean())
            check_loss(running, step + 1)
            if (step + 1) % 100 == 0:
                rate = (step + 1 - first) * VAE_BATCH / (time.monotonic() - started)
                psnr = 10 * np.log10(4 / (running / 100))
                log(f"autoencoder step {step + 1}/{steps} PSNR {psnr:.2f} dB, {rate:.0f} scenes/s")
                running = 0.0
            last = step + 1 == steps or ended()
            if (step + 1) % 500 == 0 or last:
                state = {
                    "vae": vae.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "generator": generator.get_state(),
                    "step": step + 1,
                }
                save_checkpoint(state, checkpoint, vae.parameters())
            if last:
                break
    vae.eval()
    spread = encode(vae, images[:2000], device).std().item()
    if not spread > 0:  # NaN as well
        raise UserError(
            f"the latents of all scenes are alike ({spread}): train for more --vae-steps"
        )
    vae.register_to_config(scaling_factor=1 / spread)


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray, device: str) -> torch.Tensor:
    """Posterior means of images [N, 64, 64, 3] uint8: [N, 8, 16, 16] float32, unscaled."""
    means = []
    for start in range(0, len(images), 64):
        batch = to_unit(torch.from_numpy(images[start : start + 64]).to(device))
        means.append(vae.encode(batch).latent_dist.mean.float().cpu())
    return torch.cat(means)


def train_denoiser(
    recipe: Recipe,
    latents: torch.Tensor,
    tokens: torch.Tensor,
    empty: torch.Tensor,
    steps: int,
    folder: Path,
    device: str,
    evaluate: Callable[[], dict],
    log: Callable,
    evaluate_every: int = 1000,
    checkpoint_every: int = 250,
) -> list[dict]:
    """Train a miniature's networks in place on captioned latents.

    Args:
        latents: [V, N, 8, 16, 16] scaled, V views of N scenes.
        tokens: [N, C, L] int64, C captions of each scene.
        empty: [L], the tokens of the empty caption.

    Returns:
        The history, one record per evaluation; its hours include those of interrupted runs. The
        model is left with the moving average of the weights.
    """
    named = {
        f"{i}.{name}": weight
        for i, network in enumerate(recipe.trained)
        for name, weight in network.to(device).train().named_parameters()
    }
    denoiser = recipe.trained[0]
    denoiser.set_attn_processor(recipe.plain)
    weights = list(named.values())
    average = [w.detach().clone() for w in weights]
    optimizers = recipe.optimizers(named)
    generator = torch.Generator().manual_seed(0)
    history, first, spent, checkpoint = [], 0, 0.0, folder / "denoiser.pt"
    if (state := read_checkpoint(checkpoint)) is not None:
        for mine, kept in zip(weights + average, state["weights"] + state["average"], strict=True):
            mine.data.copy_(kept)
        for optimizer, own in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        generator.set_state(state["generator"].cpu())
        history, first, spent = state["history"], state["step"], state["seconds"]
        log(f"resumed after step {first}")
    views, scenes, captions = latents.shape[0], latents.shape[1], tokens.shape[1]
    batch, started, running, counted = recipe.batch, time.monotonic(), 0.0, 0
    saved = started
    with sigterm_waits() as ended:
        for step in range(first, steps):
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = group.get("scale", 1) * learning_rate(step, steps, recipe.rate)
            which = torch.randint(scenes, (batch,), generator=generator)
            view = torch.randint(views, (batch,), generator=generator)
            caption = torch.randint(captions, (batch,), generator=generator)
            words = tokens[which, caption]
            unconditional = torch.rand(batch, generator=generator) < UNCONDITIONAL
            words = torch.where(unconditional[:, None], empty, words).to(device)
            clean = latents[view, which].float().to(device)
            noise = torch.randn(clean.shape, generator=generator).to(device)
            with torch.autocast(device, torch.bfloat16, enabled=computes_bfloat16(device)):
                error, importance = recipe.loss(clean, noise, words, generator)
            (error * importance).mean().backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            decay = min(EMA, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, [w.detach() for w in weights], 1 - decay)
            running, counted = running + float(error.detach().mean()), counted + 1
            check_loss(running, step + 1)
            done = step + 1
            if done % checkpoint_every == 0 or done == steps:
                rate = (done - first) * batch / (time.monotonic() - started)
                log(f"step {done}/{steps} loss {running / counted:.4f} {rate:.0f} scenes/s")
                if done % evaluate_every == 0 or done == steps:
                    with swapped(weights, average), recording(recipe):
                        measured = evaluate()
                    hours = (spent + time.monotonic() - started) / 3600
                    history.append(
                        {"step": done, "loss": running / counted, "hours": hours, **measured}
                    )
                    log("  ".join(f"{key} {value:.3f}" for key, value in history[-1].items()))
                running, counted = 0.0, 0
            last = done == steps or ended()
            if done % checkpoint_every == 0 or last or time.monotonic() - saved > PATIENCE:
                state = {
                    "weights": [w.detach() for w in weights],
                    "average": average,
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "generator": generator.get_state(),
                    "history": history,
                    "step": done,
                    "seconds": spent + time.monotonic() - started,
                }
                save_checkpoint(state, checkpoint, weights)
                saved = time.monotonic()
            if last:
                break
    for mine, kept in zip(weights, average, strict=True):
        mine.data.copy_(kept)
    denoiser.set_attn_processor(recipe.usual)
    return history


@contextlib.contextmanager
def recording(recipe: Recipe) -> Iterator[None]:
    """In evaluation mode, with the attention that is recorded: the training's is computed otherwise."""
    for network in recipe.trained:
        network.eval()
    recipe.trained[0].set_attn_processor(recipe.usual)
    try:
        yield
    finally:
        for network in recipe.trained:
            network.train()
        recipe.trained[0].set_attn_processor(recipe.plain)


@contextlib.contextmanager
def swapped(weights: list[torch.Tensor], average: list[torch.Tensor]) -> Iterator[None]:
    """Replace the weights by their moving average while the block runs."""
    kept = [w.detach().clone() for w in weights]
    for mine, mean in zip(weights, average, strict=True):
        mine.data.copy_(mean)
    try:
        yield
    finally:
        for mine, mean in zip(weights, kept, strict=True):
            mine.data.copy_(mean)


def cached_scenes(folder: Path, seed: int, count: int, threads: int, log: Callable) -> tuple:
    """The training scenes, rendered once."""
    kept_images, kept_captions = folder / "images.npy", folder / "captions.json"
    if not kept_captions.exists():
        log(f"rendering {count} scenes")
        images, captions = training_scenes(seed, count, threads)
        save_array(kept_images, images)
        write_json(kept_captions, captions)
    return np.load(kept_images), json.loads(kept_captions.read_text())


def cached_latents(
    folder: Path, vae: AutoencoderKL, images: np.ndarray, device: str, log: Callable
) -> torch.Tensor:
    """[2, N, 8, 16, 16] float16, scaled: the scenes as they are and mirrored."""
    kept = folder / "latents.npy"
    if not kept.exists():
        log("encoding the scenes")
        views = [encode(vae, view, device) for view in (images, images[:, :, ::-1].copy())]
        save_array(kept, (torch.stack(views) * vae.config.scaling_factor).half().numpy())
    return torch.from_numpy(np.load(kept))


def save_array(path: Path, array: np.ndarray) -> None:
    with write_atomically(path) as partial:
        np.save(partial, array)
