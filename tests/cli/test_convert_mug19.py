"""Mug19 from plain folders into our layout, and the list of what does not fit."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnseg.datasets.completeness import split_state
from attnseg.datasets.mug19 import DATASET, read_mug19
from attnseg.errors import UserError
from attnseg.io.modules import load_module

TOOL = Path(__file__).resolve().parents[2] / "scripts/tools/convert_mug19.py"
convert_mug19 = load_module(TOOL, "tool", "no tool")
MASK = np.zeros((6, 8), np.uint8)
MASK[:3, :4], MASK[3:, 4:] = 1, 2
ASKED = "the mug filled with tea"


def table(path: Path, *rows: tuple) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([convert_mug19.COLUMNS[path.stem], *rows])


def picture(path: Path, content: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(content).save(path)


@pytest.fixture
def plain(tmp_path) -> Path:
    """Three mugs, a scene of two of them in two views: one has a numbered mask, one a mask a mug."""
    root, photo = tmp_path / "plain", np.full((*MASK.shape, 3), 90, np.uint8)
    for subject in ("red", "blue", "pale blue"):
        picture(root / "subjects" / subject / "0.JPG", photo)
    for view in ("a", "b"):
        picture(root / "scenes/desk" / f"{view}.png", photo)
    picture(root / "masks/desk/a.png", MASK)
    for number in (1, 2):
        picture(root / f"masks/desk/b/{number}.png", 200 * (MASK == number).astype(np.uint8))
    table(
        root / "triplets.csv",
        ("desk", "a", 1, "red", ASKED, "all; semantic_distractor"),
        ("desk", "b", 2, "pale blue", ASKED, "variant"),
    )
    table(root / "instances.csv", ("desk", 2, "blue"))
    table(root / "subjects.csv", ("blue", "mug", "blues"), ("pale blue", "mug", "blues"))
    return root


def left_out(folder: Path, capsys) -> list[str]:
    """The lines of --check about what does not fit."""
    capsys.readouterr()
    assert convert_mug19.main([str(folder), "--check"]) == 1
    said = capsys.readouterr().out.splitlines()
    return [line for line in said if " left out: " in line]


def test_plain_folders_become_our_layout(plain, tmp_path, capsys):
    assert convert_mug19.main([str(plain), "--check"]) == 0
    output = tmp_path / "mug19"
    assert convert_mug19.main([str(plain), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert (
        "3 subjects, 1 scenes, 2 views" in said and "splits: {all: {images: 1}, semantic_" in said
    )
    data = read_mug19(output)
    assert data.instances("desk") == ["red", "blue"]
    assert [(t.instance, t.subject, t.variant) for t in data.triplets] == [
        (1, "red", False), (2, "pale blue", True),
    ]  # fmt: skip
    assert data.subjects["blue"]["series"] == data.subjects["pale blue"]["series"] != "red"
    for view in ("a", "b"):
        assert data.read_view("desk", view).shape[:2] == MASK.shape
        assert (data.read_masks("desk", view) == [MASK == 1, MASK == 2]).all()
    assert len(data.photos("red")) == 1
    assert split_state(DATASET, output, "all", 1).problem == ""
    with pytest.raises(UserError, match="name a new folder"):
        convert_mug19.main([str(plain), "--output", str(output)])


def test_a_scene_without_masks_is_left_out_and_counted(plain, tmp_path, capsys):
    photo = np.zeros((6, 8, 3), np.uint8)
    picture(plain / "scenes/shelf/a.png", photo)
    with open(plain / "triplets.csv", "a", newline="") as file:
        csv.writer(file).writerow(("shelf", "a", 1, "red", ASKED, "all"))
    view, scene, triplet = left_out(plain, capsys)
    assert "masks/shelf/a.png: no such file" in view
    assert scene.endswith("scenes/shelf: no view of it has a mask")
    assert "triplets.csv, line 4: there is no view a of scene 'shelf'" in triplet
    assert convert_mug19.main([str(plain), "--output", str(tmp_path / "out")]) == 0
    assert "1 scene left out" in capsys.readouterr().out
    assert list(read_mug19(tmp_path / "out").scenes) == ["desk"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("desk", "c", 1, "red", ASKED, "all"), "no view c of scene 'desk'"),
        (("desk", "a", 1, "green", ASKED, "variant"), "'green' is not a subject"),
        (("desk", "a", 3, "red", ASKED, "all"), "instances 1 to 2, not 3"),
        (("desk", "a", 2, "blue", "the cup", "all"), "does not name the class"),
        (("desk", "a", 2, "blue", ASKED, "some"), "its splits must be some of"),
        (("desk", "a", 1, "red", ASKED, "all"), "line 4: asks a second time"),
    ],
)
def test_a_triplet_that_does_not_fit_is_named_by_its_line(plain, capsys, line, said):
    with open(plain / "triplets.csv", "a", newline="") as file:
        csv.writer(file).writerow(line)
    (found,) = left_out(plain, capsys)
    assert found.startswith("triplet left out: ") and "line 4" in found and said in found


def test_masks_and_scenes_that_do_not_fit_are_named(plain, capsys):
    picture(plain / "masks/desk/a.png", MASK[:5])
    (plain / "instances.csv").unlink()
    with pytest.raises(UserError, match="no triplet fits"):
        convert_mug19.main([str(plain), "--check"])
    view, scene, *_ = capsys.readouterr().out.splitlines()
    assert "the mask is 8x5 pixels and its photo 8x6" in view
    assert "desk: instance 2: no line of triplets.csv or instances.csv has it" in scene


def test_tables_that_cannot_be_read_are_one_line(plain):
    for name, content, said in (
        (
            "triplets.csv",
            "scene,view\ndesk,a\n",
            "triplets.csv, line 2: the columns must be scene,",
        ),
        ("instances.csv", "scene,instance,subject\ndesk,two,blue\n", "'two' is no number"),
        ("triplets.csv", None, "triplets.csv: cannot be read"),
    ):
        before = (plain / name).read_text()
        (plain / name).write_text(content) if content else (plain / name).unlink()
        with pytest.raises(UserError, match=said) as error:
            convert_mug19.main([str(plain), "--check"])
        assert "\n" not in str(error.value)
        (plain / name).write_text(before)


def test_in_our_layout_a_scene_without_masks_is_one_line(plain, tmp_path):
    output = tmp_path / "mug19"
    convert_mug19.main([str(plain), "--output", str(output)])
    (output / "masks/desk/a.png").unlink()
    problem = split_state(DATASET, output, "all", 1).problem
    assert problem == f"{output}/masks/desk/a.png and 0 more masks of all missing"
