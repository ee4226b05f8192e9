"""Masks that were lost or changed behind the workflow's back."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train_segmentor
from attnseg.errors import UserError
from attnseg.io import digests
from attnseg.io.digests import check_files
from attnseg.io.files import start_folder
from attnseg.io.items import write_items

NAMES = ["a.png", "b.png", "far/c.png", "sure/a.png", "sure/b.png", "sure/far/c.png"]


def draw(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


def work(folder: Path, name: str) -> dict:
    """Write the two pictures of an item that are not there, and note it."""
    for path in (folder / f"{name}.png", folder / "sure" / f"{name}.png"):
        if not path.exists():
            draw(path, len(path.parts))
            with open(folder / "made", "a") as file:
                print(path.relative_to(folder), file=file)
    return {"id": name}


def made(folder: Path, parameter: int = 1) -> list[str]:
    """What writing the items makes."""
    (folder / "made").unlink(missing_ok=True)
    write_items(
        [folder], {"a": parameter}, functools.partial(work, folder), ["a", "b", "far/c"],
        names=["{id}.png", "sure/{id}.png"],
    )  # fmt: skip
    return (folder / "made").read_text().split() if (folder / "made").exists() else []


def test_a_run_with_other_parameters_that_was_killed_keeps_the_masks_it_finished(tmp_path):
    made(tmp_path)
    start_folder(tmp_path, {"a": 2})
    for name in NAMES[1:]:  # all but one, and other masks than before
        draw(tmp_path / name, 99)
    assert made(tmp_path, 2) == ["a.png"]


@pytest.mark.parametrize("lost", [False, True], ids=["digests", "without digests"])
def test_other_parameters_delete_no_mask_that_was_corrected_or_added(tmp_path, capsys, lost):
    made(tmp_path)
    draw(tmp_path / "a.png", 77)
    draw(tmp_path / "mine.png", 78)
    if lost:
        (tmp_path / "digests.json").unlink()
    corrected = (tmp_path / "a.png").read_bytes()
    start_folder(tmp_path, {"a": 2})
    assert (tmp_path / "a.png.bad").read_bytes() == corrected
    assert (tmp_path / "mine.png.bad").exists()
    assert (tmp_path / "b.png.bad").exists() == lost  # nobody knows whether it was corrected
    assert "a.png: not as it was made here; renamed to a.png.bad" in capsys.readouterr().err


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-14] ^= 1  # of the pixels' checksum
    path.write_bytes(content)


DAMAGES = {
    "missing": Path.unlink,
    "flipped": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "another mask": lambda path: draw(path, 77),
}


@pytest.mark.parametrize("name", ["b.png", "sure/far/c.png"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_mask_is_named_and_made_again_alone(tmp_path, name, damage):
    assert sorted(made(tmp_path)) == NAMES
    good = {n: (tmp_path / n).read_bytes() for n in NAMES}
    check_files(tmp_path, NAMES)
    DAMAGES[damage](tmp_path / name)
    wrong = (tmp_path / name).read_bytes() if damage != "missing" else None
    with pytest.raises(
        UserError, match=f"{name} is (missing|damaged); .*renamed to \\*.bad, .* so that the next"
    ):
        check_files(tmp_path, NAMES)
    assert not (tmp_path / "manifest.json").exists()  # which is what the workflow goes by
    aside = tmp_path / f"{name}.bad"  # a user may have corrected it
    assert (aside.read_bytes() if aside.exists() else None) == wrong
    assert made(tmp_path) == [name]
    assert good == {n: (tmp_path / n).read_bytes() for n in NAMES}
    check_files(tmp_path, NAMES)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_run_that_was_killed_goes_on_with_whole_masks_alone(tmp_path, damage):
    made(tmp_path)
    for name in ("manifest.json", "digests.json"):
        (tmp_path / name).unlink()
    DAMAGES[damage](tmp_path / "a.png")
    assert made(tmp_path) == ["a.png"]


@pytest.mark.parametrize("content", ["[]", "[1]", "5", "null", "{"])
def test_digests_that_are_no_mapping_are_none(tmp_path, content):
    made(tmp_path)
    (tmp_path / "digests.json").write_text(content)
    check_files(tmp_path, NAMES)
    assert made(tmp_path) == []


def test_a_damaged_mask_that_another_process_removed_is_no_error(tmp_path, monkeypatch):
    made(tmp_path)
    monkeypatch.setattr(digests, "problem_with", lambda path, _: path.unlink() or "damaged")
    digests.remove_damaged(tmp_path)
    assert not list(tmp_path.rglob("*.png"))


def test_a_mask_that_was_edited_is_never_lost(tmp_path, capsys):
    """Neither to a job that goes on, nor to one with other parameters, nor to the next edit."""
    made(tmp_path)
    contents = []
    for parameter, value in ((1, 50), (2, 60), (2, 70)):
        draw(tmp_path / "far/c.png", value)
        contents.append((tmp_path / "far/c.png").read_bytes())
        assert "far/c.png" in made(tmp_path, parameter)
        assert "far/c.png: " in (said := capsys.readouterr().err) and "edited" in said
    kept = [tmp_path / f"far/c.png.bad{number}" for number in ("", 2, 3)]
    assert [path.read_bytes() for path in kept] == contents
    assert not list(tmp_path.glob("*.bad*"))  # the others were as they were made
    check_files(tmp_path, NAMES)


@pytest.mark.parametrize("finished", [True, False])
def test_a_training_takes_edited_masks_that_it_is_told_are_finished(tmp_path, finished):
    """As `attnseg init --train-on` tells it; masks that the workflow made must be as they were made."""
    masks, photos = tmp_path / "masks", tmp_path / "photos"
    made(masks)
    draw(masks / "b.png", 1)  # by hand
    for name in ("a.png", "b.png", "far/c.png"):
        draw(photos / name, 0)
    (photos / "more.png").write_bytes((photos / "a.png").read_bytes())  # has no mask
    data = {"classes": ["dog"], "photos": "{id}.*", "masks": f"{masks}/{{id}}.png"}
    data |= {} if finished else {"masks": "truth/{id}.png"}
    words = ["--dataset", json.dumps({"key": "pets", **data})]
    words += ["--root", photos, "--train-split", "train", "--train-masks", masks, "--device", "cpu"]
    said = "more.png: no such file" if finished else "b.png is damaged"
    with pytest.raises(UserError, match=said):
        train_segmentor.main([*map(str, words), "--output", str(tmp_path / "w.safetensors")])
    assert (masks / "b.png.bad").exists() != finished


def test_masks_of_somebody_else_are_left_as_they_are(tmp_path):
    draw(tmp_path / "a.png", 1)
    (tmp_path / "manifest.json").touch()
    check_files(tmp_path, ["a.png", "b.png"])
    assert (tmp_path / "manifest.json").exists()
