"""What the faults are done to, and the counts at the end of a run of the suite."""

import contextlib
import functools
import http.server
import io
import json
import os
import random
import re
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from forks import Forks, is_over
from PIL import Image
from programs import ARCHIVE, PROGRAMS, SENT, World, content, finished

ATTEMPTS = 20  # at a kill that counts
COUNTS = ("SIGTERMs", "resumed units", "corrupted files", "refusals", "hostile")


def pytest_terminal_summary(terminalreporter):
    """The counts that tests recorded as properties."""
    passed = terminalreporter.stats.get("passed", ())
    properties = [each for report in passed for each in report.user_properties]
    kills = Counter(value for name, value in properties if name == "kill")
    found = {name: sum(n for key, n in properties if key == name) for name in COUNTS}
    if kills or any(found.values()):
        each = ", ".join(f"{name} {count}" for name, count in kills.items())
        terminalreporter.write_line(f"kills: {kills.total()} ({each})")
        terminalreporter.write_line(", ".join(f"{name}: {n}" for name, n in found.items()))


@pytest.fixture(scope="session")
def forks():
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def voc(tmp_path_factory) -> Path:
    """Mini VOC with 24 scenes in train."""
    from attnseg.mini.world import voc_layout

    root = tmp_path_factory.mktemp("faults") / "VOC2012"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voc_layout, "VOC_SPLITS", {"trainaug": (2, 24), "train": (2, 24)})
        voc_layout.write_voc(root, seed=0)
    return root


@pytest.fixture(scope="session")
def registry(tmp_path_factory, voc) -> Iterator[Path]:
    """A registry of mini VOC in three archives, on a server that sends them slowly."""
    folder, archives, parts = tmp_path_factory.mktemp("registry"), {}, {}
    for names in (("JPEGImages", "ImageSets"), ("Annotations",), ("SegmentationClassAug",)):
        content, file = io.BytesIO(), f"{names[0]}.tar"
        with tarfile.open(fileobj=content, mode="w") as tar:
            for name in names:
                tar.add(voc / name, f"VOC2012/{name}")
        archives[f"/{file}"] = content.getvalue().ljust(ARCHIVE, b"\0")
        parts[names[0]] = {
            "what": file,
            "strip": "VOC2012",
            "splits": ["train"],
            "holds": {names[0]: 24},
        }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            SENT.append(ARCHIVE - start)
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(ARCHIVE - start))
            self.send_header("Content-Range", f"bytes {start}-{ARCHIVE - 1}/{ARCHIVE}")
            self.send_header("ETag", '"one"')
            self.end_headers()
            with contextlib.suppress(OSError):  # it was killed
                for at in range(start, ARCHIVE, 2**16):
                    self.wfile.write(archives[self.path][at : at + 2**16])
                    time.sleep(0.005)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    for part in parts.values():
        part["urls"] = [f"http://127.0.0.1:{server.server_port}/{part['what']}"]
    entry = {"title": "VOC", "licence": "none", "site": "none", "parts": parts}
    (folder / "registry.yaml").write_text(yaml.safe_dump({"voc": entry}))
    yield folder / "registry.yaml"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def world(tmp_path_factory, voc, tiny_sd, forks, registry) -> World:
    import build_mini_prompts

    folder = tmp_path_factory.mktemp("world")
    prompts, subject = folder / "voc.jsonl", folder / "subject"
    assert build_mini_prompts.main(["--count", "16", "--output", str(prompts)]) == 0
    subject.mkdir()
    for i, photo in enumerate(sorted((voc / "JPEGImages").iterdir())[:3]):
        Image.open(photo).save(subject / f"{i}.png")

    @functools.cache
    def made(name: str) -> Path:
        where, program = folder / name, PROGRAMS[name]
        begun = time.monotonic()
        pid = forks.start(program.commands(world), where)
        assert forks.wait(pid) == 0, (where / "log").read_text()
        world.seconds[name] = (time.monotonic() - begun) / program.units
        assert content(where, program.results)
        return where

    world = World(voc, tiny_sd, prompts, subject, masks_to_export(folder), registry, made)
    return world


def masks_to_export(folder: Path) -> Path:
    """150 photos with masks of squares, as `attnseg segment` leaves them."""
    rng = np.random.default_rng(0)
    masks, photos = folder / "masks", folder / "photos"
    masks.mkdir()
    photos.mkdir()
    for i in range(150):
        labels = np.kron(rng.integers(0, 3, (8, 8), np.uint8), np.ones((12, 12), np.uint8))
        Image.fromarray(labels).save(masks / f"{i}.png")
        Image.fromarray(labels * 90).convert("RGB").save(photos / f"{i}.png")
    named = {str(i): {"photo": str(photos / f"{i}.png")} for i in range(150)}
    record = {"made_with": {"exif": "turn"}, "classes": ["dog", "sofa"], "photos": named}
    (masks / "manifest.json").write_text(json.dumps(record))
    return masks


@pytest.fixture
def stopped(world, forks, tmp_path):
    """Sends a signal to a program's process group when some units are finished: name, seed, signal -> the
    folder, the units finished before and after it, the status, and the seconds that it took to end."""

    def call(name: str, seed: object, number: int) -> tuple:
        program, draw = PROGRAMS[name], random.Random(f"{name} {seed}")
        world.made(name)  # first, and how long a unit takes
        for attempt in range(ATTEMPTS):
            folder = tmp_path / f"{attempt}"
            wanted = draw.randint(1, program.units - 1)
            pause = draw.random() * world.seconds[name] * (1 - attempt / ATTEMPTS)
            pid = forks.start(program.commands(world), folder)
            before = ()
            while len(before) < wanted and not is_over(pid):
                time.sleep(0.01)
                before = finished(name, folder)
            time.sleep(pause)
            before = finished(name, folder)
            begun = time.monotonic()
            os.killpg(pid, number)
            status, seconds = forks.wait(pid), time.monotonic() - begun
            after = finished(name, folder)
            # a training that is over leaves no checkpoint: fewer after than before
            if 1 <= len(before) <= len(after) < program.units and status:
                return folder, before, after, status, seconds
        pytest.fail(f"{name}: {ATTEMPTS} kills, none between its first and its last unit")

    return call


@pytest.fixture
def goes_on(world, forks, record_property):
    """Runs the same commands again, and checks what they make."""

    def call(name: str, folder: Path, before) -> str:
        program = PROGRAMS[name]
        SENT.clear()
        status = forks.wait(forks.start(program.commands(world), folder, "again"))
        said = (folder / "again").read_text()
        assert status == 0, said
        assert content(folder, program.results) == content(world.made(name), program.results)
        if program.keeps:
            made = program.count.made(folder, said, before)
            assert made == program.units - len(before), "a finished unit was made again"
            record_property("resumed units", len(before))
        left = [p for p in folder.rglob("*") if ".attnseg-" in p.name or ".shard-" in p.name]
        assert not left, "strays"
        return said

    return call
