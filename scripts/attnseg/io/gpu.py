"""Choice of the device, and exclusive GPUs for the processes of one machine.

`snakemake --resources gpu=2` runs two jobs at a time but assigns them no GPU. A lease does: there is
one lock file per device, held by `flock`, so that the kernel releases it however the process dies.
If a scheduler such as SLURM has set CUDA_VISIBLE_DEVICES to as many as a job needs, that is used and
nothing is locked; of a longer list, such as a person's, the job takes what is free.
"""

import fcntl
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from attnseg.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
# Not in TMPDIR, which may differ from job to job.
LOCKS = "/tmp/attnseg-gpus"
_claimed = ExitStack()  # never closed: the locks end with the process
HOW_WITHOUT = "configure `device: cpu` and `resources: {gpu_per_job: 0}` to compute without a GPU"


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`: auto (a GPU if there is one), cpu or cuda.

    Raises:
        UserError: for cuda if PyTorch sees no GPU, and for another name.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {name!r}: choose auto, cpu or cuda")
    if name == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if name == "auto":
        return torch.device("cpu")
    raise UserError(f"a GPU is needed and {_why_none()}; {HOW_WITHOUT}")


def pick_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where the GPU supports it, else float16; float32 on a CPU."""
    if torch.device(device).type != "cuda":
        return torch.float32
    # Older GPUs emulate bfloat16, slower than float32.
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def training_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where the GPU supports it, else float32, since float16 would need a loss scaler."""
    dtype = pick_dtype(device)
    return torch.float32 if dtype == torch.float16 else dtype


def claim_device(name: str = "auto", count: int = 1) -> torch.device:
    """Like `pick_device`, with `count` GPUs reserved for this process until it ends.

    Call this before CUDA is first used.
    """
    wanted = 0 if name == "cpu" or (name == "auto" and not devices()) else count
    _claimed.enter_context(lease(wanted))
    return pick_device(name)


@contextmanager
def lease(count: int = 1, *, wait: float = 0.2) -> Iterator[list[str]]:
    """Reserve `count` GPUs and list them in CUDA_VISIBLE_DEVICES while the block runs.

    Enter it before CUDA is first used: a process reads the variable once. If the variable is already
    set, its devices are yielded unchanged, or if it lists more than `count`, reserved among these.
    While too few devices are free, this retries about every `wait` seconds. It takes all or none, so that two processes never wait for each other.

    Raises:
        UserError: if the machine has fewer than `count` GPUs.
    """
    listed = os.environ.get(VISIBLE)
    given = [device.strip() for device in (listed or "").split(",") if device.strip()]
    if count == 0 or (listed is not None and len(given) <= count):  # a scheduler's choice
        if given and len(given) < count:
            raise UserError(
                f"{count} GPUs requested and {VISIBLE} lists {len(given)}; {HOW_WITHOUT}"
            )
        yield given
        return
    every = by_uuid(given) if given else devices()
    if len(every) < count:
        have = f"this machine has {len(every)}" if every else _why_none()
        raise UserError(f"{count} GPU{'s' * (count > 1)} requested and {have}; {HOW_WITHOUT}")
    with ExitStack() as held:
        mine = _try_lease(every, count, held)
        if not mine:
            print(
                f"waiting for {count} of {len(every)} GPUs to be free", file=sys.stderr, flush=True
            )
        while not mine:
            time.sleep(wait * random.uniform(0.5, 1.5))
            mine = _try_lease(every, count, held)
        os.environ[VISIBLE] = ",".join(mine)
        try:
            yield mine
        finally:
            if listed is None:
                os.environ.pop(VISIBLE, None)
            else:
                os.environ[VISIBLE] = listed


def devices() -> list[str]:
    """Names of this machine's GPUs as CUDA_VISIBLE_DEVICES takes them; does not initialise CUDA.

    The variable ATTNSEG_GPUS, a number or comma-separated names, overrides them.
    """
    return [name for parts in _gpus() for name in parts]


def _gpus() -> list[list[str]]:
    """The names of each GPU: its own, or those of its MIG instances."""
    override = os.environ.get("ATTNSEG_GPUS")
    if override is not None:
        names = [name.strip() for name in override.split(",") if name.strip()]
        if override.strip().isdigit():
            names = [str(i) for i in range(int(override))]
        return [[name] for name in names]
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_listing(listing)


def by_uuid(names: list[str]) -> list[str]:
    """The same devices by UUID, each once, so that locks do not depend on how they are called.

    Numbers are positions in nvidia-smi's listing, as with CUDA_DEVICE_ORDER=PCI_BUS_ID, and mean the
    first instance of a partitioned GPU. As CUDA does, a UUID's beginning is taken for it if it is one's
    alone.
    """
    gpus = _gpus()
    known = {str(number): parts[0] for number, parts in enumerate(gpus)}
    every = [uuid for parts in gpus for uuid in parts]
    for name in names:
        begun = [uuid for uuid in every if uuid.startswith(name)]
        if name not in known and len(begun) == 1:
            known[name] = begun[0]
    return list(dict.fromkeys(known.get(name, name) for name in names))


def parse_listing(listing: str) -> list[list[str]]:
    """Each GPU's UUID in the output of ``nvidia-smi -L``; for a partitioned one those of its MIG instances.

    Not numbers: CUDA orders GPUs by speed, nvidia-smi by bus.
    """
    found: list[list[str]] = []
    for line in listing.splitlines():
        match = re.search(r"UUID: ((?:GPU|MIG)-[^)\s]+)", line)
        if match is None:
            continue
        if match[1].startswith("GPU-"):
            found.append([match[1]])
        elif found:
            if found[-1][0].startswith("GPU-"):
                found[-1].clear()
            found[-1].append(match[1])
    return found


def _try_lease(every: list[str], count: int, held: ExitStack) -> list[str]:
    """`count` devices, locked until `held` closes; none if fewer are free."""
    with ExitStack() as attempt:
        # One process at a time, so that two never each hold part of what the other needs.
        if not _lock("choosing", attempt, block=True):
            return []
        taken: list[str] = []
        kept = ExitStack()
        for device in every:
            if len(taken) < count and _lock(device, kept):
                taken.append(device)
        if len(taken) < count:
            kept.close()
            return []
        held.push(kept)
        return taken


def _lock(name: str, stack: ExitStack, block: bool = False) -> bool:
    """Try to hold the lock file called `name` until `stack` closes; True on success."""
    folder = Path(os.environ.get("ATTNSEG_GPU_LOCKS", LOCKS))
    path = folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)}.lock"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o1777)  # shared with the machine's other users
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; remove it or set ATTNSEG_GPU_LOCKS to a folder"
        ) from None
    stack.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if block else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _why_none() -> str:
    if os.environ.get(VISIBLE) == "":
        return f"{VISIBLE} is empty"
    if devices() and not torch.cuda.is_available():
        build = torch.version.cuda or "none (a CPU build)"
        return f"PyTorch cannot use this machine's (its CUDA: {build})"
    return "this machine has none"
