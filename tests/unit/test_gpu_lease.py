"""Leases give each process its own GPU and end with the process. No GPU is needed."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from attnseg.errors import UserError
from attnseg.io import gpu

SCRIPTS = Path(gpu.__file__).parents[2]

# Holds devices for a while and claims each with a file that only one process can hold.
HOLDER = """
import fcntl, os, sys, time
sys.modules["torch"] = type(sys)("torch")  # not needed, and slow to import
sys.modules["torch"].device = object
sys.modules["torch"].dtype = object
from attnseg.io.gpu import lease
log = open(sys.argv[1], "a", buffering=1)
with lease(int(sys.argv[3]), wait=0.01) as devices:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(devices)
    log.write(f"{os.getpid()} has {','.join(devices)}\\n")
    time.sleep(float(sys.argv[2]))
    log.write(f"{os.getpid()} gives {','.join(devices)}\\n")
"""


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Two GPUs, as far as the lease knows."""
    monkeypatch.delenv(gpu.VISIBLE, raising=False)
    monkeypatch.setenv("ATTNSEG_GPUS", "2")
    monkeypatch.setenv("ATTNSEG_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PYTHONPATH", str(SCRIPTS))


def hold(log, seconds, count=1):
    return subprocess.Popen([sys.executable, "-c", HOLDER, str(log), str(seconds), str(count)])


def wait_for(log, text, count=1):
    until = time.time() + 20
    while time.time() < until:
        if log.exists() and log.read_text().count(text) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"no {text!r} in {log}")


def test_a_lease_names_its_device_while_it_lasts():
    with gpu.lease() as devices:
        assert os.environ[gpu.VISIBLE] == devices[0]
        with_other = subprocess.run(
            [sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert with_other.stdout.strip() == devices[0]
    assert gpu.VISIBLE not in os.environ


def test_a_device_that_the_scheduler_set_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv(gpu.VISIBLE, "5")
    with gpu.lease() as devices:
        assert devices == ["5"]
    assert os.environ[gpu.VISIBLE] == "5"
    assert not (tmp_path / "locks").exists()
    with pytest.raises(UserError, match="2 GPUs requested and CUDA_VISIBLE_DEVICES lists 1"):
        with gpu.lease(2):
            pass


def test_two_processes_share_a_list_of_devices(monkeypatch, tmp_path):
    """A person's CUDA_VISIBLE_DEVICES=0,1 for jobs that take one each."""
    monkeypatch.setenv("ATTNSEG_GPUS", "GPU-a,GPU-b,GPU-c")
    monkeypatch.setenv(gpu.VISIBLE, "1,GPU-c")
    assert gpu.by_uuid(["1", "GPU-c"]) == ["GPU-b", "GPU-c"]
    log = tmp_path / "log"
    children = [hold(log, 0.5) for _ in range(2)]
    assert [child.wait(20) for child in children] == [0, 0]
    held = {line.split()[2] for line in log.read_text().splitlines() if "has" in line}
    assert held == {"GPU-b", "GPU-c"}
    with gpu.lease() as devices:
        assert devices[0] in ("GPU-b", "GPU-c") and os.environ[gpu.VISIBLE] == devices[0]
    assert os.environ[gpu.VISIBLE] == "1,GPU-c"


def test_more_devices_than_there_are_is_refused(monkeypatch):
    with pytest.raises(UserError, match="3 GPUs requested and this machine has 2"), gpu.lease(3):
        pass
    monkeypatch.setenv("ATTNSEG_GPUS", "0")
    with pytest.raises(UserError, match="1 GPU requested and this machine has none; .*device: cpu"):
        with gpu.lease():
            pass


def test_no_device_is_leased_where_none_is_asked_for(tmp_path):
    with gpu.lease(0) as devices:
        assert (devices, gpu.claim_device("cpu")) == ([], torch.device("cpu"))
        assert gpu.VISIBLE not in os.environ
    assert not (tmp_path / "locks").exists()


def test_a_claimed_device_is_kept_until_the_process_ends(tmp_path):
    """Also by a program that never gives it back: a second one takes the other device."""
    claim = (
        "import torch; torch.cuda.is_available = lambda: True\n"
        "import os, sys; from attnseg.io.gpu import claim_device\n"
        "assert claim_device('cuda').type == 'cuda'\n"
        "print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); sys.stdin.read()"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", claim], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        assert sorted(process.stdout.readline().strip() for process in processes) == ["0", "1"]
    finally:
        for process in processes:
            process.communicate()
    with gpu.lease(2) as devices:
        assert devices == ["0", "1"]


def test_the_program_of_every_rule_with_a_gpu_claims_it():
    rules = "\n".join(file.read_text() for file in SCRIPTS.parent.glob("workflow/rules/*.smk"))
    programs = {"attnseg/app/photo", "attnseg/app/subject"}  # a person's
    for body in re.split(r"^rule \w+:", rules, flags=re.M)[1:]:
        if not re.search(r"^ +gpu=0,", body, re.M):
            programs.add(re.search(r"<scripts>/(\w+)\.py", body)[1])
    programs.remove("train_custom_diffusion")  # attnseg/app/subject
    programs -= {"predict_segmentor", "evaluate_segmentor"}
    predict = (SCRIPTS / "attnseg/segmentation/predict.py").read_text()  # of both
    assert "claim_device(device)" in predict
    assert len(programs) >= 10
    for program in programs:
        assert "claim_device(args.device" in (SCRIPTS / f"{program}.py").read_text(), program


def test_a_process_waits_until_a_device_is_free(tmp_path):
    log = tmp_path / "log"
    first, second = hold(log, 60), hold(log, 60)
    try:
        wait_for(log, "has", 2)
        third = hold(log, 0)
        time.sleep(0.5)
        assert log.read_text().count("has") == 2
        first.kill()  # SIGKILL: nothing of the process runs after it
        assert third.wait(20) == 0
        mine = [line.split()[2] for line in log.read_text().splitlines() if str(first.pid) in line]
        assert f"{third.pid} has {mine[0]}" in log.read_text()
    finally:
        for process in (first, second):
            process.kill()
            process.wait()


def test_several_devices_are_taken_together_or_not_at_all(tmp_path):
    log = tmp_path / "log"
    processes = [hold(log, 0.02, 2) for _ in range(4)] + [hold(log, 0.02, 1) for _ in range(4)]
    assert [process.wait(30) for process in processes] == [0] * 8
    replay(log.read_text().splitlines(), dead=[])


def replay(lines, dead):
    """Fail where a device is given to a process while a living one has it."""
    owner = {}
    for line in lines:
        pid, verb, devices = line.split()
        for device in devices.split(","):
            if verb == "has":
                assert owner.get(device, "nobody") in ("nobody", *dead), line
                owner[device] = pid
            else:
                assert owner[device] == pid, line
                owner[device] = "nobody"


# Leases again and again, each time held against an exclusive file of its own: were a device
# ever shared, the second process could not create the file and would say so. Killed at random.
LEASER = """
import os, random, sys, time
torch = sys.modules["torch"] = type(sys)("torch")
torch.device = torch.dtype = object
from attnseg.io.gpu import lease
folder, leases = sys.argv[1], int(sys.argv[2])
for _ in range(leases):
    with lease(wait=0.005) as (device,):
        claim = os.path.join(folder, device)
        try:
            os.symlink(str(os.getpid()), claim)
        except FileExistsError:
            other = os.readlink(claim)
            state = "Z"
            try:
                state = open(f"/proc/{other}/stat").read().rpartition(")")[2].split()[0]
            except OSError:
                pass
            if state not in "ZX":  # the other lives, and has this device
                print("shared", device, flush=True)
                sys.exit(3)
            os.unlink(claim)
            os.symlink(str(os.getpid()), claim)
        print("lease", flush=True)
        time.sleep(random.uniform(0, 0.01))
        os.unlink(claim)
"""


def test_two_hundred_leases_with_random_kills_never_share_a_device(tmp_path):
    claims = tmp_path / "claims"
    claims.mkdir()
    script = tmp_path / "leaser.py"
    script.write_text(LEASER)
    random.seed(0)
    outputs, running, kills = [], [], 0
    until = time.time() + 60

    def count():
        return sum(path.read_text().count("lease") for path in outputs)

    def start():
        outputs.append(tmp_path / f"output-{len(outputs)}")
        with open(outputs[-1], "w") as output:
            running.append(
                subprocess.Popen([sys.executable, script, claims, "1000"], stdout=output)
            )

    for _ in range(4):
        start()
    while (count() < 200 or kills < 10) and time.time() < until:
        time.sleep(random.uniform(0.02, 0.2))
        for process in running:
            assert process.poll() is None, "a process ended by itself"
        if count() > 20 * kills:
            victim = running.pop(random.randrange(len(running)))
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            kills += 1
            start()
    for process in running:
        process.kill()
        process.wait()
    assert count() >= 200 and kills >= 10
    assert not any("shared" in path.read_text() for path in outputs)


def test_devices_are_named_by_uuid_and_a_partitioned_one_by_its_parts():
    listing = (
        "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-aaaa-1)\n"
        "  MIG 1g.10gb     Device  0: (UUID: MIG-bbbb-1)\n"
        "  MIG 1g.10gb     Device  1: (UUID: MIG-bbbb-2)\n"
        "GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-aaaa-2)\n"
    )
    assert gpu.parse_listing(listing) == [["MIG-bbbb-1", "MIG-bbbb-2"], ["GPU-aaaa-2"]]
    assert gpu.parse_listing("No devices were found\n") == []


def test_devices_can_be_given_by_name(monkeypatch):
    monkeypatch.setenv("ATTNSEG_GPUS", "GPU-a, GPU-b")
    assert gpu.devices() == ["GPU-a", "GPU-b"]


def test_a_gpu_that_is_needed_and_absent_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("ATTNSEG_GPUS", "0")
    assert gpu.pick_device("auto").type == "cpu"
    assert gpu.pick_device("cpu").type == "cpu"
    with pytest.raises(
        UserError, match="a GPU is needed and this machine has none; .*cpu"
    ) as error:
        gpu.pick_device("cuda")
    assert "\n" not in str(error.value)
    monkeypatch.setenv("ATTNSEG_GPUS", "1")
    with pytest.raises(UserError, match="PyTorch cannot use this machine's"):
        gpu.pick_device("cuda")
    with pytest.raises(UserError, match="choose auto, cpu or cuda"):
        gpu.pick_device("tpu")


def test_the_dtype_is_what_the_device_computes_in(monkeypatch):
    assert gpu.pick_dtype("cpu") == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert gpu.pick_dtype("cuda") == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert gpu.pick_dtype("cuda") == torch.float16
