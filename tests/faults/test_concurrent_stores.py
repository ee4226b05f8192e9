"""Several processes on one store, one download, one model, and the GPUs of one machine."""

import functools
import http.server
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from attnseg.datasets.images import PALETTE, write_mask
from attnseg.errors import UserError
from attnseg.io import gpu
from attnseg.io.downloads import download
from attnseg.io.files import sha256
from attnseg.io.items import write_items
from attnseg.io.shard_parts import build_shard
from attnseg.io.shards import problem_with, read_arrays

FORK = multiprocessing.get_context("fork")
SAMPLES = [f"s{i}" for i in range(6)]


def together(jobs: list[Callable[[], object]]) -> None:
    """Run jobs in a process each, started at the same moment; none may fail."""
    start = FORK.Barrier(len(jobs))

    def one(job: Callable[[], object]) -> None:
        torch.set_num_threads(1)
        start.wait(60)
        job()

    processes = [FORK.Process(target=one, args=(job,)) for job in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(jobs)


def work(log: Path, part: list[str]) -> tuple[dict, list[dict]]:
    with open(log, "a") as file:
        file.write(f"{os.getpid()} {' '.join(part)}\n")
    time.sleep(0.02)
    tensors = {f"{name}/cross": torch.full((1, 2, 2), float(name[1:])).half() for name in part}
    return tensors, [{"id": name, "classes": ["dog"], "skipped": []} for name in part]


def test_ten_processes_make_one_shard_once(tmp_path, record_property):
    record_property("hostile", 10)
    log, shard = tmp_path / "log", tmp_path / "store" / "shard-00000.safetensors"
    alone = tmp_path / "alone" / shard.name
    build_shard(alone, SAMPLES, functools.partial(work, tmp_path / "other"), {}, 2)
    job = functools.partial(build_shard, shard, SAMPLES, functools.partial(work, log), {}, 2)
    together([job] * 10)
    assert problem_with(shard, {}) is None and shard.read_bytes() == alone.read_bytes()
    assert shard.with_suffix(".json").read_bytes() == alone.with_suffix(".json").read_bytes()
    assert sorted(path.name for path in shard.parent.iterdir()) == ["shard-00000.json", shard.name]
    made = log.read_text().split("\n")[:-1]
    assert len(made) == 3 and len({line.split()[0] for line in made}) == 1  # by one of them


def test_ten_processes_make_ten_shards_of_one_store(tmp_path, record_property):
    record_property("hostile", 10)
    store = tmp_path / "store"
    together([
        functools.partial(
            build_shard, store / f"shard-{i:05d}.safetensors", [f"s{10 * i + j}" for j in range(4)],
            functools.partial(work, tmp_path / "log"), {"shard": i}, 1,
        )
        for i in range(10)
    ])  # fmt: skip
    found = {item["id"]: float(maps["cross"].mean()) for item, maps in read_arrays(store)}
    assert found == {f"s{10 * i + j}": 10 * i + j for i in range(10) for j in range(4)}
    assert len(list(store.iterdir())) == 20


def mask(folder: Path, name: str) -> dict:
    path = folder / f"{name}.png"
    if not path.exists():
        write_mask(path, np.full((8, 8), int(name[1:]), np.uint8), PALETTE)
    return {"id": name}


def test_ten_processes_refine_into_one_folder(tmp_path, record_property):
    """As two runs by hand of the same program: each file is whole whenever it is there."""
    record_property("hostile", 10)
    folder = tmp_path / "masks"
    job = functools.partial(mask, folder)
    together([functools.partial(write_items, [folder], {"a": 1}, job, SAMPLES)] * 10)
    told = json.loads((folder / "digests.json").read_text())
    assert told == {f"{n}.png": sha256(folder / f"{n}.png") for n in SAMPLES}
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


CONTENT = bytes(range(256)) * 4000


def test_two_users_of_one_cache_download_a_file_once(tmp_path, capfd, record_property):
    record_property("hostile", 4)
    asked = []

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Range"))
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            for at in range(0, len(CONTENT), 100_000):
                self.wfile.write(CONTENT[at : at + 100_000])
                time.sleep(0.03)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url, path, lock = (
        f"http://127.0.0.1:{server.server_port}/a.bin",
        tmp_path / "cache" / "a.bin",
        tmp_path / "lock.json",
    )
    try:
        together([functools.partial(download, url, path, lock=lock)] * 4)
    finally:
        server.shutdown()
        server.server_close()
    assert path.read_bytes() == CONTENT and asked == [None]
    assert [entry.name for entry in path.parent.iterdir()] == ["a.bin"]
    assert json.loads(lock.read_text())[url]["sha256"] == sha256(path)
    assert "a.bin.part: another process downloads it: waiting" in capfd.readouterr().err


def test_a_model_is_read_by_who_may_not_write_it(tiny_sd, record_property):
    """Of another user's cache: nothing is written beside it, and no lock is needed."""
    record_property("hostile", 2)
    from attnseg.backbones import load_backbone

    def state() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in [tiny_sd, *tiny_sd.rglob("*")]}

    before = state()
    modes = {p: p.stat().st_mode for p in [tiny_sd, *tiny_sd.rglob("*")]}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        together([functools.partial(load_backbone, tiny_sd, device="cpu")] * 2)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert state() == before


# -- GPUs

LISTING = """GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-aaaa-1)
  MIG 3g.40gb     Device  0: (UUID: MIG-bbbb-1)
  MIG 3g.40gb     Device  1: (UUID: MIG-bbbb-2)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-cccc-1)
GPU 2: NVIDIA A100-SXM4-80GB (UUID: GPU-dddd-1)
"""
# what CUDA_VISIBLE_DEVICES says, and which devices it means
VISIBLE = {
    None: ["MIG-bbbb-1", "MIG-bbbb-2", "GPU-cccc-1", "GPU-dddd-1"],
    "0,1,2": ["MIG-bbbb-1", "GPU-cccc-1", "GPU-dddd-1"],
    "2, 1": ["GPU-dddd-1", "GPU-cccc-1"],
    "GPU-dddd,GPU-cccc-1": ["GPU-dddd-1", "GPU-cccc-1"],
    "MIG-bbbb-2,MIG-bbbb-1,1": ["MIG-bbbb-2", "MIG-bbbb-1", "GPU-cccc-1"],
    "1,GPU-cccc-1,GPU-cccc,MIG-bbbb-2": ["GPU-cccc-1", "MIG-bbbb-2"],
}
LEASES = """
import os, random, sys, time
torch = sys.modules["torch"] = type(sys)("torch")
torch.device = torch.dtype = object
from attnseg.io.gpu import lease
folder, leases, meant = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
for _ in range(leases):
    with lease(wait=0.005) as (device,):
        assert device in meant and os.environ["CUDA_VISIBLE_DEVICES"] == device, device
        claim = os.path.join(folder, device)
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL))  # fails while another has it
        print(device, flush=True)
        time.sleep(random.uniform(0, 0.01))
        os.unlink(claim)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Path:
    """Three GPUs, one of them in two parts, as far as nvidia-smi says."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{LISTING}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ATTNSEG_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PYTHONPATH", str(Path(gpu.__file__).parents[2]))
    monkeypatch.delenv("ATTNSEG_GPUS", raising=False)
    monkeypatch.delenv(gpu.VISIBLE, raising=False)
    return tmp_path


@pytest.mark.parametrize("said", [name for name in VISIBLE if name])
def test_devices_are_those_that_cuda_would_take(machine, said):
    assert gpu.by_uuid([name.strip() for name in said.split(",")]) == VISIBLE[said]


def test_two_hundred_leases_by_numbers_uuids_and_mig_names_never_share_a_device(
    machine, record_property
):
    claims, script = machine / "claims", machine / "leases.py"
    claims.mkdir()
    script.write_text(LEASES)
    each = 34
    processes = []
    for said, meant in VISIBLE.items():
        environment = os.environ | ({gpu.VISIBLE: said} if said else {})
        words = [sys.executable, str(script), str(claims), str(each), ",".join(meant)]
        processes.append(
            subprocess.Popen(
                words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(VISIBLE), [
        e for _, e in outputs
    ]
    leased = [line for output, _ in outputs for line in output.split()]
    assert len(leased) == each * len(VISIBLE) >= 200 and set(leased) == set(VISIBLE[None])
    record_property("hostile", len(leased))


def test_one_device_by_two_names_is_no_two(machine, monkeypatch):
    """It would wait for the second for ever."""
    monkeypatch.setenv(gpu.VISIBLE, "1,GPU-cccc-1,GPU-cccc")
    with pytest.raises(UserError, match="2 GPUs requested and this machine has 1"), gpu.lease(2):
        pass
