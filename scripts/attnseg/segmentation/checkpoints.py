"""Checkpoints of a training: the newest that is whole, and none that could run code."""

import sys
from collections.abc import Callable
from pathlib import Path

from attnseg.segmentation import openmmlab  # noqa: F401  isort: skip

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_torch_safe_globals

from attnseg.core.finite import all_finite
from attnseg.errors import Ended
from attnseg.io.files import renamed, sha256, write_atomically


@HOOKS.register_module()
class DigestCheckpoints(Hook):
    """Write the SHA-256 of each checkpoint beside it, once it is whole. Runs after mmengine's hook.

    Weights that are not finite become no checkpoint: a training would be resumed with them.

    ended: whether SIGTERM has come; then a checkpoint is written, and the training ends. Where several
        processes train, the first does: the others wait for it, and end with it.
    """

    priority = "VERY_LOW"

    def __init__(self, ended: Callable[[], bool] = lambda: False):
        self.ended = ended

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not all_finite(checkpoint["state_dict"].values()):
            raise FloatingPointError(
                f"the weights are not finite after iteration {runner.iter + 1}"
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        if runner.rank:
            return
        ended = self.ended()
        if ended:
            save(runner, runner.iter + 1)
        seal(Path(runner.work_dir))
        if ended:
            raise Ended

    def after_val_iter(self, runner: Runner, *_: object, **__: object) -> None:
        if self.ended() and not runner.rank:
            save(runner, runner.iter)  # which counts the last iteration by now
            seal(Path(runner.work_dir))
            raise Ended


def save(runner: Runner, finished: int) -> None:
    """Write the checkpoint after `finished` iterations, unless it is there."""
    name = f"iter_{finished}.pth"
    if not Path(runner.work_dir, name).is_file():
        runner.save_checkpoint(runner.work_dir, name, meta={"iter": finished}, by_epoch=False)


def seal(folder: Path) -> None:
    """Write the digests of new checkpoints, and remove those of checkpoints that are gone."""
    for digest in folder.glob("*.sha256"):
        if not digest.with_suffix(".pth").is_file():
            digest.unlink()
    for path in folder.glob("iter_*.pth"):
        digest = path.with_suffix(".sha256")
        if not digest.is_file():
            with write_atomically(digest) as partial:
                partial.write_text(sha256(path))


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a folder, None if there is none; say which others are left out.

    mmengine's own record of the newest, `last_checkpoint`, may be empty after a kill, and holds the path
    of a folder that may have been moved since.
    """
    found = {int(path.stem.removeprefix("iter_")): path for path in folder.glob("iter_*.pth")}
    for number in sorted(found, reverse=True):
        problem = problem_with(found[number])
        if problem is None:
            return found[number]
        aside = "removed" if problem == "not whole" else renamed(found[number])
        text = f"{found[number]}: {problem}; {aside}; an earlier one is used"
        print(text, file=sys.stderr, flush=True)
        found[number].unlink(missing_ok=True)
    return None


def problem_with(path: Path) -> str | None:
    """What is wrong with a checkpoint; None if nothing is."""
    digest = path.with_suffix(".sha256")
    if not digest.is_file():
        return "not whole"
    if digest.read_text() != sha256(path):
        return "damaged"
    try:
        with torch.serialization.safe_globals(get_torch_safe_globals()):
            torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:  # torch raises many types
        return "not a checkpoint of a training"
    return None
