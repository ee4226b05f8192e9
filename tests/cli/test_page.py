"""The page of `attnseg serve` by HTTP: the masks of `attnseg segment`, and nothing that is not asked for."""

import argparse
import base64
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from attnseg.app import command, serve
from attnseg.app.page import answers, downloads, generating, server, sessions
from attnseg.app.page.network import Network
from attnseg.attn2mask.generate import generate
from attnseg.attn2mask.labelling import synthetic_mask
from attnseg.attn2mask.prompt_sets import Prompt
from attnseg.core.geometry import to_photo
from attnseg.errors import UserError
from attnseg.settings import Generation, LabellingJob, read_settings
from attnseg.text2mask.extract import Sample
from attnseg.text2mask.kept import look
from attnseg.text2mask.options import options_for

REPOSITORY = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def served(network: Network):
    """A server of that network, in a thread."""
    with server.listening("127.0.0.1", 0) as page:
        page.network = network
        thread = threading.Thread(target=page.serve_forever, daemon=True)
        thread.start()
        yield page
        page.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def sharp_sd(tiny_sd, tmp_path_factory) -> Path:
    """The random model with sharper attention: min-max of a nearly uniform one is rounding noise."""
    folder = tmp_path_factory.mktemp("sharp") / "sd"
    shutil.copytree(tiny_sd, folder)
    (weights,) = (folder / "unet").glob("*.safetensors")
    sharper = {
        name: 8 * tensor if name.endswith("to_q.weight") else tensor
        for name, tensor in load_file(weights).items()
    }
    save_file(sharper, weights, {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def network(sharp_sd) -> Network:
    """That model, as the page has it."""
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    words = ["--model", str(sharp_sd), "--device", "cpu", "--noises", "2"]
    return Network(parser.parse_args(words))


@pytest.fixture
def page(network):
    with served(network) as page:
        yield page


@pytest.fixture
def counted(network, monkeypatch):
    """How often the denoiser is called."""
    calls = []
    denoise = network.backbone.denoise
    monkeypatch.setattr(
        network.backbone, "denoise", lambda *words: calls.append(len(words[0])) or denoise(*words)
    )
    return calls


class Visitor:
    """A browser tab, without the browser."""

    def __init__(self, page):
        self.address = f"http://127.0.0.1:{page.server_port}/"
        self.session = None
        self.session = self.post("api/session")["session"]

    def raw(self, path: str, body: object = None, **headers: str):
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        if self.session:
            headers.setdefault("X-Session", self.session)
        request = urllib.request.Request(self.address + path, data, headers)
        return urllib.request.urlopen(request, timeout=60)

    def post(self, path: str, body: object = None) -> dict:
        return json.loads(self.raw(path, body).read().splitlines()[-1])

    def leaving(self, path: str, body: object) -> socket.socket:
        """A connection with a request, which the visitor may close before the answer."""
        raw = socket.create_connection((urllib.parse.urlsplit(self.address).hostname, urllib.parse.urlsplit(self.address).port), timeout=60)  # fmt: skip
        data = json.dumps(body)
        raw.sendall(f"POST /{path} HTTP/1.1\r\nHost: localhost\r\nX-Session: {self.session}\r\nContent-Length: {len(data)}\r\n\r\n{data}".encode())  # fmt: skip
        return raw

    def add(self, pixels: np.ndarray, name: str = "photo.png", **options) -> int:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", **options)
        added = f"api/photos/add?name={urllib.parse.quote(name)}"
        return self.post(added, buffer.getvalue())["number"]

    def mask(self, number: int, **sliders: object) -> np.ndarray:
        answer = self.post(f"api/photos/{number}/mask", sliders)
        labels = np.frombuffer(base64.b64decode(answer["labels"]), np.uint8)
        return labels.reshape(answer["height"], answer["width"])


def photo(height: int = 48, width: int = 80, seed: int = 0) -> np.ndarray:
    """Blobs of colour, so that the CRF has edges to find."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def png(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


SLIDERS = [
    {},
    {"threshold": 0.62, "power": 1.5, "crf": False},
    {"iterations": 4, "position": 20.5, "colour": 13, "smoothness": 2.5, "power": 6},
]


@pytest.mark.parametrize("sliders", SLIDERS, ids=["usual", "background", "crf"])
def test_the_command_line_that_the_page_gives_makes_the_same_files(
    page, tmp_path, monkeypatch, sliders
):
    visitor = Visitor(page)
    exif = Image.Exif()
    exif[0x0112] = 6  # a phone's
    number = visitor.add(photo(), "my photo.png", exif=exif)
    asked = {"classes": "dog=puppy, cat", "noises": 2, "seed": 3, "background": "grass, sky"}
    assert visitor.post(f"api/photos/{number}/look", asked)["classes"] == ["dog", "cat"]
    shown = visitor.mask(number, **sliders)
    assert shown.shape == (80, 48) and len(np.unique(shown)) > 1
    files = {name: visitor.raw(f"api/photos/{number}/file/{name}").read() for name in ("mask", "overlay", "photo")}  # fmt: skip
    assert np.array_equal(png(files["mask"]), shown)
    (tmp_path / "my photo.png").write_bytes(files["photo"])
    # the model is named from where the page was started, the command is run in the photo's folder
    monkeypatch.setattr(page.network.args, "model", os.path.relpath(page.network.args.model))
    asking = f"api/photos/{number}/command"
    words = shlex.split(visitor.post(asking)["command"])
    with monkeypatch.context() as elsewhere:  # visitors see no more of the folder than was typed
        elsewhere.setattr(page.network.args, "host", "0.0.0.0")
        assert f"--model {shlex.quote(page.network.args.model)} " in visitor.post(asking)["command"]
    monkeypatch.chdir(tmp_path)
    assert words[:2] == ["attnseg", "segment"] and command.main(words[1:]) == 0
    for kind in ("mask", "overlay"):
        made = np.asarray(Image.open(tmp_path / f"my photo_{kind}.png"))
        assert np.array_equal(made, png(files[kind])), kind


def test_the_page_shows_the_mask_of_segment_without_any_setting(page, sharp_sd, tmp_path):
    visitor = Visitor(page)
    number = visitor.add(photo(64, 64), "a.png")
    visitor.post(f"api/photos/{number}/look", {"classes": "dog,cat", "noises": 4})
    Image.fromarray(photo(64, 64)).save(tmp_path / "a.png")
    words = ["segment", tmp_path / "a.png", "--classes", "dog,cat", "--model", sharp_sd, "--device", "cpu", "--output", tmp_path / "m.png"]  # fmt: skip
    assert command.main(list(map(str, words))) == 0
    assert np.array_equal(visitor.mask(number), np.asarray(Image.open(tmp_path / "m.png")))


def test_sliders_maps_and_pixels_pass_no_network(page, network, counted):
    visitor, before = Visitor(page), network.passes
    number = visitor.add(photo())
    told = visitor.post(f"api/photos/{number}/look", {"classes": "dog, cat", "noises": 2})
    assert sum(counted) == 2 == told["passes"] - before
    masks = [
        visitor.mask(number, **sliders)
        for sliders in (
            {}, {"threshold": 0.5}, {"power": 5}, {"iterations": 0}, {"crf": False},
            {"position": 30}, {"colour": 40}, {"smoothness": 6},
        )
    ]  # fmt: skip
    assert all(not np.array_equal(masks[0], other) for other in masks[1:])
    visitor.post(f"api/photos/{number}/maps", {"class": 1, "iterations": 3})
    visitor.post(f"api/photos/{number}/pixel", {"x": 3, "y": 4})
    visitor.raw(f"api/photos/{number}/file/overlay").read()
    assert sum(counted) == 2 and network.passes == told["passes"]


def test_maps_and_a_pixel_s_row_are_those_of_the_photo_s_attention(page, network):
    visitor, image = Visitor(page), photo(64, 64)
    number = visitor.add(image, "p.png")
    visitor.post(f"api/photos/{number}/look", {"classes": "dog, cat", "noises": 2})
    visitor.mask(number, crf=False)
    kept = look(network.backbone, Sample("p", image, ["dog", "cat"]), options_for(network.backbone, noises=2))  # fmt: skip
    told = visitor.post(f"api/photos/{number}/maps", {"class": 2, "iterations": 3})
    titles = [each["title"] for each in told["maps"]]
    assert titles[:4] == ["Cross", *(f"after {n} propagation{'s' * (n > 1)}" for n in (1, 2, 3))]
    assert titles[4:] == [f"Cross of block {b}" for b in (4, 5, 6, 7, 8)]

    def values(told: dict) -> np.ndarray:
        shape = told["height"], told["width"]
        return np.frombuffer(base64.b64decode(told["values"]), np.uint8).reshape(shape) / 255

    wanted = [*(kept.maps(n) for n in range(4)), *kept.blocks()]
    for each, maps in zip(told["maps"], wanted, strict=True):
        grown = to_photo(maps[1:2], kept.fit, (64, 64))[0].numpy()
        assert np.abs(values(each) - grown).max() < 1 / 255
    told = visitor.post(f"api/photos/{number}/pixel", {"x": 10, "y": 50})
    row = to_photo(kept.attended(50, 10)[None], kept.fit, (64, 64))[0]
    assert np.corrcoef(values(told["attended"]).ravel(), row.ravel())[0, 1] > 0.999
    highest = to_photo(kept.maps(2), kept.fit, (64, 64))[:, 50, 10]
    scores = [each["score"] for each in told["scores"]]
    assert np.allclose(scores, [(1 - highest.max()) ** 2, *highest], atol=1e-3)


def test_coco_of_all_photos_reads_back_as_the_masks(page, tmp_path):
    pytest.importorskip("cv2", reason="the extra `export`")
    from pycocotools.coco import COCO

    visitor = Visitor(page)
    masks, classes = {}, ["dog,cat", "cat,bird"]
    for i, name in enumerate(("a.png", "a.png")):
        number = visitor.add(photo(seed=i), name)
        visitor.post(f"api/photos/{number}/look", {"classes": classes[i], "noises": 1})
        masks[number] = visitor.mask(number, threshold=0.6)
    visitor.add(photo(), "not-looked-at.png")
    (tmp_path / "coco.json").write_bytes(visitor.raw(f"api/photos/{number}/file/coco").read())
    coco = COCO(tmp_path / "coco.json")
    assert [image["file_name"] for image in coco.dataset["images"]] == ["a.png", "a-2.png"]
    for image, (labels, names) in zip(coco.dataset["images"], zip(masks.values(), classes, strict=True), strict=True):  # fmt: skip
        for k, name in enumerate(names.split(","), 1):
            (category,) = coco.getCatIds(catNms=[name])
            found = np.zeros(labels.shape, bool)
            for entry in coco.loadAnns(coco.getAnnIds([image["id"]], [category])):
                found |= coco.annToMask(entry).astype(bool)
            assert np.array_equal(found, labels == k)


def test_two_visitors_do_not_see_each_other_s_photos(page):
    one, two = Visitor(page), Visitor(page)
    number = one.add(photo())
    assert one.session != two.session and len(one.session) >= 32
    assert "no longer here" in two.post(f"api/photos/{number}/file/photo")["error"]
    assert two.post("api/session")["photos"] == []
    assert [p["name"] for p in one.post("api/session")["photos"]] == ["photo.png"]
    two.session = "guess"
    with pytest.raises(urllib.error.HTTPError) as refused:
        two.raw(f"api/photos/{number}/file/photo")
    assert refused.value.code == 410


def test_two_visitors_at_once_get_their_own_masks(page):
    visitors = [Visitor(page) for _ in range(2)]
    numbers = [visitor.add(photo(seed=i)) for i, visitor in enumerate(visitors)]
    found: dict[int, np.ndarray] = {}

    def ask(i: int) -> None:
        visitors[i].post(f"api/photos/{numbers[i]}/look", {"classes": "dog,cat", "noises": 2})
        found[i] = visitors[i].mask(numbers[i])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(2)]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    together = dict(found)
    for i in range(2):
        ask(i)
        assert np.array_equal(together[i], found[i])


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py", "/..%2fserver.py", "/%2e%2e/%2e%2e/serve.py", "//etc/passwd", "/page.js/../../serve.py",
        "/templates/page.html", "/api/../../../../etc/passwd", "\\..\\serve.py", "/.", "/page.html",
    ],
)  # fmt: skip
def test_no_other_file_is_read(page, path):
    for method in ("GET", "POST"):
        with socket.create_connection(("127.0.0.1", page.server_port), timeout=30) as raw:
            raw.sendall(
                f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}".encode()
            )
            said = raw.makefile("rb").read()
        status = int(said.split(b" ")[1])
        assert status in (404, 410) and b"import" not in said and b"root:" not in said


def test_other_names_of_this_machine_are_refused(page):
    """A page elsewhere whose name leads here (DNS rebinding) gets nothing."""
    for host, code in (("evil.example", 403), ("localhost:7860", 200), ("[::1]:7860", 200)):
        address = f"http://127.0.0.1:{page.server_port}/api/model"
        request = urllib.request.Request(address, headers={"Host": host})
        try:
            assert urllib.request.urlopen(request, timeout=30).status == code
        except urllib.error.HTTPError as refused:
            assert refused.code == code


def test_the_page_asks_for_nothing_elsewhere(page):
    for name in server.FILES:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{page.server_port}{name}", timeout=30
        ) as said:
            assert "default-src 'none'" in said.headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in said.headers["Content-Security-Policy"]
            assert b"http:" not in (text := said.read()) and b"https:" not in text


def test_mistakes_are_sentences(page, monkeypatch):
    visitor = Visitor(page)
    number = visitor.add(photo())

    def said(path: str, body: object = None) -> str:
        sentence = visitor.post(path, body)["error"]
        assert "Traceback" not in sentence and "/tmp" not in sentence
        return sentence

    ask = f"api/photos/{number}/look"
    assert "name what is in the photo" in said(ask, {"classes": " , "}).lower()
    assert "dog is named twice" in said(ask, {"classes": "dog, dog"}).lower()
    assert "2,001 characters; write at most 2,000" in said(ask, {"classes": "a" * 2001})
    long = " ".join(["traffic"] * 80)
    assert "past the text encoder's window" in said(ask, {"classes": long})
    assert "noises: must be a whole number" in said(ask, {"classes": "dog", "noises": 99}).lower()
    assert "and look" in said(f"api/photos/{number}/mask", {})
    assert "there is no mask yet" in said(f"api/photos/{number}/command").lower()
    for name, data in (("cut.jpg", photo().tobytes()), ("none.png", b""), ("page.html", b"<p>")):
        assert f"{name} is not a picture" in said(f"api/photos/add?name=../{name}", data)
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, "PNG")
    assert "cut.png" in said("api/photos/add?name=cut.png", buffer.getvalue()[:-300])
    eps = io.BytesIO()
    Image.fromarray(photo()).save(eps, "EPS")  # Pillow would call Ghostscript
    assert "is not a picture" in said("api/photos/add?name=a.eps", eps.getvalue())
    monkeypatch.setattr(answers, "PIXELS", 100)
    assert "million pixels" in said("api/photos/add?name=a.png", buffer.getvalue())
    monkeypatch.setattr(answers, "BYTES", 100)
    with pytest.raises(urllib.error.HTTPError) as refused:
        visitor.raw("api/photos/add?name=a.png", buffer.getvalue())
    assert refused.value.code == 413 and "make it smaller" in json.load(refused.value)["error"]
    visitor.post(ask, {"classes": "dog", "noises": 1})
    for sliders in ({"power": -1}, {"power": "x"}, {"iterations": 2.5}, {"colour": 0}, {"a": 1}):
        assert said(f"api/photos/{number}/mask", sliders)


def test_memory_and_the_number_of_sessions_are_bounded(page, monkeypatch):
    monkeypatch.setattr(sessions, "SESSIONS", 3)
    monkeypatch.setattr(sessions, "PHOTOS", 2)
    first = Visitor(page)
    others = [Visitor(page) for _ in range(3)]
    assert page.store.get(first.session) is None
    last = others[-1]
    last.add(photo()), last.add(photo())
    assert "2 photos are here already" in refusal(last, photo())
    page.store.room = sum(session.bytes for session in page.store._sessions.values()) + 100
    newer = Visitor(page)
    assert "error" not in newer.post("api/session")
    number = newer.add(photo())  # the others' go
    assert page.store.get(last.session) is None and number == 1
    page.store.room = 100
    assert "no memory is left" in refusal(newer, photo()).lower()
    now = sessions.time.monotonic()
    monkeypatch.setattr(sessions.time, "monotonic", lambda: now + sessions.IDLE + 1)
    assert page.store.get(newer.session) is None


def refusal(visitor: Visitor, pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return visitor.post("api/photos/add?name=more.png", buffer.getvalue())["error"]


def test_a_generated_picture_has_each_word_s_attention_and_attn2mask_s_mask(page, network, counted):
    visitor = Visitor(page)
    text = "a photo of a dog and a cat"
    told = visitor.post("api/drawing", {"prompt": text, "seed": 5, "steps": 4, "guidance": 3})
    assert [each["word"] for each in told["words"]] == ["dog", "cat"]
    passes = sum(counted)
    answer = visitor.post("api/drawing/mask", {"words": ["cat"], "beta": 0.1})
    assert passes == 8 == sum(counted)
    spans = [[[text.index(word), text.index(word) + 3]] for word in ("dog", "cat")]
    prompt = Prompt("x", text, ["dog", "cat"], spans, 5)
    sampling = Generation(steps=4, attention_step=2, guidance=3)
    ((wanted,),) = generate(network.backbone, [prompt], sampling)
    picture = png(base64.b64decode(told["picture"].partition(",")[2]))
    assert np.array_equal(picture, wanted.image)
    crf = {"gaussian": {"sxy": 3 * 64 / 512}, "bilateral": {"sxy": 80 * 64 / 512}}
    options = read_settings(LabellingJob, {"beta": 0.1, "crf": crf})
    labels, _ = synthetic_mask(wanted.image, wanted.cross[1:], options)
    found = np.frombuffer(base64.b64decode(answer["labels"]), np.uint8).reshape(64, 64)
    assert np.array_equal(found, 2 * labels)  # the second word's colour
    assert "is not in the prompt" in visitor.post("api/drawing", {"prompt": text, "words": "bird"})["error"]  # fmt: skip
    assert "generate a picture first" in Visitor(page).post("api/drawing/mask", {})["error"].lower()


def test_steps_are_told_and_a_visitor_who_leaves_ends_the_work(page, network, counted, monkeypatch):
    visitor, body = Visitor(page), {"prompt": "a dog", "steps": 6}
    *steps, told = map(json.loads, visitor.raw("api/drawing", body).read().splitlines())
    assert steps == [{"step": step} for step in range(1, 7)] and told["steps"] == 6
    passes, left = network.passes, threading.Event()
    counted.clear()
    denoise = network.backbone.denoise

    def waits(*words):
        """The fourth call, until the visitor has left."""
        assert len(counted) < 3 or left.wait(60)
        return denoise(*words)

    monkeypatch.setattr(network.backbone, "denoise", waits)
    with visitor.leaving("api/drawing", body | {"steps": 50}) as raw:
        lines = raw.makefile("rb")
        while lines.readline() != b'{"step": 3}\n':
            pass
        lines.close()
    left.set()
    drawn = page.store.get(visitor.session).drawn
    again = visitor.post("api/drawing", body)  # once the other has let go
    assert len(counted) <= 4 + 6 and network.passes == passes + 12
    assert again["picture"] == told["picture"]
    assert page.store.get(visitor.session).drawn is not drawn


def test_a_visitor_who_leaves_ends_the_look_at_a_photo(page, network, monkeypatch):
    visitor = Visitor(page)
    number = visitor.add(photo())
    began, left, finished = threading.Event(), threading.Event(), []
    denoise = network.backbone.denoise

    def waits(*words):
        began.set()
        assert left.wait(60)
        finished.append(denoise(*words))
        return finished[-1]

    with monkeypatch.context() as patched:
        patched.setattr(network.backbone, "denoise", waits)
        with visitor.leaving(f"api/photos/{number}/look", {"classes": "dog"}):
            assert began.wait(60)
        left.set()
        assert "and look" in visitor.post(f"api/photos/{number}/mask")["error"]
    assert not finished
    visitor.post(f"api/photos/{number}/look", {"classes": "dog"})
    assert visitor.mask(number).shape == (48, 80)


def test_words_of_a_prompt_are_found_at_every_mention():
    spans = generating.spans_of("A photo of a dog, the traffic light and a Dog's bone")
    assert list(spans) == ["dog", "traffic", "light", "dog's", "bone"]
    text = "a dog by a traffic light, dog and dogma"
    spans = generating.spans_of(text, ["traffic light", "dog"])
    assert [[text[a:b] for a, b in each] for each in spans.values()] == [["traffic light"], ["dog", "dog"]]  # fmt: skip


def test_a_name_stands_inside_its_mask():
    ring = np.zeros((40, 60), bool)
    ring[5:35, 10:50] = True
    ring[12:28, 20:40] = False
    x, y = answers.place_of(ring)
    assert ring[int(y * 40), int(x * 60)]
    assert answers.place_of(np.zeros((3, 3), bool)) is None
    thin = np.zeros((2000, 2000), bool)
    thin[1, 1] = True  # between the pixels that are looked at
    assert answers.place_of(thin) == [1.5 / 2000, 1.5 / 2000]


def test_a_photo_larger_than_two_million_pixels_has_its_mask_at_its_size(page):
    visitor = Visitor(page)
    number = visitor.add(photo(1200, 2000))
    visitor.post(f"api/photos/{number}/look", {"classes": "dog", "noises": 1})
    shown = visitor.mask(number, crf=False)
    assert shown.size <= 2_000_000
    page_photo = page.store.get(visitor.session).photos[number]
    labels = png(downloads.mask_file(page_photo))
    assert labels.shape == (1200, 2000)
    small = np.asarray(Image.fromarray(labels).resize(shown.shape[::-1], Image.Resampling.NEAREST))
    assert (small == shown).mean() > 0.99


def test_the_command_says_its_address_and_warns_of_other_hosts(tiny_sd):
    words = ["serve", "--model", str(tiny_sd), "--device", "cpu", "--port", "0", "--host", "0.0.0.0"]  # fmt: skip
    running = subprocess.Popen(
        [sys.executable, "-m", "attnseg", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        address = running.stdout.readline().split()[0].replace("0.0.0.0", "127.0.0.1")
        with urllib.request.urlopen(address, timeout=30) as said:
            assert b"<title>attnseg" in said.read()
            assert "frame-ancestors" not in said.headers["Content-Security-Policy"]
    finally:
        running.terminate()
        _, errors = running.communicate(timeout=60)
    (line,) = errors.splitlines()
    assert line.startswith("warning: whoever reaches 0.0.0.0 can use")


def test_a_space_s_last_line_serves_the_miniature_and_its_examples(tmp_path):
    """In a folder made by the commands of space/README.md, as its Dockerfile says."""
    readme = (REPOSITORY / "space" / "README.md").read_text()
    copies = [line for line in readme.splitlines() if line.startswith("cp ")]
    assert len(copies) == 2
    for line in copies:
        done = line.replace("PATH_TO_CLONE", shlex.quote(str(REPOSITORY)))
        subprocess.run(["bash", "-c", done], cwd=tmp_path, check=True)
    (environment,) = re.findall("^ENV (.*)", (tmp_path / "Dockerfile").read_text(), re.MULTILINE)
    (start,) = re.findall("^CMD (.*)", (tmp_path / "Dockerfile").read_text(), re.MULTILINE)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "attnseg"  # as pip would install it
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m attnseg "$@"\n')
    program.chmod(0o755)
    inside = environment.replace("/home/user/app", str(tmp_path))
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    running = subprocess.Popen(
        ["sh", "-c", f"export {inside}; {start.replace('--port 7860', '--port 0')}"],
        cwd=tmp_path, env=os.environ | {"PATH": path}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        address = running.stdout.readline().split()[0].replace("0.0.0.0", "127.0.0.1")
        asked = urllib.request.Request(address + "api/model", headers={"Host": "you.hf.space"})
        told = json.load(urllib.request.urlopen(asked, timeout=60))
    finally:
        running.terminate()
        running.communicate(timeout=60)
    assert told["model"] == "assets/mini_sd" and len(told["examples"]) == 6


def test_a_port_that_is_taken_is_one_line(page):
    with pytest.raises(UserError, match=f"port {page.server_port}: .* choose others"):
        server.listening("127.0.0.1", page.server_port)


def test_torch_is_not_asked_for_gradients_by_any_thread(page, network):
    """A thread starts with gradients on: records must not hold graphs."""
    visitor = Visitor(page)
    number = visitor.add(photo())
    visitor.post(f"api/photos/{number}/look", {"classes": "dog", "noises": 1})
    kept = page.store.get(visitor.session).photos[number].kept
    assert not any(t.requires_grad for _, rs in kept.sentences for r in rs for t in (r.crosses, *r.selves[0][:2]))  # fmt: skip
    assert isinstance(kept.maps(1), torch.Tensor) and not kept.maps(1).requires_grad


def test_words_are_parted_by_commas_or_as_in_labels_csv():
    assert answers.named("dog , sofa= couch,") == (["dog", "sofa"], {"sofa": "couch"})
    assert answers.named("dog; sofa=couch") == (["dog", "sofa"], {"sofa": "couch"})
