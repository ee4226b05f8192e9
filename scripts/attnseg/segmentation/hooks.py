"""What a training does between its iterations: seeds, progress; registered under the class names."""

import math
from typing import Any

from attnseg.segmentation import openmmlab  # noqa: F401  isort: skip

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor
from tqdm import tqdm


@HOOKS.register_module()
class SeedEachIteration(Hook):
    """Seed torch in each iteration, so that dropout does not depend on interruptions either."""

    def __init__(self, seed: int):
        self.seed = seed

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        state = np.random.SeedSequence([self.seed, batch_idx, 1]).generate_state(1)
        torch.manual_seed(int(state[0]))


@HOOKS.register_module()
class Progress(Hook):
    """Show progress: a bar on a terminal, lines in a log. Raise if the loss is not finite."""

    priority = "VERY_LOW"

    def __init__(self, lines: int = 20):
        self.lines = lines

    def before_train(self, runner: Runner) -> None:
        self.first = runner.rank == 0  # of several processes, the one that prints
        if runner.iter and self.first:
            print(f"resumed after iteration {runner.iter}", flush=True)
        self.losses: list[Tensor] = []
        self.bar = tqdm(
            total=runner.max_iters,
            initial=runner.iter,
            desc="train",
            unit="it",
            disable=None if self.first else True,
        )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: Any = None
    ) -> None:
        self.losses.append(outputs["loss"].detach())
        self.bar.update()
        done = batch_idx + 1
        if done % max(1, runner.max_iters // self.lines):
            return
        loss = self.mean_loss(done)
        rates = [group["lr"] for group in runner.optim_wrapper.optimizer.param_groups]
        line = f"loss {loss:.4f}, learning rate {min(rates):.3g} to {max(rates):.3g}"
        if not self.first:
            return
        if self.bar.disable:
            print(f"iteration {done} of {runner.max_iters}: {line}", flush=True)
        else:
            self.bar.set_postfix_str(line)

    def mean_loss(self, done: int) -> float:
        """Mean loss since the last call; waits for the device."""
        loss = float(torch.stack(self.losses).mean())
        self.losses.clear()
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} near iteration {done}")
        return loss

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if metrics and self.first:
            tqdm.write(f"iteration {runner.iter}: validation mIoU {metrics['mIoU']:.1f}")

    def after_train(self, runner: Runner) -> None:
        self.bar.close()
        if self.losses:
            self.mean_loss(runner.max_iters)
