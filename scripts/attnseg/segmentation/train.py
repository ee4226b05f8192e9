"""Train a segmentor on masks with mmengine's Runner."""

import os
import shutil
import signal
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnseg.segmentation import openmmlab  # noqa: F401  isort: skip

import mmengine.device.utils
import torch
import torch.distributed
from mmengine.config import Config
from mmengine.runner import Runner

from attnseg.core.finite import all_finite
from attnseg.errors import UserError, sigterm_waits
from attnseg.io.files import parameters_hash, sha256
from attnseg.segmentation import checkpoints
from attnseg.segmentation.data import Pairs
from attnseg.segmentation.loading import bounds
from attnseg.segmentation.model import (
    load_pretrained,
    model_config,
    parameter_groups,
    save_segmentor,
)
from attnseg.settings import Segmentor


def train(
    settings: Segmentor,
    pairs: Pairs,
    classes: Sequence[str],
    output: Path,
    *,
    device: str = "cpu",
    validation: Pairs | None = None,
    about: dict | None = None,
) -> None:
    """Train a segmentor and write its final weights.

    Checkpoints are kept, until the weights are written, in a folder beside `output` whose name is a
    hash of everything that affects the result. The same call thus resumes an interrupted training
    and yields the same weights; another one starts from scratch. SIGTERM ends it after an iteration,
    with a checkpoint.

    The processes of torchrun share each batch: an iteration has the same images and augmentations for
    any number of processes.

    Args:
        settings: of the network and its training.
        pairs: the training photos and masks.
        classes: names, background first where there is one.
        output: a safetensors file.
        device: cpu or cuda.
        validation: evaluated and printed during the training; does not affect the result.
        about: further metadata of the weights.

    Raises:
        UserError: if the loss is not finite or memory runs out, or if it needs a background.
    """
    output = Path(output)
    if settings.loss == "balanced" and classes[0] != "background":
        raise UserError(f"training of {output}: {classes[0]} is no background; set `loss: plain`")
    # mmengine reads the device only from here
    mmengine.device.utils.DEVICE = device
    processes = _join_processes(device)
    identity = {
        "settings": settings.record(),
        "masks": pairs.fingerprint(),
        "classes": list(classes),
        "pretrained": pretrained_hash(settings.pretrained),
    }
    folder = output.parent / f"training-{parameters_hash(identity)}"
    options = runner_options(settings, pairs, classes, folder, device, validation, processes)
    runner = Runner(**options)
    model = runner.model.module if processes > 1 else runner.model
    if settings.pretrained is not None:
        model.init_weights()  # makes the Runner's later call a no-op, which would overwrite them
        load_pretrained(model, settings.pretrained)
    try:
        with sigterm_waits() as ended:
            runner.register_hook(checkpoints.DigestCheckpoints(ended))
            runner.train()
        if not all_finite(model.state_dict().values()):
            raise FloatingPointError("the weights are not finite at the end")
    except UserError as problem:  # of a process that reads photos it ends in, after its traceback
        raise UserError(
            str(problem).strip().splitlines()[-1].rpartition("UserError: ")[2]
        ) from None
    except FloatingPointError as problem:
        raise UserError(f"training of {output}: {problem}; lower `lr`") from None
    except torch.OutOfMemoryError:
        images = settings.images_per_update // processes
        raise UserError(
            f"training of {output}: out of memory with {images} images on each GPU; use more GPUs, or "
            "lower `batch`"
        ) from None
    if runner.rank == 0:
        save_segmentor(output, model, settings, classes=list(classes), **(about or {}))
        shutil.rmtree(folder, ignore_errors=True)
    if processes > 1:
        torch.distributed.destroy_process_group()


def pretrained_hash(weights: str | None) -> str | None:
    """SHA-256 of a file of weights; None for an address or without weights."""
    return sha256(weights) if weights is not None and os.path.isfile(weights) else None


def _join_processes(device: str) -> int:
    """Join the processes of torchrun, if any; return their number."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    return processes


def runner_options(
    settings: Segmentor,
    pairs: Pairs,
    classes: Sequence[str],
    folder: Path,
    device: str,
    validation: Pairs | None,
    processes: int = 1,
) -> dict:
    """Arguments of mmengine's Runner.

    A dict, not a Config, in which mmengine would spend seconds on pretty-printing every path.
    """
    s = settings
    load = [{"type": "LoadPhoto", "turn": pairs.turned}, {"type": "LoadAnnotations"}]
    pack = [{"type": "PackSegInputs"}]
    model = model_config(s, len(classes))
    load_training, pack_training = load, pack
    hooks = [
        {"type": "SeedEachIteration", "seed": s.seed},
        {"type": "Progress"},
    ]
    checkpoint = checkpoints.newest(folder)
    if s.learner == "beco":
        load_training = [*load, {"type": "LoadReliability"}]
        pack_training = [{"type": "PackWithReliability"}]
        hooks.append({"type": "CountIterations"})
        model |= {
            "warmup_iterations": s.beco_warmup,
            "first_foreground": int(classes[0] == "background"),
        }
    cropped: list[dict] = [
        {
            "type": "ResizeByOneOf",
            "factors": s.scales,
            "short_side": s.short_side,
            "continuous": s.continuous_scales,
        },
        {"type": "RandomCrop", "crop_size": (s.crop, s.crop), "cat_max_ratio": s.cat_max_ratio},
    ]
    if s.crop_area is not None:
        cropped = [{"type": "CropByArea", "area": s.crop_area, "size": s.crop}]
    augment: list[dict] = [
        *cropped,
        {"type": "RandomFlip", "prob": 0.5},
        *([{"type": "PhotoMetricDistortion"}] if s.photometric else []),
    ]
    optimizer: dict[str, Any] = {"lr": s.lr, "weight_decay": s.weight_decay}
    if s.optimizer == "sgd":
        optimizer |= {"type": "SGD", "momentum": s.momentum}
    else:
        optimizer |= {"type": "AdamW", "betas": (s.momentum, 0.999), "fused": True}
    schedule = [
        {
            "type": "PolyLR",
            "power": s.poly_power,
            "eta_min": s.min_lr,
            "begin": s.warmup,
            "end": s.iterations + 1,  # otherwise mmengine reaches min_lr one iteration early
            "by_epoch": False,
        }
    ]
    if s.warmup:
        warmup = {"type": "LinearLR", "start_factor": 0.01, "begin": 0, "end": s.warmup}
        schedule.insert(0, warmup | {"by_epoch": False})
    options = {
        "default_scope": "mmseg",
        "work_dir": str(folder),
        "experiment_name": uuid.uuid4().hex,  # mmengine has globals by this name
        "model": model,
        "train_dataloader": {
            "batch_size": s.images_per_update // processes,
            "num_workers": s.workers,
            "worker_init_fn": {"type": wait_for_the_training},
            "persistent_workers": s.workers > 0,
            "drop_last": True,
            "sampler": {"type": "NumberedSampler", "shuffle": True, "seed": s.seed},
            "dataset": _dataset(pairs, classes, [*load_training, *augment, *pack_training], s.seed),
        },
        "train_cfg": {
            "type": "IterBasedTrainLoop",
            "max_iters": s.iterations,
            "val_interval": max(1, s.iterations // 4),
        },
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": optimizer,
            "paramwise_cfg": {"custom_keys": parameter_groups(s)},
        },
        "param_scheduler": schedule,
        "resume": checkpoint is not None,
        "load_from": checkpoint and str(checkpoint),
        "randomness": {"seed": s.seed},
        "log_level": "ERROR",
        "default_hooks": {
            "timer": None,
            "logger": None,
            "checkpoint": {
                "type": "CheckpointHook",
                "by_epoch": False,
                "interval": s.checkpoint_interval,
                "max_keep_ckpts": 2,  # so that one is complete while the other is written
                "save_last": False,
            },
        },
        "custom_hooks": hooks,
        "visualizer": {"type": "Visualizer", "vis_backends": []},
    }
    if processes > 1:
        local = [int(os.environ["LOCAL_RANK"])] if device == "cuda" else None
        options["launcher"] = "pytorch"
        options["cfg"] = Config(
            {
                "model_wrapper_cfg": {"broadcast_buffers": False, "device_ids": local},
                # normalises over the whole batch; not available on a CPU
                "sync_bn": "torch" if device == "cuda" else None,
            }
        )
    if validation is not None:
        resize: list[dict] = []
        if s.short_side is not None:
            resize = [{"type": "Resize", "scale": bounds(s.short_side), "keep_ratio": True}]
        test_pipeline = [load[0], *resize, load[1], pack[0]]
        options |= {
            "val_dataloader": {
                "batch_size": 1,  # photos differ in size
                "num_workers": s.workers,
                "worker_init_fn": {"type": wait_for_the_training},
                "sampler": {"type": "DefaultSampler", "shuffle": False},
                "dataset": _dataset(validation, classes, test_pipeline, s.seed, test_mode=True),
            },
            "val_cfg": {"type": "ValLoop"},
            "val_evaluator": {"type": "IoUMetric", "iou_metrics": ["mIoU"]},
        }
    return options


def wait_for_the_training(_: int) -> None:
    """A process that reads photos outlives SIGTERM: the training ends it, after a checkpoint."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _dataset(
    pairs: Pairs, classes: Sequence[str], pipeline: list, seed: int, test_mode: bool = False
) -> dict:
    columns = [pairs.photos, pairs.masks, *([pairs.reliabilities] if pairs.reliabilities else [])]
    return {
        "type": "PhotosAndMasks",
        "pairs": [tuple(map(str, paths)) for paths in zip(*columns, strict=True)],
        "seed": seed,
        "metainfo": {"classes": list(classes)},
        "pipeline": pipeline,
        "test_mode": test_mode,
    }
