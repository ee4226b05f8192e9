"""The page of `attnseg serve` in a headless Chromium, with the shipped miniature, as a person uses it."""

import argparse
import base64
import io
import json
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import webdriver
from PIL import Image
from webdriver import KEYS, Browser

from attnseg.app import command, serve
from attnseg.app.page import server
from attnseg.app.page.network import Network
from attnseg.mini.world.splits import voc_scene

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    not (webdriver.DRIVER and webdriver.BROWSER),
    reason="no chromium and chromedriver (Debian: chromium-driver)",
)


@pytest.fixture(scope="module")
def network():
    """The miniature, and every batch that its denoiser is given."""
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    words = ["--model", str(REPOSITORY / "assets" / "mini_sd"), "--device", "cpu"]
    network = Network(parser.parse_args(words))
    denoise, network.batches = network.backbone.denoise, []
    network.backbone.denoise = lambda *w: network.batches.append(len(w[0])) or denoise(*w)
    return network


@pytest.fixture(scope="module")
def address(network):
    with server.listening("127.0.0.1", 0) as page:
        page.network = network
        thread = threading.Thread(target=page.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{page.server_port}/"
        page.shutdown()


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def chromium(downloads):
    with webdriver.started(downloads) as browser:
        yield browser


@pytest.fixture
def browser(chromium, address):
    """A fresh visit; at its end the console is empty, and only the page's own server was asked."""
    chromium.open(address + "page.css")  # no script there that remembers the last visit anew
    chromium.js("sessionStorage.clear()")
    chromium.complaints(), chromium.requests()
    chromium.size(1300, 1000, "light")
    chromium.open(address)
    chromium.js("return started")
    yield chromium
    assert chromium.complaints() == []
    asked = chromium.requests()
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()
    assert address + "page.js" in asked


@pytest.fixture
def slow(network, monkeypatch):
    """Each call of the denoiser takes a while."""
    denoise = network.backbone.denoise
    monkeypatch.setattr(network.backbone, "denoise", lambda *w: time.sleep(0.3) or denoise(*w))


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "my scene.png"
    Image.fromarray(voc_scene(0, "val", 0).image).save(path)
    return path


def drop(browser: Browser, *paths: Path) -> None:
    """Drop files on the page, as a browser tells it."""
    script = (
        "const data = new DataTransfer(), bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));"
        "for (const [text, name] of arguments[0]) data.items.add(new File([bytes(text)], name));"
        "for (const name of ['dragenter', 'dragover', 'drop'])"
        "  document.body.dispatchEvent(new DragEvent(name, {dataTransfer: data, bubbles: true, cancelable: true}))"
    )
    browser.js(
        script, [(base64.b64encode(path.read_bytes()).decode(), path.name) for path in paths]
    )


def find(browser: Browser, path: Path, words: str) -> None:
    """Add a photo, name what is in it, and wait for the masks."""
    before = browser.js("return photos.length")
    drop(browser, path)
    browser.wait(lambda: browser.js("return photos.length > arguments[0] && current === photos[photos.length - 1]", before))  # fmt: skip
    browser.js("$('classes').value = ''")
    browser.type("#classes", words + KEYS["enter"])
    browser.wait(lambda: browser.js("return current.answer?.bytes && current.looked && $('status').innerText.includes('last mask')"))  # fmt: skip


def shown_labels(browser: Browser) -> np.ndarray:
    found = browser.js("return [current.answer.labels, current.height, current.width]")
    return np.frombuffer(base64.b64decode(found[0]), np.uint8).reshape(found[1:])


def drawn(browser: Browser) -> np.ndarray:
    """What the canvas shows once the layout has settled: [h, w, 3] uint8."""
    frames = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done($('canvas').toDataURL('image/png'))))"
    address = browser.call("POST", "/execute/async", {"script": frames, "args": []})
    content = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def downloaded(browser: Browser, downloads: Path, kind: str, name: str) -> Path:
    (downloads / name).unlink(missing_ok=True)
    browser.click(f"[data-file={kind}]")
    browser.wait(lambda: (downloads / name).is_file() and (downloads / name).stat().st_size, 20)
    return downloads / name


def test_drop_name_and_see_the_masks_that_segment_makes(browser, scene, tmp_path, downloads):
    find(browser, scene, "sheep, sofa")
    words = ["segment", scene, "--classes", "sheep,sofa", "--model", REPOSITORY / "assets" / "mini_sd", "--device", "cpu", "--output", tmp_path / "mask.png"]  # fmt: skip
    assert command.main(list(map(str, words))) == 0
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert set(np.unique(mask)) == {0, 1, 2}
    assert np.array_equal(shown_labels(browser), mask)
    # what is drawn: each class's edge in its colour, the background as in the photo
    picture, scale = drawn(browser), drawn(browser).shape[0] / 64
    image = np.asarray(Image.open(scene).convert("RGB")).astype(int)
    at = lambda i: int((i + 0.5) * scale)  # noqa: E731
    far = [(y, x) for y in range(64) for x in range(64) if not mask[y, x]]
    near = [np.abs(picture[at(y), at(x)].astype(int) - image[y, x]).max() for y, x in far]
    assert np.mean(np.array(near) <= 2) > 0.95  # but under a label
    legend = browser.text("#legend")
    for number, name in enumerate(("sheep", "sofa"), 1):
        assert f"{name} {100 * (mask == number).mean():.1f} %" in legend
    file = downloaded(browser, downloads, "mask", "my scene_mask.png")
    assert np.array_equal(np.asarray(Image.open(file)), mask)


def test_every_slider_changes_the_picture_without_a_pass(browser, scene, network):
    find(browser, scene, "sheep, sofa, motorbike")
    passes, usual = len(network.batches), drawn(browser)
    labels = shown_labels(browser)
    for name, value in (
        ("opacity", 0.1), ("threshold", 0.5), ("power", 0.5), ("iterations", 0), ("position", 30),
        ("colour", 40), ("smoothness", 6),
    ):  # fmt: skip
        browser.slide(name, value)
        browser.wait(lambda: not np.array_equal(drawn(browser), usual), 20)
        assert (name == "opacity") == np.array_equal(shown_labels(browser), labels)
        browser.click("#reset")
        browser.wait(lambda: np.array_equal(drawn(browser), usual), 20)
    browser.click("#crf")
    browser.wait(lambda: not np.array_equal(drawn(browser), usual), 20)
    assert not browser.shown("#position")
    assert len(network.batches) == passes
    assert "from the kept attention" in browser.text("#status")


def test_the_photo_keeps_its_size_when_the_page_grows_past_the_window(browser, scene):
    """Else the scrollbar would take its place from the photo, and the picture would be another."""
    drop(browser, scene)
    browser.wait(lambda: browser.js("return current && $('canvas').width > 300"))
    high = browser.js("return Math.ceil(document.body.getBoundingClientRect().bottom + scrollY)")
    browser.size(1300, high + 2, "light")
    browser.wait(lambda: browser.js("return innerHeight") == high + 2)
    past = "const d = document.documentElement; return d.scrollHeight > d.clientHeight"
    drawn(browser)
    assert not browser.js(past)
    browser.js("window.widths = new Set(); new ResizeObserver(() => widths.add($('canvas').width)).observe($('canvas'))")  # fmt: skip
    browser.type("#classes", "sheep, sofa" + KEYS["enter"])
    browser.wait(lambda: "last mask" in browser.text("#status"))
    drawn(browser)
    assert browser.js(past)
    assert len(browser.js("return [...widths]")) == 1


def test_hovering_and_arrow_keys_show_what_a_pixel_attends_to(browser, scene, network):
    find(browser, scene, "sheep, sofa")
    passes = len(network.batches)
    browser.hover("#canvas")
    browser.wait(lambda: "Column" in browser.text("#pixel-text"))
    column, row = map(int, re.findall(r"\d+", browser.text("#pixel-text")))
    assert abs(column - 32) <= 1 and abs(row - 32) <= 1
    assert browser.shown("#attended")
    before = browser.js("return $('attended').toDataURL()")
    scores = browser.text("#pixel-scores")
    assert all(name in scores for name in ("background", "sheep", "sofa"))
    browser.js("$('canvas').focus()")
    browser.type("#canvas", KEYS["right"] + KEYS["down"] * 2)
    browser.wait(lambda: f"Column {column + 1}, row {row + 2}." in browser.text("#pixel-text"))
    browser.hover("#canvas", -200, -200)
    browser.wait(lambda: browser.js("return $('attended').toDataURL()") != before)
    assert len(network.batches) == passes


def test_the_maps_behind_a_class_open_by_one_click_and_lie_over_the_photo(browser, scene, network):
    find(browser, scene, "sheep, sofa")
    passes, usual = len(network.batches), drawn(browser)
    browser.click("#legend button:nth-of-type(2)")
    browser.wait(lambda: browser.shown("#maps button"))
    assert browser.text("#maps-title") == "What is behind sofa"
    titles = browser.js("return [...$('maps').querySelectorAll('button')].map((b) => b.innerText)")
    for told in ("Cross (16", "after 1 propagation", "after 2 propagations", "block 5", "block 6"):
        assert any(told in title for title in titles), told
    browser.click("#maps li:nth-of-type(3) button")
    browser.wait(lambda: not np.array_equal(drawn(browser), usual))
    browser.click("#maps li:nth-of-type(3) button")
    browser.wait(lambda: np.array_equal(drawn(browser), usual))
    browser.slide("iterations", 4)
    browser.wait(lambda: "after 4 propagations" in browser.text("#maps"))
    assert len(network.batches) == passes


def test_downloads_read_back_and_several_photos_keep_their_answers(
    browser, scene, tmp_path, downloads
):
    pytest.importorskip("cv2", reason="the extra `export`")
    from pycocotools.coco import COCO

    find(browser, scene, "sheep, sofa")
    first = shown_labels(browser)
    other = tmp_path / "other.png"
    Image.fromarray(voc_scene(0, "val", 2).image).save(other)
    find(browser, other, "dog, bicycle")
    browser.js("$('photos').querySelector('button').click()")
    browser.wait(lambda: browser.js("return current.name") == "my scene.png")
    assert np.array_equal(shown_labels(browser), first)
    assert browser.js("return $('classes').value") == "sheep, sofa"
    coco = COCO(downloaded(browser, downloads, "coco", "coco.json"))
    names = [image["file_name"] for image in coco.dataset["images"]]
    assert names == ["my scene.png", "other.png"]
    (sheep,) = coco.getCatIds(catNms=["sheep"])
    found = sum(coco.annToMask(a) for a in coco.loadAnns(coco.getAnnIds([1], [sheep])))
    assert np.array_equal(found > 0, first == 1)
    overlay = np.asarray(Image.open(downloaded(browser, downloads, "overlay", "my scene_overlay.png")))  # fmt: skip
    assert overlay.shape[1] >= 64 and overlay.shape[0] > 64
    browser.click("#command")
    browser.wait(lambda: browser.shown("#command-text"))
    assert browser.text("#command-text").startswith("attnseg segment 'my scene.png' --classes sheep,sofa --model")  # fmt: skip
    # a reload keeps them
    browser.call("POST", "/refresh")
    browser.wait(lambda: browser.js("return typeof photos !== 'undefined' && photos.length == 2 && current?.answer"))  # fmt: skip
    browser.js("$('photos').querySelector('button').click()")
    browser.wait(lambda: browser.js("return current.name == 'my scene.png' && current.answer"))
    assert np.array_equal(shown_labels(browser), first)


def test_mistakes_are_said_in_the_page(browser, scene, tmp_path):
    damaged = tmp_path / "holiday.jpg"
    damaged.write_bytes(scene.read_bytes()[:50])
    drop(browser, damaged)
    browser.wait(lambda: "holiday.jpg: not a readable image" in browser.text("#error"))
    browser.js("model.bytes = 1000")
    drop(browser, scene)
    browser.wait(lambda: "make it smaller" in browser.text("#error"))
    browser.js(f"model.bytes = {2**25}")
    find(browser, scene, "sheep")
    assert not browser.shown("#error")
    browser.js("$('classes').value = arguments[0]", "traffic light " * 60)
    browser.click("#look")
    browser.wait(lambda: "past the text encoder's window" in browser.text("#error"))
    browser.js("$('classes').value = ''")
    browser.click("#look")
    browser.wait(lambda: "Name what is in the photo" in browser.text("#error"))
    assert browser.js("return current.answer.classes[1].name") == "sheep"  # is still there
    # on a small screen, the words and what is wrong with them are in sight at once
    browser.size(380, 760, "light")
    browser.js("$('classes').scrollIntoView({block: 'center'})")
    browser.js("$('classes').value = 'sheep, sheep'")
    browser.click("#look")
    browser.wait(lambda: "named twice" in browser.text("#error"))
    inside = "const b = $(arguments[0]).getBoundingClientRect(); return b.top >= 0 && b.bottom <= innerHeight"  # fmt: skip
    assert browser.js("return scrollY") > 100
    assert browser.js(inside, "error") and browser.js(inside, "classes")


def test_several_files_are_added_past_a_damaged_one_and_named_in_a_row(browser, scene, tmp_path):
    """A person with three photos who wants a COCO file: words and Enter for each, and one press."""
    damaged = tmp_path / "holiday.jpg"
    damaged.write_bytes(scene.read_bytes()[:50])
    other = tmp_path / "other.png"
    Image.fromarray(voc_scene(0, "val", 2).image).save(other)
    note = tmp_path / "note.jpg"
    note.write_text("no picture")
    drop(browser, scene, damaged, note, other)
    browser.wait(lambda: browser.shown("#error"))
    damage, no_picture = browser.text("#error").splitlines()
    assert damage.startswith("holiday.jpg: not a readable image")
    assert no_picture.startswith("note.jpg is not a picture")
    assert browser.js("return [current.name, photos.length, document.activeElement.id]") == ["my scene.png", 2, "classes"]  # fmt: skip
    coco = "[data-file=coco]"
    assert browser.text(coco) == "COCO, 0 of 2 photos"
    browser.type("#classes", "sheep" + KEYS["enter"])
    browser.wait(lambda: browser.text(coco) == "COCO, 1 of 2 photos")
    browser.click("#photos li:nth-of-type(2) button")
    browser.wait(lambda: browser.js("return current.name") == "other.png")
    assert browser.js("return document.querySelector(arguments[0]).disabled", coco) is False
    selected = "const e = document.activeElement; return e.value.slice(e.selectionStart, e.selectionEnd)"  # fmt: skip
    assert browser.js(selected) == "sheep"  # typing replaces it
    for letter in "dog":
        browser.press(letter)
    browser.press(KEYS["enter"])
    browser.wait(lambda: browser.text(coco) == "COCO, all photos")
    assert "dog" in browser.text("#legend") and not browser.shown("#error")


def test_words_are_found_in_all_photos_by_one_press(browser, scene, tmp_path, downloads, network):
    """Four actions to a COCO file of three photos: drop, type, press, press."""
    pytest.importorskip("cv2", reason="the extra `export`")
    paths = [scene]
    for i in (2, 3):
        paths.append(tmp_path / f"photo {i}.png")
        Image.fromarray(voc_scene(0, "val", i).image).save(paths[-1])
    assert not browser.shown("#look-all")
    drop(browser, *paths)
    browser.wait(lambda: browser.text("#look-all") == "Find in all 3" and browser.js("return document.activeElement.id === 'classes'"))  # fmt: skip
    calls = len(network.batches)
    browser.type("#classes", "sheep, sofa")
    browser.click("#look-all")
    browser.wait(lambda: browser.text("[data-file=coco]") == "COCO, all photos")
    browser.wait(lambda: browser.js("return photos.every((photo) => photo.answer)"))
    assert not browser.shown("#look-all") and not browser.shown("#error")
    content = json.loads(downloaded(browser, downloads, "coco", "coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [path.name for path in paths]
    assert len(network.batches) - calls == 3
    browser.js("$('photos').querySelector('button').click()")
    browser.wait(lambda: browser.js("return current.name") == "my scene.png")
    labels = shown_labels(browser)
    find(browser, scene, "sheep, sofa")  # the same as by itself; a further one has two names
    assert np.array_equal(shown_labels(browser), labels)


def test_a_wrong_word_is_corrected_in_all_photos_that_had_it(browser, scene, tmp_path, network):
    paths = [scene]
    for i in (2, 3):
        paths.append(tmp_path / f"photo {i}.png")
        Image.fromarray(voc_scene(0, "val", i).image).save(paths[-1])
    drop(browser, *paths)
    browser.wait(lambda: browser.text("#look-all") == "Find in all 3")

    def ask(words: str, button: str) -> None:
        browser.js("$('classes').value = ''")
        browser.type("#classes", words)
        browser.click(button)
        browser.wait(lambda: browser.js("return current.asked.classes === arguments[0] && !$('look').disabled && !$('look-all').disabled", words))  # fmt: skip

    asked = "return photos.map((photo) => photo.asked.classes)"
    ask("shep", "#look-all")
    assert browser.js(asked) == ["shep"] * 3 and not browser.shown("#look-all")
    browser.js("$('noises').value = 1")
    browser.type("#classes", "!")
    assert browser.text("#look-all") == "Find in all 3"
    ask("sheep", "#look-all")
    assert browser.js(asked) == ["sheep"] * 3
    assert browser.js("return photos.map((photo) => photo.asked.noises)") == [1] * 3
    ask("dog", "#look")  # the third has other words, and keeps them
    browser.js("$('photos').querySelector('button').click()")
    browser.wait(lambda: browser.js("return current.name") == "my scene.png")
    browser.type("#classes", ", sofa")
    assert browser.text("#look-all") == "Find in the 2 alike"
    calls = len(network.batches)
    browser.js("$('classes').value = 'traffic light '.repeat(60)")
    browser.click("#look-all")
    browser.wait(
        lambda: browser.shown("#error") and not browser.js("return $('look-all').disabled")
    )
    assert browser.js(asked) == ["sheep", "sheep", "dog"] and len(network.batches) == calls
    ask("sheep, sofa", "#look-all")
    assert browser.js(asked) == ["sheep, sofa", "sheep, sofa", "dog"]


def test_two_tabs_at_once_have_their_own_photos(browser, address, scene, tmp_path, slow):
    one = browser.call("GET", "/window")
    other = tmp_path / "other.png"
    Image.fromarray(voc_scene(0, "val", 2).image).save(other)
    visits = [(scene, "sheep, sofa"), (other, "dog, bicycle")]
    alone = []
    for path, words in visits:
        find(browser, path, words)
        alone.append(shown_labels(browser))
    tabs = []
    for path, words in visits:  # the second asks while the first is looked at
        tabs.append(browser.call("POST", "/window/new", {"type": "tab"})["handle"])
        browser.call("POST", "/window", {"handle": tabs[-1]})
        browser.open(address)
        browser.js("return started")
        assert browser.js("return photos.length") == 0
        drop(browser, path)
        browser.wait(lambda: browser.js("return current && !$('look').disabled"))
        browser.type("#classes", words + KEYS["enter"])
    for tab, (path, _), labels in zip(tabs, visits, alone, strict=True):
        browser.call("POST", "/window", {"handle": tab})
        browser.wait(lambda: browser.js("return current.answer?.bytes && true"))
        assert browser.js("return photos.map((photo) => photo.name)") == [path.name]
        assert np.array_equal(shown_labels(browser), labels)
        browser.call("DELETE", "/window")
    browser.call("POST", "/window", {"handle": one})
    assert browser.js("return photos.length") == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 800, 2000])
def test_it_fits_any_width_and_can_be_read(browser, scene, width, scheme, slow):
    browser.size(width, 900, scheme)
    find(browser, scene, "sheep, sofa")
    browser.click("#legend button")
    browser.wait(lambda: browser.shown("#maps button"))
    assert browser.js("return document.documentElement.scrollWidth") <= width
    wide = "return [...document.querySelectorAll('button, input, canvas, p, pre')].filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"  # fmt: skip
    assert browser.js(wide) == []
    browser.click("#tab-draw")
    browser.js("$('steps').value = 2")
    browser.type("#prompt", "a sheep, a motorbike and a sofa" + KEYS["enter"])
    browser.wait(lambda: browser.shown("#draw-working"))
    assert browser.js(wide) == []
    browser.wait(lambda: "2 steps in" in browser.text("#drawn-status"))
    assert browser.js("return document.documentElement.scrollWidth") <= width
    assert browser.js(wide) == []
    browser.click("#tab-find")
    # WCAG's contrast of the text of the page and of its main button
    script = "return arguments[0].map((s) => { const c = getComputedStyle(document.querySelector(s)); return [c.color, c.backgroundColor] })"
    for css in (["#find > section", "#look"], [".hint", "#find > section"]):
        pairs = browser.js(script, css)
        pairs = [(pairs[0][0], pairs[1][1])] if css[0] == ".hint" else pairs
        for ink, ground in pairs:
            assert contrast(ink, ground) >= 4.5, css


def contrast(one: str, two: str) -> float:
    """WCAG 2's contrast of two colours, rgb(r, g, b)."""

    def luminance(colour: str) -> float:
        values = np.array([float(part) for part in colour.strip("rgba()").split(",")[:3]]) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def test_everything_can_be_done_by_keyboard_and_has_a_name(browser, scene):
    find(browser, scene, "sheep, sofa")
    unnamed = "return [...document.querySelectorAll('button, input, canvas, summary')].filter((e) => e.checkVisibility() && !(e.labels?.length || e.getAttribute('aria-label') || e.innerText?.trim())).map((e) => e.outerHTML)"  # fmt: skip
    assert browser.js(unnamed) == []
    said = "return [...document.querySelectorAll('#sliders [type=range]')].map((e) => [e.ariaValueText, e.labels[0].querySelector('output').textContent])"  # fmt: skip
    assert all(spoken == shown for spoken, shown in browser.js(said))
    browser.js("document.activeElement.blur()")
    reached = set()
    for _ in range(60):
        browser.press(KEYS["tab"])
        reached.add(browser.js("const e = document.activeElement; return e.id || e.dataset.file || e.innerText"))  # fmt: skip
    for name in ("tab-find", "choose", "classes", "look", "canvas", "threshold", "crf", "mask", "coco", "command"):  # fmt: skip
        assert name in reached, name
    usual = shown_labels(browser)
    browser.type("#threshold", KEYS["left"] * 15)
    browser.wait(lambda: not np.array_equal(shown_labels(browser), usual), 20)
    browser.type("#tab-find", KEYS["right"])
    assert browser.shown("#draw") and not browser.shown("#find")
    browser.type("#tab-draw", KEYS["left"])
    assert browser.shown("#find")


def test_the_focus_stays_where_the_keyboard_left_it(browser, scene, tmp_path):
    other = tmp_path / "other.png"
    Image.fromarray(voc_scene(0, "val", 2).image).save(other)
    drop(browser, scene, other)
    browser.wait(lambda: browser.text("#look-all") == "Find in all 2")
    browser.type("#classes", "sheep, dog" + KEYS["tab"] * 2)
    browser.press(KEYS["enter"])
    browser.wait(lambda: browser.text("[data-file=coco]") == "COCO, all photos")
    focused = "const e = document.activeElement; return e.ariaLabel || e.id || e.innerText"
    browser.wait(lambda: browser.js(focused) == "look")  # the button for all is gone
    browser.press(KEYS["enter"])
    browser.wait(lambda: not browser.shown("#find-working"))
    assert browser.js(focused) == "look"
    browser.js("$('photos').querySelector('button').focus()")
    browser.press(KEYS["enter"])
    browser.wait(lambda: browser.js("return current.name") == "my scene.png")
    assert browser.js(focused).startswith("my scene.png")
    browser.press(KEYS["tab"])
    assert browser.js(focused) == "Remove my scene.png"
    browser.press(KEYS["enter"])
    browser.wait(lambda: browser.js("return photos.length === 1 && current.name === 'other.png'"))
    assert browser.js(focused).startswith("other.png")  # Enter twice removes one photo
    browser.press(KEYS["tab"])
    browser.press(KEYS["enter"])
    browser.wait(lambda: browser.js("return photos.length") == 0)
    browser.wait(lambda: browser.js(focused) == "choose")


def test_an_example_is_looked_at_by_one_click(browser):
    browser.click("#examples li:nth-of-type(2) button")
    browser.wait(lambda: browser.js("return current?.answer && true"))
    assert browser.js("return current.answer.classes.length") >= 3


def test_a_picture_from_the_clipboard_becomes_a_photo_and_a_text_stays_a_text(browser, address):
    granted = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": address[:-1]}  # fmt: skip
    for what, values in (
        ("Browser.grantPermissions", granted),
        ("Emulation.setFocusEmulationEnabled", {"enabled": True}),
    ):
        browser.call("POST", "/goog/cdp/execute", {"cmd": what, "params": values})

    def copy(script: str) -> None:
        whole = f"const done = arguments[0]; (async () => {{ {script} }})().then(() => done(''), (e) => done(String(e)))"  # fmt: skip
        assert browser.call("POST", "/execute/async", {"script": whole, "args": []}) == ""

    copy(
        "const canvas = canvasOf(70, 50, (i) => [i % 256, 0, 0, 255]);"
        "const blob = await new Promise((made) => canvas.toBlob(made, 'image/png'));"
        "await navigator.clipboard.write([new ClipboardItem({'image/png': blob})])"
    )
    browser.js("$('classes').focus()")
    browser.press(KEYS["control"], "v")
    browser.wait(lambda: browser.js("return current?.name") == "pasted.png")
    assert browser.js("return [current.width, current.height]") == [70, 50]
    copy("await navigator.clipboard.writeText('a dog')")
    browser.js("$('classes').focus()")
    browser.press(KEYS["control"], "v")
    browser.wait(lambda: browser.js("return $('classes').value") == "a dog")
    assert browser.js("return photos.length") == 1


def test_the_camera_s_picture_becomes_a_photo(browser):
    browser.click("#camera")
    browser.wait(lambda: browser.js("return $('video').videoWidth > 0"))
    browser.click("#take")
    browser.wait(lambda: browser.js("return photos.length") == 1)
    assert browser.js("return current.name") == "camera-1.png"


def test_steps_are_shown_and_cancelled(browser, network, slow):
    browser.click("#tab-draw")
    browser.js("$('steps').value = 60")
    browser.type("#prompt", "a sheep" + KEYS["enter"])
    said = "#draw-working span"
    browser.wait(lambda: (step := re.match(r"Step (\d+) of 60, on cpu… \d+ s$", browser.text(said))) and int(step[1]) >= 3)  # fmt: skip
    step, told, most = browser.js("const bar = document.querySelector('#draw-working progress'); return [bar.value, document.querySelector('#draw-working span').innerText, bar.max]")  # fmt: skip
    assert told.startswith(f"Step {step} of 60") and most == 60
    assert browser.js("return $('generate').disabled")
    browser.click("#draw-working button")
    browser.wait(lambda: browser.text("#drawn-status") == "Cancelled.")
    assert not browser.shown("#draw-working") and not browser.shown("#error")
    time.sleep(0.7)  # the step that had begun
    calls = len(network.batches)
    time.sleep(1)
    assert len(network.batches) == calls
    browser.js("$('steps').value = 2")
    browser.click("#generate")
    browser.wait(lambda: "2 steps in" in browser.text("#drawn-status"))


def test_a_look_is_cancelled(browser, scene, slow):
    find(browser, scene, "sheep")
    before = shown_labels(browser)
    browser.js("$('classes').value = 'sofa'")
    browser.click("#look")
    browser.wait(lambda: "Looking at my scene.png, on cpu…" in browser.text("#find-working"))
    browser.click("#find-working button")
    browser.wait(lambda: browser.text("#status") == "Cancelled.")
    browser.slide("opacity", 0.3)  # the earlier masks are still there
    assert np.array_equal(shown_labels(browser), before)
    assert "sheep" in browser.text("#legend") and "sofa" not in browser.text("#legend")
    assert browser.js("return document.activeElement.id") == "look"


def test_a_picture_is_generated_and_found_in(browser, network):
    browser.click("#tab-draw")
    browser.js("$('steps').value = 8")
    browser.type("#prompt", "a photo of a sheep and a sofa" + KEYS["enter"])
    browser.wait(lambda: "from the kept attention" in browser.text("#drawn-status"))
    passes = len(network.batches)
    assert browser.js("return drawn.words.map((w) => w.word)") == ["sheep", "sofa"]
    before = browser.js("return $('drawn').toDataURL()")
    browser.click("#word-maps li:nth-of-type(2) input")
    browser.wait(lambda: browser.js("return $('drawn').toDataURL()") != before)
    assert "sofa" not in browser.text("#drawn-legend")
    browser.slide("beta", 0.7)
    browser.wait(lambda: browser.text("label[for=beta] output") == "0.70")
    assert len(network.batches) == passes
    browser.click("#drawn-find")
    browser.wait(lambda: browser.js("return photos.length") == 1)
    assert browser.js("return $('classes').value") == "sheep"
