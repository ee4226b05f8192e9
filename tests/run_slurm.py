#!/usr/bin/env python3
"""The workflow on a real SLURM: this machine as its one node, with two pretended GPUs.

    python tests/run_slurm.py --folder /tmp/slurm --scenes 8

Installs Debian's slurm-wlm and munge where they are missing (as root), starts them, and runs a few
scenes of the mini scale twice: here, and submitted through profiles/slurm, with a GPU a job
(`device: cpu`, `gpu_per_job: 1`). One job is killed while it runs, and the training's step gets
SIGTERM. Passes where every job went through SLURM, jobs at the same time had different GPUs, the killed
job was submitted again with more memory, the training from its checkpoint, and both runs wrote the same
numbers. Skipped, with the reason, where SLURM cannot be started.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from safetensors.torch import load_file

REPOSITORY = Path(__file__).resolve().parents[1]
ETC = Path("/etc/slurm")
MARK = "# written by attnseg's tests/run_slurm.py"
TARGET = "work/mini/evaluation/segmentors/deeplabv2_voc/val/metrics.json"
GPU_RULES = {"extract_attention", "train_segmentor", "evaluate_segmentor"}
EVERY = "%i|%T|%m|%b|%k"  # squeue: number, state, memory, gres, comment


class Skipped(Exception):
    """SLURM cannot be had here; the reason."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="for everything that is made")
    parser.add_argument("--scenes", type=int, default=8, help="training scenes, two a job")
    args = parser.parse_args()
    folder = args.folder.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: terminated"))  # ends the daemons
    try:
        install()
        with cluster(folder / "cluster") as devices_seen:
            check(folder, args.scenes, devices_seen)
    except Skipped as reason:
        print(f"skipped: {reason}")
    return 0


def check(folder: Path, scenes: int, devices_seen: Path) -> None:
    """Both runs, and what must be true of them."""
    here, there = (checkout(folder / name, scenes) for name in ("local", "submitted"))
    snakemake(here, "--cores", "2", "--resources", "gpu=2")
    for stop in (kill_one, end_training):
        threading.Thread(target=stop, args=(there,), daemon=True).start()
    log = snakemake(
        there,
        *("--profile", "profiles/slurm", "--slurm-status-command", "squeue"),
        *("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"),
    )
    submitted = jobs()
    by_rule = {}
    for job in submitted:
        by_rule.setdefault(job["rule"], []).append(job)
    expected = re.search(r"^total +(\d+)", log, re.M)
    needs(len(submitted) == int(expected[1]) + 2, f"{len(submitted)} jobs for {expected[1]} + 2")

    killed = by_rule["extract_attention"]
    memory = sorted({job["memory"] for job in killed})
    needs("Trying to restart job" in log, "no job was tried again")
    needs(len(memory) == 2 and memory[1] == 2 * memory[0], f"memory of the shards' jobs: {memory}")

    training = "".join(
        path.read_text() for path in there.glob("work/mini/logs/train_segmentor/*.log")
    )
    resumed = re.search(r"resumed after iteration (\d+)", training)
    needs(resumed is not None, f"SIGTERM left no checkpoint: {training}")

    times = device_times(devices_seen)
    for job in submitted:
        seen = {device for _, _, device in times.get(job["number"], [])}
        wanted = 1 if job["rule"] in GPU_RULES else 0
        needs(len(seen - {"none"}) == wanted, f"{job} saw the devices {seen}")
    together = shared = 0
    spans = [(*span, number) for number, found in times.items() for span in found]
    for i, (start, end, device, number) in enumerate(spans):
        for start2, end2, device2, number2 in spans[:i]:
            if number == number2 or "none" in (device, device2):
                continue
            if max(start, start2) < min(end, end2):
                together += 1
                shared += device == device2
    needs(together > 0 and shared == 0, f"{together} pairs at a time, {shared} on one device")

    compared = compare(here, there)
    print(
        f"passed: {len(submitted)} jobs submitted, {together} times two at once on distinct devices, "
        f"a killed job done again with {memory[1]} MB, a training resumed after "
        f"iteration {resumed[1]}, {compared} files equal to the local run's"
    )


def compare(here: Path, there: Path) -> int:
    """How many masks, weights and metrics of two runs are equal; all, or this ends."""
    files = [
        path
        for pattern in ("**/*.png", "**/*.safetensors", "evaluation/**/metrics.json")
        for path in sorted((here / "work/mini").glob(pattern))
    ]
    for path in files:
        other = there / path.relative_to(here)
        if path.suffix == ".safetensors":  # the order of its metadata is not fixed
            one, two = load_file(path), load_file(other)
            equal = one.keys() == two.keys() and all((one[k] == two[k]).all() for k in one)
        else:
            equal = path.read_bytes() == other.read_bytes()
        needs(equal, f"{other} differs from {path}")
    return len(files)


def needs(true: bool, what: str) -> None:
    if not true:
        sys.exit(f"error: {what}")


# -- the workflow


def checkout(folder: Path, scenes: int) -> Path:
    """A folder to run in: links to the repository, and mini VOC with few scenes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("Snakefile", "workflow", "config", "scripts", "envs", "profiles", "assets"):
        (folder / name).symlink_to(REPOSITORY / name)
    counts = {"dev": 1, "train": 2, "trainaug": scenes, "val": 2, "test": 2}
    root = "resources/mini/VOCdevkit/VOC2012"
    make = (
        "from attnseg.mini.world import voc_layout as v\n"
        "from pathlib import Path\n"
        f"counts = {counts}\n"
        "v.VOC_SPLITS = {n: (s, counts[n]) for n, (s, _) in v.VOC_SPLITS.items()}\n"
        f"v.write_voc(Path({root!r}), 0)\n"
    )
    path = {"PYTHONPATH": str(REPOSITORY / "scripts")}
    subprocess.run([sys.executable, "-c", make], cwd=folder, env=os.environ | path, check=True)
    own = {
        "device": "cpu",
        "resources": {"gpu_per_job": 1},
        "datasets": {
            "voc": {
                "source": "folder",
                "splits": {name: {"images": count} for name, count in counts.items()},
            }
        },
        "extraction": {"noises": 1, "shard_size": 2},
        "segmentors": {
            "deeplabv2_voc": {
                "iterations": 100,
                "warmup": 1,
                "batch": 2,
                "checkpoint_interval": 1000,  # none but that at SIGTERM
            }
        },
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(own))
    return folder


def snakemake(folder: Path, *arguments: str) -> str:
    """Runs the target; returns what was printed."""
    command = [
        str(Path(sys.executable).with_name("snakemake")), TARGET,
        "--configfile", "config/mini.yaml", "own.yaml", *arguments,
    ]  # fmt: skip
    started = time.time()
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    (folder / "log").write_text(done.stdout)
    if done.returncode:
        print(done.stdout[-6000:])
        sys.exit(f"error: snakemake {' '.join(arguments)} failed")
    print(f"snakemake {' '.join(arguments)}: {time.time() - started:.0f} s", flush=True)
    return done.stdout


# -- the cluster


def jobs() -> list[dict]:
    """Every job that was submitted since the cluster was started."""
    found = []
    for line in run("squeue", "--all", "--states=all", "--noheader", f"--format={EVERY}"):
        number, state, memory, gres, comment = line.strip().split("|")
        rule = re.match(r"(?:rule_)?([a-z_0-9]+?)(?:_wildcards.*|:.*)?$", comment)
        found.append(
            {"number": number, "state": state, "gres": gres, "rule": rule[1] if rule else comment}
            | {"memory": megabytes(memory)}
        )
    return found


def megabytes(text: str) -> int:
    units = {"M": 1, "G": 1024}
    return round(float(text[:-1]) * units[text[-1]]) if text[-1] in units else int(text)


def kill_one(folder: Path) -> None:
    """SIGKILL to all of the first extraction that is seen running."""
    stop_one("extract_attention", lambda: True, "--signal=KILL", "--full")


def end_training(folder: Path) -> None:
    """SIGTERM to the training's step, once it has learnt something. Not to the batch script with its srun: that
    would have SLURM kill the step at once."""
    log = folder / "work/mini/logs/train_segmentor/deeplabv2_voc.log"

    def begun() -> bool:
        return log.exists() and "iteration" in log.read_text()

    stop_one("train_segmentor", begun, "--signal=TERM")


def stop_one(rule: str, ready: Callable[[], bool], *how: str) -> None:
    """`scancel` the first job of a rule that is seen running and ready."""
    while True:
        for job in jobs():
            if job["rule"] == rule and job["state"] == "RUNNING" and ready():
                run("scancel", *how, job["number"])
                return
        time.sleep(0.2)


def device_times(path: Path) -> dict[str, list[tuple[float, float, str]]]:
    """Job number -> (start, end, device) of its tasks, as SLURM's prolog and epilog saw them."""
    started, times = {}, {}
    for line in path.read_text().splitlines():
        what, number, step, devices, moment = line.split()
        key = (number, step, devices)
        if what == "start":
            started[key] = float(moment)
        elif key in started:
            times.setdefault(number, []).append((started.pop(key), float(moment), devices))
    for (number, _, devices), moment in started.items():  # killed, the epilog with it
        times.setdefault(number, []).append((moment, moment, devices))
    return times


def install() -> None:
    """slurm-wlm and munge from Debian's archive."""
    if os.geteuid() != 0:
        raise Skipped("SLURM's daemons need root")
    if ETC.joinpath("slurm.conf").exists() and MARK not in ETC.joinpath("slurm.conf").read_text():
        raise Skipped(f"{ETC}/slurm.conf is there: this machine has a cluster of its own")
    if all(shutil.which(name) for name in ("slurmctld", "slurmd", "munged", "sbatch")):
        return
    if shutil.which("apt-get") is None:
        raise Skipped("SLURM is not installed, and there is no apt-get to install it")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["update", "--quiet"],
        ["install", "--yes", "--quiet", "--no-install-recommends", "slurm-wlm", "munge"],
    ):
        done = subprocess.run(
            ["apt-get", *command], env=environment, capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Skipped(f"SLURM cannot be installed (apt-get {command[0]}: {last})")


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Path]:
    """A running SLURM of one node; yields the file in which tasks' devices are noted."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    for name in ("gpu0", "gpu1"):  # as /dev/null: SLURM wants character devices
        try:
            os.mknod(folder / name, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except OSError as error:
            raise Skipped(f"no device files can be made here ({error.strerror})") from None
    seen = folder / "devices"
    seen.touch()
    for what, name in (("start", "prolog"), ("end", "epilog")):
        script = folder / name
        script.write_text(
            f'#!/bin/sh\necho "{what} $SLURM_JOB_ID ${{SLURM_STEP_ID:-batch}} '
            f'${{CUDA_VISIBLE_DEVICES:-none}} $(date +%s.%N)" >> {seen}\n'
        )
        script.chmod(0o755)
    host = socket.gethostname().split(".")[0]
    ETC.mkdir(exist_ok=True)
    (ETC / "gres.conf").write_text(f"{MARK}\nName=gpu File={folder}/gpu[0-1]\n")
    # More processors and memory than there are: jobs ask for those of a cluster's node.
    (ETC / "slurm.conf").write_text(
        f"""{MARK}
ClusterName=attnseg
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/prolog
TaskEpilog={folder}/epilog
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
MpiDefault=none
MinJobAge=86400
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=1000000 Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES State=UP
PartitionName=gpu Nodes={host} State=UP
"""
    )
    with contextlib.ExitStack() as running:
        running.callback(lambda: [(ETC / n).unlink() for n in ("slurm.conf", "gres.conf")])
        if subprocess.run(["munge", "-n"], capture_output=True).returncode:
            Path("/run/munge").mkdir(exist_ok=True)
            shutil.chown("/run/munge", "munge", "munge")
            daemon(running, "runuser", "-u", "munge", "--", "munged", "--foreground", "--force")
            wait_for("munge does not start", "munge", "-n")
        daemon(running, "slurmctld", "-D")
        daemon(running, "slurmd", "-D")
        wait_for(f"no node is idle: see {folder}/*.log", "sinfo", "-h", "-t", "idle", text=host)
        running.callback(cancel_all)
        yield seen


def cancel_all() -> None:
    """Jobs outlive SLURM's daemons: end them before."""
    subprocess.run(["scancel", "--full", "--signal=KILL", "--user=root"], capture_output=True)
    until = time.time() + 20
    while time.time() < until and run("squeue", "--noheader"):
        subprocess.run(["scancel", "--user=root"], capture_output=True)
        time.sleep(0.5)


def daemon(running: contextlib.ExitStack, *command: str) -> None:
    """A process that ends with `running`."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end() -> None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()

    running.callback(end)


def wait_for(problem: str, *command: str, text: str = "") -> None:
    """Until a command succeeds and prints `text`."""
    until = time.time() + 60
    while time.time() < until:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0 and text in done.stdout:
            return
        time.sleep(0.3)
    raise Skipped(problem)


def run(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


if __name__ == "__main__":
    sys.exit(main())
