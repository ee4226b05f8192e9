"""A run of the mini scale in a namespace without a network, in which every wish for one is written down."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scenes import REPOSITORY, command, few_scenes

TABLE = "results/mini/voc_table1.csv"

# in every Python process of the run, before anything else
WATCH = """
import os, socket, sys

def asked(what):
    with open(os.environ["ASKED"], "a") as file:
        print(what, *sys.argv, file=file)

def watched(name):
    original = getattr(socket.socket, name)

    def call(self, address, *more):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            asked(f"{name} {address}")
        return original(self, address, *more)

    setattr(socket.socket, name, call)

for name in ("connect", "connect_ex", "sendto"):
    watched(name)
resolve = socket.getaddrinfo

def getaddrinfo(*arguments, **more):
    asked(f"getaddrinfo {arguments[:2]}")
    return resolve(*arguments, **more)

socket.getaddrinfo = getaddrinfo
"""


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Runs a command without a network: the process, and what asked for one."""
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("no network namespaces here (unshare -rn)")
    asked = tmp_path / "asked"
    asked.touch()
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    monkeypatch.setenv("ASKED", str(asked))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)

    def call(
        words: list[str], folder: Path, paths: str = ""
    ) -> tuple[subprocess.CompletedProcess, str]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "watch"), paths])}
        done = subprocess.run(
            ["unshare", "-rn", *words], cwd=folder, env=environment, capture_output=True, text=True
        )
        return done, asked.read_text()

    return call


def test_a_wish_is_written_down(alone, tmp_path):
    """What the test below would see."""
    fetch = "import urllib.request as r; r.urlopen('https://example.org', timeout=1)"
    done, asked = alone([sys.executable, "-c", fetch], tmp_path)
    assert done.returncode and "getaddrinfo ('example.org', 443)" in asked
    direct = "import socket; socket.socket().connect(('192.0.2.1', 80))"
    done, asked = alone([sys.executable, "-c", direct], tmp_path)
    assert done.returncode and "connect ('192.0.2.1', 80)" in asked


@pytest.mark.slow
def test_a_mini_table_asks_for_no_network(alone, tmp_path):
    folder = few_scenes(tmp_path / "mini")
    done, asked = alone(command(TABLE), folder)
    assert done.returncode == 0, done.stdout + done.stderr
    programs = {path.name for path in (folder / "work/mini/logs").iterdir()}
    assert {"build_mini_world", "extract_attention", "refine_masks", "evaluate_masks"} <= programs
    assert asked == ""
    rows = (folder / TABLE).read_text()
    assert re.search(r"mini", rows) and json.loads((folder / "work/mini/config.json").read_text())


# who may know the network, and why
KNOW = {
    "attnseg/io/downloads.py": "data sets and backbones that are fetched",
    "attnseg/backbones/model_files.py": "models of the hub",
    "attnseg/segmentation/model.py": "weights that a person gives as an address; the workflow fetches them",
    "attnseg/app/doctor.py": "whether the hub answers",
    "attnseg/app/page/server.py": "serves the page",
    "attnseg/io/runs.py": "the computer's name",
}


def test_few_files_know_the_network():
    words = re.compile(
        r"urlopen|urllib\.request|requests\.|http\.client|import socket|snapshot_download|HfApi|hf_hub_download|from_url"
    )
    scripts = REPOSITORY / "scripts"
    found = {
        str(path.relative_to(scripts))
        for path in scripts.rglob("*.py")
        if words.search(path.read_text())
    }
    assert found == set(KNOW)


def test_models_are_read_where_they_lie():
    """`from_pretrained` would ask the hub whether a folder's files are still the newest."""
    for path in (REPOSITORY / "scripts").rglob("*.py"):
        for call in re.findall(r"\.from_pretrained\((?:[^()]|\([^()]*\))*\)", path.read_text()):
            # CLIP and the ViT of Mug19's baselines may be named by their ids; a model card's words
            other = path.name in ("descriptors.py", "referring.py", "unet.py")
            assert "local_files_only=True" in call or other, (path.name, call)
