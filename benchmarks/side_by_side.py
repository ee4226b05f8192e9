"""What the programs beside this one share: jobs measured side by side in one run, and where figures go.

A figure is the median over interleaved rounds, after a warm-up, with the least and the most. On the CPU
it is this process's CPU time, since other programs may load the machine; on a GPU the wall time, until
the GPU is done. Memory is what tensors take at a job's peak beyond what was there before: PyTorch's own
account, without the scratch memory of its libraries, in a pass that is not timed. FLOPs are counted by
torch.utils.flop_counter; a bound is their number over the faster of two measured rates, of a product of
two matrices and of a convolution.

Each program prints its tables. --write puts them into docs/performance.md, --csv every round of every job
into a file, --plot their times into a picture.
"""

import argparse
import csv
import gc
import itertools
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "scripts"))  # for the programs, too

from attnseg.errors import UserError  # noqa: E402
from attnseg.io.files import write_atomically  # noqa: E402

PAGE = REPOSITORY / "docs" / "performance.md"
BLOCK = r"(?s)(<!-- {} -->\n).*?(<!-- end -->)"
BLUE, VERMILION = "#0072b2", "#d55e00"  # of the palette of Okabe and Ito
Jobs = Mapping[str, Callable[[], object]]
T = TypeVar("T")


def program(description: str, rounds: int = 5, network: bool = False) -> argparse.ArgumentParser:
    """A parser with the flags that the programs share; `network`: of those that may use a GPU."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=positive, default=rounds, help=f"(default: {rounds})")
    parser.add_argument("--write", action="store_true", help="put it into docs/performance.md")
    parser.add_argument("--csv", type=Path, help="write every round of every job into this file")
    parser.add_argument("--plot", type=Path, help="draw the times into this file (.svg, .png)")
    if network:
        parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        parser.add_argument("--threads", type=positive, default=1)
    return parser


def positive(word: str) -> int:
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError(f"{word} is not 1 or more")
    return number


@dataclass
class Measured:
    """Of a job: seconds in each round, MiB at its peak, and FLOPs where they are counted."""

    seconds: list[float]
    peak: float
    flops: int = 0

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
    timed = {name: lambda job=job: seconds_of(job, device) for name, job in jobs.items()}
    for name, seconds in interleaved(timed, rounds, title).items():
        found[name].seconds = seconds
    return found


def interleaved(jobs: Mapping[str, Callable[[], T]], rounds: int, title: str) -> dict[str, list[T]]:
    """What each job returns in each round, all of them in each, forwards and backwards in turn."""
    found: dict[str, list[T]] = {name: [] for name in jobs}
    for turn in range(rounds):
        for name in list(jobs)[:: 1 if turn % 2 else -1]:  # neither is always after the same
            found[name].append(jobs[name]())
            print(f"{title}, round {turn}, {name}: {found[name][-1]}", file=sys.stderr, flush=True)
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
def rates_of(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
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


def in_words(rates: tuple[float, float]) -> str:
    return "{:.0f} GFLOP/s in products of matrices and {:.0f} in convolutions".format(
        *(rate / 1e9 for rate in rates)
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


def spread(values: Iterable[float], form: str = ".2f") -> str:
    """The least and the most."""
    values = list(values)
    return f"{min(values):{form}} to {max(values):{form}}"


def told(values: Iterable[float], form: str = ".2f") -> str:
    """The median, with the least and the most where there are several."""
    values = list(values)
    middle = f"{statistics.median(values):{form}}"
    return middle if len(values) == 1 else f"{middle} ({spread(values, form)})"


def verdict(value: float, bound: str, target: float) -> str:
    """Of a value and a target that is "at most" or "at least" so much."""
    short = value / target - 1 if bound == "at most" else 1 - value / target
    return "met" if short <= 0 else f"missed by {short:.0%}"


def model_of(size: str, folder: Path, *flags: str) -> Path:
    """The miniature's folder, or one of Stable Diffusion 1.4's configuration with random weights."""
    if size == "mini":
        return REPOSITORY / "assets/mini_sd"
    make = REPOSITORY / "scripts/tools/make_random_sd.py"
    made = folder / "sd"
    subprocess.run([sys.executable, str(make), *flags, "--output", str(made)], check=True)
    return made


def table(rows: list[dict[str, object]]) -> str:
    """A table of rows with the same keys."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def costs(found: Mapping[str, Measured], rates: Mapping[str, float]) -> str:
    """A table of jobs, each beside its bound by a rate of FLOPs a second."""
    return table(
        [
            {
                "": name,
                "seconds (least to most)": told(one.seconds, ".3g"),
                "TFLOP": f"{one.flops / 1e12:.3g}",
                "bound, s": f"{one.flops / rates[name]:.3g}",
                "of the bound": f"{one.flops / rates[name] / one.median:.0%}",
                "memory, MiB": f"{one.peak:.0f}",
            }
            for name, one in found.items()
        ]
    )


def publish(args: argparse.Namespace, name: str, text: str) -> None:
    """Print what the page shows between the marks of this name and, with --write, put it there."""
    print(f"{name}: {text}", flush=True)
    if args.write:
        write_block(name, text)


def write_block(name: str, text: str) -> None:
    page, block = PAGE.read_text(), BLOCK.format(name)
    if not re.search(block, page):
        raise UserError(f"{PAGE}: no <!-- {name} --> to write at")
    with write_atomically(PAGE) as partial:
        partial.write_text(re.sub(block, lambda found: f"{found[1]}{text}{found[2]}", page))


def keep(args: argparse.Namespace, found: Mapping[str, Mapping[str, Measured]]) -> None:
    """With --csv and --plot, write the rounds of each table's jobs."""
    if args.csv:
        write_csv(
            args.csv,
            [
                {"table": name, "job": job, "round": n, "seconds": seconds}
                | {"peak_mib": one.peak, "flops": one.flops}
                for name, jobs in found.items()
                for job, one in jobs.items()
                for n, seconds in enumerate(one.seconds)
            ],
        )
    if args.plot:
        with write_atomically(args.plot) as partial:
            draw(found, partial)


def draw(found: Mapping[str, Mapping[str, Measured]], path: Path) -> None:
    """For each table a row of its jobs: the median, and a line from the least to the most."""
    from matplotlib.figure import Figure

    heights = [len(jobs) + 2 for jobs in found.values()]
    figure = Figure((8, 0.3 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(found), squeeze=False, height_ratios=heights)
    for axis, (name, jobs) in zip(axes.flat, found.items(), strict=True):
        for place, one in enumerate(jobs.values()):
            axis.plot([min(one.seconds), max(one.seconds)], [place, place], color=BLUE)
            axis.plot(one.median, place, "o", color=BLUE)
        axis.set_yticks(range(len(jobs)), jobs)
        axis.set_ylim(len(jobs) - 0.5, -0.5)
        axis.set_xlim(left=0)
        axis.set(title=name, xlabel="seconds, least to most")
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path)


def write_csv(path: Path, rows: list[dict]) -> None:
    """Rows with the same keys."""
    with write_atomically(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
