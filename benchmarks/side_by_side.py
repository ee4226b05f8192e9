"""What the programs beside this one share: jobs measured side by side in one process, and their tables.

A figure is the median over interleaved rounds, after a warm-up, with the least and the most. On the CPU
it is this process's CPU time, since other programs may load the machine; on a GPU the wall time, until
the GPU is done. Memory is what tensors take at a job's peak beyond what was there before: PyTorch's own
account, without the scratch memory of its libraries, in a pass that is not timed. FLOPs are counted by
torch.utils.flop_counter; a bound is their number over the faster of two measured rates, of a product of
two matrices and of a convolution.
"""

import csv
import gc
import itertools
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from attnseg.errors import UserError
from attnseg.io.files import write_atomically

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BLOCK = r"(?s)(<!-- {} -->\n).*?(<!-- end -->)"
Jobs = Mapping[str, Callable[[], object]]


@dataclass
class Measured:
    """Of a job: seconds in each round, MiB at its peak, and FLOPs."""

    seconds: list[float]
    peak: float
    flops: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def shares(self, base: "Measured") -> list[float]:
        """Its rounds as multiples of another job's, in order of size."""
        return sorted(one / other for one, other in zip(self.seconds, base.seconds, strict=True))


@torch.no_grad()
def measured(jobs: Jobs, rounds: int, device: torch.device, title: str) -> dict[str, Measured]:
    """Each job warmed up, then all of them in each round, forwards and backwards in turn."""
    found = {}
    for name, job in jobs.items():
        with FlopCounterMode(display=False) as counter:
            peak = peak_of(job, device)
        found[name] = Measured([], peak, counter.get_total_flops())
        print(f"{title}, warm-up, {name}", file=sys.stderr, flush=True)
    for turn in range(rounds):
        for name in list(jobs)[:: 1 if turn % 2 else -1]:  # neither is always after the same
            found[name].seconds.append(seconds_of(jobs[name], device))
            told = f"{title}, round {turn}, {name}: {found[name].seconds[-1]:.2f} s"
            print(told, file=sys.stderr, flush=True)
    return found


def seconds_of(job: Callable[[], object], device: torch.device) -> float:
    """CPU seconds of a job; on a GPU seconds until it is done."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def peak_of(job: Callable[[], object], device: torch.device) -> float:
    """The MiB of tensors that a job holds at its peak, by PyTorch's own account of its allocations."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        job()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        job()
    events = seen.profiler.kineto_results.events()
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return max(itertools.accumulate(sizes), default=0) / 2**20


@torch.no_grad()
def rate_of(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """FLOPs a second of a product of two matrices, and of a 3 x 3 convolution in channels-last."""
    place = {"device": device, "dtype": dtype}
    side = 8192 if device.type == "cuda" else 1024
    square = torch.randn(side, side, **place)
    image = torch.randn(1, 256, side // 8, side // 8, **place)
    image = image.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3, **place).contiguous(memory_format=torch.channels_last)

    def best(job: Callable[[], object], flops: int) -> float:
        job()
        return flops / min(seconds_of(job, device) for _ in range(5))

    return (
        best(lambda: square @ square, 2 * side**3),
        best(lambda: F.conv2d(image, weight, padding=1), 2 * 9 * 256**2 * (side // 8) ** 2),
    )


def machine(device: torch.device) -> str:
    """As the system names it, with what it computes by and PyTorch's version."""
    torch_version = f"PyTorch {torch.__version__.split('+')[0]}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {torch_version}"
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    processor = found[1].strip() if found else "an unnamed processor"
    threads = torch.get_num_threads()
    many = "one thread" if threads == 1 else f"{threads} threads"
    best = [name for name in ("amx_bf16", "avx512_bf16") if torch.cpu.get_capabilities().get(name)]
    instructions = " with ".join([torch.backends.cpu.get_cpu_capability(), *best[:1]])
    return f"{many} of {processor} ({instructions}), {torch_version}"


def spread(values: list[float], digits: int = 2) -> str:
    """The least and the most."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def write_block(name: str, text: str) -> None:
    """Put a text into the page, between its marks."""
    page, block = PAGE.read_text(), BLOCK.format(name)
    if not re.search(block, page):
        raise UserError(f"{PAGE}: no <!-- {name} --> to write at")
    with write_atomically(PAGE) as partial:
        partial.write_text(re.sub(block, lambda found: f"{found[1]}{text}{found[2]}", page))


def rounds_of(found: Mapping[str, Measured]) -> list[dict]:
    """A row for each round of each job."""
    return [
        {"job": name, "round": n, "seconds": seconds, "peak_mib": one.peak, "flops": one.flops}
        for name, one in found.items()
        for n, seconds in enumerate(one.seconds)
    ]


def write_csv(path: Path, rows: list[dict]) -> None:
    """Rows with the same keys."""
    with write_atomically(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
