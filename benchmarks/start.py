#!/usr/bin/env python3
"""What a job costs before it works: its interpreter, and all that its program imports.

    python benchmarks/start.py --write

One after the other, in each of several rounds, each in a fresh interpreter:

- an interpreter that does nothing, and one that imports torch: the reference;
- the imports of a program of each kind: all that are written in its file, also in its functions, which
  are those of a job; of the extraction the model's family as well;
- what a person waits for: `--help`, and the command of photos without the photos.

Time is CPU time of that process, since other programs may load the machine; memory is its peak. Files are
in the page cache, and compiled, after the first of each, which is not counted.
"""

import ast
import subprocess
import sys

import torch
from side_by_side import (
    REPOSITORY,
    Measured,
    interleaved,
    keep,
    machine,
    program,
    publish,
    table,
    told,
)

from attnseg.errors import UserError, run

SCRIPTS = REPOSITORY / "scripts"
FAMILY = "import attnseg.backbones.stable_diffusion"  # load_backbone imports it by name
PROGRAMS = {
    "extract_attention": FAMILY,
    "refine_masks": "",
    "evaluate_masks": "",
    "train_segmentor": "",
    "evaluate_segmentor": "",
}
# a small process between, whose only child is what is measured: a child counts the memory of its parent
BETWEEN = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
use = resource.getrusage(resource.RUSAGE_CHILDREN)
print(use.ru_utime + use.ru_stime, use.ru_maxrss / 1024)
sys.exit(status)
"""


def main(argv: list[str] | None = None) -> int:
    args = program(__doc__).parse_args(argv)
    jobs = {name: lambda words=words: started(*words) for name, words in starts().items()}
    for job in jobs.values():
        job()
    found = {
        name: Measured([seconds for seconds, _ in values], max(peak for _, peak in values))
        for name, values in interleaved(jobs, args.rounds, "start").items()
    }
    rows = [
        {"": name, "CPU time, s": told(one.seconds), "peak memory, MiB": f"{one.peak:.0f}"}
        for name, one in found.items()
    ]
    torch.set_num_threads(1)
    about = machine(torch.device("cpu"))
    publish(
        args,
        "start",
        f"{about[0].upper()}{about[1:]}, medians of {args.rounds} interleaved rounds (least to most).\n\n"
        f"{table(rows)}",
    )
    keep(args, {"start": found})
    return 0


def starts() -> dict[str, list[str]]:
    """The arguments of each interpreter."""
    return {
        "nothing": ["-c", "pass"],
        "import torch": ["-c", "import torch"],
        **{
            f"imports of {name}": ["-c", f"{imports_of(name)}\n{more}"]
            for name, more in PROGRAMS.items()
        },
        "train_segmentor --help": ["train_segmentor.py", "--help"],
        "attnseg --help": ["-m", "attnseg", "--help"],
        "attnseg segment --help": ["-m", "attnseg", "segment", "--help"],
    }


def imports_of(name: str) -> str:
    """All import statements of a program, those at its top first."""
    tree = ast.parse((SCRIPTS / f"{name}.py").read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(map(ast.unparse, found))


def started(*words: str) -> tuple[float, float]:
    """CPU seconds and peak MiB of a fresh interpreter with these arguments."""
    command = [sys.executable, "-ISc", BETWEEN, sys.executable, *words]
    done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"python {' '.join(words)}: {done.stderr.strip().rpartition(chr(10))[2]}")
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


if __name__ == "__main__":
    sys.exit(run(main))
