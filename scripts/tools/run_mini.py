#!/usr/bin/env python3
"""Run a target of the mini scale, and print the progress and the remaining time.

    python scripts/tools/run_mini.py all
    python scripts/tools/run_mini.py all_mug19 --config targets=all

It starts `snakemake TARGET --cores all --configfile config/mini.yaml` with the options given after the
target, prints each table the moment it is there, and keeps Snakemake's own words in
work/mini/logs/snakemake.log. Tables that an earlier run has made are printed at the end.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

try:
    from attnseg.errors import run
except ModuleNotFoundError:  # run from its own folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from attnseg.errors import run
from attnseg.results.__main__ import printed
from attnseg.results.costs import read_costs

RESULTS, LOG = Path("results/mini"), Path("work/mini/logs/snakemake.log")
# CPU seconds of a job; rescaled to this machine during the run
SECONDS = read_costs()["mini"]
OTHERS = SECONDS["other"]
QUIET = (
    20  # seconds between two lines about the progress; on a terminal one line is kept up to date
)
PASSED_ON = re.compile(r"(error|note|failed|another run)\b")


class Progress:
    """The remaining jobs, from Snakemake's output, and the time that they will take."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.left: Counter[str] = Counter()
        self.total = 0
        self.done = 0.0  # of SECONDS
        self.last = self.started  # when a job was finished

    def read(self, line: str) -> None:
        if planned := re.fullmatch(r"(\w+) +(\d+)", line):
            rule, count = planned.group(1), int(planned.group(2))
            if rule != "total" and self.left.total() == self.total:  # the table comes first
                self.left[rule] += count
                self.total += count
        elif finished := re.match(r"Finished jobid: \d+ \(Rule: (\w+)\)", line):
            self.left[finished.group(1)] -= 1
            self.done += SECONDS.get(finished.group(1), OTHERS)
            self.last = time.monotonic()

    def text(self) -> str:
        now = time.monotonic()
        jobs = self.total - self.left.total()
        line = f"[{minutes(now - self.started)}] {jobs} of {self.total} jobs done"
        ahead = sum(count * SECONDS.get(rule, OTHERS) for rule, count in self.left.items())
        if self.done < 10 or not ahead:
            return line
        left = (self.last - self.started) * ahead / self.done - (now - self.last)
        return f"{line}, about {minutes(left)} left" if left > 5 else f"{line}, nearly there"


def say(progress: Progress, over: threading.Event) -> None:
    """Print the progress until `over` is set."""
    terminal = sys.stdout.isatty()
    while not over.wait(1 if terminal else QUIET):
        if progress.total:
            text = progress.text()
            print(f"\r{text}\033[K" if terminal else f"{text}\n", end="", flush=True)


def minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", help="a rule of the Snakefile, or a file below results/mini")
    args, options = parser.parse_known_args(argv)
    started = time.monotonic()
    columns = str(shutil.get_terminal_size((100, 24)).columns)
    LOG.parent.mkdir(parents=True, exist_ok=True)
    command = ["snakemake", args.target, "--cores", "all", "--configfile", "config/mini.yaml"]
    progress, over, failure, listed = Progress(), threading.Event(), [], False
    with (
        open(LOG, "w") as log,
        subprocess.Popen(
            [*command, *options],
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "COLUMNS": columns},
        ) as snakemake,
    ):
        threading.Thread(target=say, args=(progress, over), daemon=True).start()
        for line in snakemake.stderr or ():
            log.write(line)
            log.flush()
            line = line.rstrip()
            progress.read(line)
            if PASSED_ON.match(line):
                print(line, file=sys.stderr, flush=True)
                listed |= line.startswith("failed")
            elif re.match(r"\w*(Error|Exception)\b", line):
                failure = [line]
            elif failure:
                failure.append(line)
    over.set()
    print(("\r\033[K" if sys.stdout.isatty() else "") + progress.text(), flush=True)
    if snakemake.returncode:
        if not listed:  # no job has failed, but Snakemake
            print("\n".join(failure), file=sys.stderr)
        print(f"error: snakemake ended with status {snakemake.returncode}; its log is {LOG}", file=sys.stderr)  # fmt: skip
        return 1
    for table in sorted([*RESULTS.glob("*table*.csv"), *RESULTS.glob("claims.csv")]):
        if table.stat().st_mtime < started or table.stem == "claims":
            print(f"\n{printed(str(table), int(columns))}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
