"""`attnseg segment` of many photos: each to its mask, none lost, none passed over silently."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnseg.app import command, folders, photos
from attnseg.errors import run


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five photos of several kinds and sizes, one in a folder below, and a text file."""
    rng = np.random.default_rng(0)
    names = ("a.png", "my photo (1).JPG", "sub dir/c.webp", "d.tif", "e.png")
    for i, name in enumerate(names):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (64, 64, 3) if i < 3 else (48, 80, 3)
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


@pytest.fixture
def segment(tiny_sd, tmp_path):
    """`attnseg segment` with these arguments: its exit status."""

    def call(*words: object, model: bool = True, output: str = "masks") -> int:
        more = ["--model", tiny_sd] if model else []
        fixed = ["--noises", "1", "--device", "cpu", "--processes", "1", "--no-crf"]
        words = ("segment", *words, *fixed, *more, "--output", tmp_path / output)
        return run(lambda: command.main(list(map(str, words))))

    return call


def masks_in(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(folder).with_suffix("").as_posix(): np.asarray(Image.open(path))
        for path in sorted(folder.rglob("*.png"))
    }


def test_each_photo_has_the_mask_that_it_has_alone(folder, segment, tmp_path, capsys):
    assert segment(folder, "--classes", "dog,cat") == 0
    said = capsys.readouterr()
    assert "left out, no pictures: notes.txt" in said.err
    masks = masks_in(tmp_path / "masks")
    assert list(masks) == ["a", "d", "e", "my photo (1)", "sub dir/c"]
    assert masks["d"].shape == (48, 80)
    assert segment(folder / "a.png", "--classes", "dog,cat", output="alone.png") == 0
    alone = np.asarray(Image.open(tmp_path / "alone.png"))
    assert (alone == masks["a"]).mean() > 0.99  # other photos in the batch change roundings
    manifest = json.loads((tmp_path / "masks" / "manifest.json").read_text())
    shares = manifest["photos"]["a"]["shares"]
    counted = [100 * float((masks["a"] == number).mean()) for number in range(3)]
    assert np.allclose(list(shares.values()), counted, atol=0.01)
    assert list(shares) == ["background", "dog", "cat"]
    page = (tmp_path / "masks" / "index.html").read_text()
    for image_id in masks:
        assert f"<figcaption>{image_id}<br>" in page
        assert (tmp_path / "masks" / "overlays" / f"{image_id}.jpg").is_file()
    assert "overlays/my%20photo%20%281%29.jpg" in page


def test_finished_masks_are_kept_and_changed_photos_made_again(
    folder, segment, tmp_path, capsys, monkeypatch
):
    assert segment(folder, "--classes", "dog") == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "masks").rglob("*.png")}
    Image.new("RGB", (64, 64), "red").save(folder / "a.png")
    (tmp_path / "masks" / "e.png").unlink()
    seen = []
    read = folders.read_image
    monkeypatch.setattr(folders, "read_image", lambda path, turn: seen.append(path.name) or read(path, turn))  # fmt: skip
    assert segment(folder, "--classes", "dog") == 0
    assert seen == ["a.png", "e.png"]
    assert "3 finished before, and kept" in capsys.readouterr().out
    again = {p for p in before if p.stat().st_mtime_ns != before[p]}
    assert {p.name for p in again} == {"a.png", "e.png"}


def test_other_settings_need_another_folder_or_leave_to_overwrite(folder, segment, capsys):
    assert segment(folder, "--classes", "dog") == 0
    assert segment(folder, "--classes", "dog", "--seed", "1") == 1
    assert "made with another seed" in capsys.readouterr().err
    assert segment(folder, "--classes", "dog", "--seed", "1", "--overwrite") == 0


def test_edited_masks_are_kept_and_set_aside_before_they_are_made_again(
    folder, segment, tmp_path, capsys
):
    masks = tmp_path / "masks"
    assert segment(folder, "--classes", "dog") == 0
    for name, value in (("a", 7), ("e", 8)):
        Image.fromarray(np.full((64, 64), value, np.uint8)).save(masks / f"{name}.png")
    mine = {name: (masks / f"{name}.png").read_bytes() for name in "ae"}
    assert segment(folder, "--classes", "dog") == 0  # nothing is to be made
    assert {name: (masks / f"{name}.png").read_bytes() for name in "ae"} == mine
    assert not list(masks.rglob("*.bad"))
    os.utime(folder / "a.png")  # as a copy of the photos has it
    assert segment(folder, "--classes", "dog") == 0
    assert "a.png: edited since it was made; renamed to a.png.bad" in capsys.readouterr().err
    assert (masks / "a.png.bad").read_bytes() == mine["a"] != (masks / "a.png").read_bytes()
    assert (masks / "e.png").read_bytes() == mine["e"]
    assert segment(folder, "--classes", "dog", "--seed", "1", "--overwrite") == 0
    assert sorted(path.name for path in masks.rglob("*.bad*")) == ["a.png.bad", "e.png.bad"]
    assert (masks / "e.png.bad").read_bytes() == mine["e"]


def test_files_of_others_are_not_overwritten(folder, segment, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(b"mine")
    assert segment(folder, "--classes", "dog") == 1
    assert "not a mask of this program" in capsys.readouterr().err
    assert (tmp_path / "masks" / "a.png").read_bytes() == b"mine"


def test_damaged_photos_are_named_and_the_others_done(folder, segment, tmp_path, capsys):
    whole = (folder / "my photo (1).JPG").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("hello")
    (folder / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    assert segment(folder, "--classes", "dog") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 3 and "text.jpg" in errors[1] and "cut.jpg" in errors[2]
    assert "phone.HEIC: HEIC, which is not read; save it as JPEG" in errors[0]
    assert len(masks_in(tmp_path / "masks")) == 5


def test_classes_by_photo_are_numbered_alike(folder, segment, tmp_path, capsys):
    labels = tmp_path / "labels.csv"
    with open(labels, "w", newline="") as file:
        csv.writer(file).writerows(
            [
                ["id", "classes"],
                ["a", "cat"],
                ["sub dir/c.webp", "cat;dog"],
                ["d", ""],
                ["gone", "cat"],
            ]
        )
    assert segment(folder, "--labels", labels, "--classes", "dog,cat") == 0
    said = capsys.readouterr()
    assert "2 left out, without a line in the labels: e, my photo (1)" in said.out
    assert "labels.csv: 1 lines for none of the photos: gone" in said.err
    masks = masks_in(tmp_path / "masks")
    assert set(masks) == {"a", "sub dir/c", "d"}
    assert set(np.unique(masks["a"])) <= {0, 2}
    assert not masks["d"].any()
    labels = tmp_path / "wrong.csv"
    labels.write_text("id,classes\na,zebra\n")
    assert segment(folder, "--labels", labels, "--classes", "dog,cat", output="other") == 1
    assert "unknown class 'zebra'" in capsys.readouterr().err


def test_labels_beside_the_photos_are_found(folder, segment, tmp_path, capsys):
    lines = ["id,classes", "a,cat", "d,dog", "e,dog", "my photo (1),cat", "sub dir/c,cat;dog"]
    (folder / "labels.csv").write_text("\n".join(lines))
    assert segment(folder) == 0
    assert "labels.csv" not in capsys.readouterr().err
    masks = masks_in(tmp_path / "masks")
    assert set(np.unique(masks["a"])) <= {0, 1} and set(np.unique(masks["d"])) <= {0, 2}
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,cat\n")
    assert segment(folder, "--labels", wrong, output="other") == 1
    assert "wrong.csv, line 1: the columns must be id and classes" in capsys.readouterr().err


def test_photos_are_turned_upright_unless_told_otherwise(segment, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    path = tmp_path / "phone.png"
    Image.fromarray(pixels).save(path, exif=exif)
    upright = tmp_path / "upright" / "phone.png"
    upright.parent.mkdir()
    Image.fromarray(np.rot90(pixels, -1)).save(upright)
    for photo, output in ((path, "one.png"), (upright, "two.png")):
        assert segment(photo, "--classes", "dog", output=output) == 0
    one, two = (np.asarray(Image.open(tmp_path / name)) for name in ("one.png", "two.png"))
    assert one.shape == (80, 48) and np.array_equal(one, two)
    assert segment(path, "--classes", "dog", "--exif", "ignore", output="three.png") == 0
    assert Image.open(tmp_path / "three.png").size == (80, 48)


def test_mistakes_are_one_line(folder, segment, tmp_path, capsys):
    for words, options, said in (
        (["--classes", "dog"], {"model": False}, "--model: name a text-to-image model"),
        (["--classes", "dog"], {"output": "all.png"}, "many photos need a folder"),
        (["--classes", "dog,dog"], {}, "name each class once"),
        (["--classes", "dog", "--synonyms", "cat=kitten"], {}, "write class=word"),
        (["--classes", ",".join(f"c{i}" for i in range(256))], {}, "a mask holds 255"),
        (["--labels", tmp_path / "none.csv"], {}, "none.csv: cannot be read"),
    ):
        assert segment(folder, *words, **options) == 1
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
        assert said in line
    assert segment(tmp_path / "nowhere", "--classes", "dog") == 1
    assert "nowhere: no such photo" in capsys.readouterr().err
    Image.new("RGB", (8, 8)).save(folder / "a.bmp")
    assert segment(folder, "--classes", "dog") == 1
    assert "a.bmp" in (line := capsys.readouterr().err) and "rename one" in line


def test_words_of_ones_own_reach_the_query(folder, segment, monkeypatch):
    asked = []
    maps_of = photos.maps_of

    def seen(backbone, samples, options, *more):
        from attnseg.text2mask.extract import queries_of

        asked.append(queries_of(backbone, samples[0].classes, options)[0][1].text)
        return maps_of(backbone, samples, options, *more)

    monkeypatch.setattr(photos, "maps_of", seen)
    words = ["--classes", "dog,cat", "--synonyms", "dog=puppy", "--background-words", "grass"]
    assert segment(folder / "a.png", *words) == 0
    assert asked == ["a photo including puppy, cat, and grass."]


def test_settings_of_the_refinement_are_those_of_the_masks(folder, segment, tmp_path, capsys):
    """With a background of score 0 every pixel is of a class; with one of 2, none."""
    for threshold, share in ((0, 0.0), (2, 1.0)):
        words = ["--set", f"background.threshold={threshold}", "background.power=null"]
        assert segment(folder, "--classes", "dog,cat", *words, output=f"masks{threshold}") == 0
        assert segment(folder / "a.png", "--classes", "dog,cat", *words, output="a.png") == 0
        masks = masks_in(tmp_path / f"masks{threshold}")
        for mask in (*masks.values(), np.asarray(Image.open(tmp_path / "a.png"))):
            assert abs((mask == 0).mean() - share) < 0.01
    capsys.readouterr()
    for words, said in (
        (["--set", "source=cross"], "only keys of background and crf"),
        (["--set", "background.power=-1"], "too small"),
        (["--set", "background.powr=1"], "did you mean"),
    ):
        assert segment(folder, "--classes", "dog", *words, output="no") == 1
        assert said in capsys.readouterr().err


def test_kept_self_attention_tells_instances_and_the_file_says_so(
    folder, segment, tmp_path, capsys
):
    pytest.importorskip("cv2", reason="the extra `export`")
    from pycocotools.coco import COCO

    words = (folder, "--classes", "dog,cat", "--keep-attention")
    assert segment(*words) == 0

    def export(masks: Path, name: str, *more: str) -> int:
        args = ["export", masks, "--format", "coco", "--output", tmp_path / name, *more]
        return run(lambda: command.main(list(map(str, args))))

    masks, by = tmp_path / "masks", ("--instances", "attention")
    assert export(masks, "a.json", *by) == export(masks, "c.json") == 0
    by_attention, by_parts = COCO(tmp_path / "a.json"), COCO(tmp_path / "c.json")
    assert "self-attention" in by_attention.dataset["info"]["instances"]
    assert "connected parts" in by_parts.dataset["info"]["instances"]
    for coco in (by_attention, by_parts):  # parts of the same masks, none twice
        for image, labels in zip(coco.dataset["images"], masks_in(masks).values(), strict=True):
            entries = coco.loadAnns(coco.getAnnIds([image["id"]]))
            for number in (1, 2):
                parts = [coco.annToMask(e) for e in entries if e["category_id"] == number]
                assert np.array_equal(sum(parts, 0 * labels), labels == number)
    numbers = [len(coco.dataset["annotations"]) for coco in (by_attention, by_parts)]
    assert 5 <= numbers[0] < numbers[1]  # a random model's masks are specks
    (masks / "attention" / "d.safetensors").unlink()
    capsys.readouterr()
    assert export(masks, "b.json", *by) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "d.safetensors: not there, or damaged" in line and "--keep-attention" in line
    assert segment(*words[:3]) == 1
    assert "made with another keep attention" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_resumes_and_makes_the_same_masks(folder, tiny_sd, tmp_path):
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"more{i}.png")

    def started(output: str) -> subprocess.Popen:
        words = [
            *("segment", folder, "--classes", "dog,cat", "--model", tiny_sd, "--device", "cpu"),
            *("--noises", "1", "--processes", "1", "--output", tmp_path / output),
        ]
        return subprocess.Popen([sys.executable, "-m", "attnseg", *map(str, words)])

    assert started("whole").wait() == 0
    running = started("killed")
    while len(list((tmp_path / "killed").rglob("*.png"))) < 10:
        time.sleep(0.05)
        assert running.poll() is None
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert started("killed").wait() == 0
    whole, killed = masks_in(tmp_path / "whole"), masks_in(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert all(np.array_equal(whole[i], killed[i]) for i in whole)
