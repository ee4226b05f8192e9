"""Reading a Mug19 folder: each mistake in it is a one-line error."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnseg.datasets.mug19 import read_mug19
from attnseg.errors import UserError
from attnseg.io.files import images_in


@pytest.fixture
def root(tmp_path) -> Path:
    """Two mugs, a scene of both, two questions."""
    subjects = {name: {"class": "mug", "series": "plain"} for name in ("red", "blue")}
    scene = {"instances": [{"subject": "red"}, {"subject": "blue"}], "views": ["000"]}
    triplet = {
        "id": "1", "scene": "s", "view": "000", "instance": 1, "subject": "red",
        "description": "the mug filled with tea", "splits": ["all"],
    }  # fmt: skip
    other = triplet | {"id": "2", "splits": ["variant"], "subject": "blue"}
    write(tmp_path, subjects=subjects, scenes={"s": scene}, triplets=[triplet, other])
    for subject in subjects:
        (tmp_path / "subjects" / subject).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (8, 8)).save(tmp_path / "subjects" / subject / f"{i}.png")
    for folder in ("scenes/s", "masks/s"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(tmp_path / "scenes/s/000.png")
    mask = np.zeros((6, 8), np.uint8)
    mask[:3, :4], mask[3:, 4:] = 1, 2
    Image.fromarray(mask).save(tmp_path / "masks/s/000.png")
    return tmp_path


def write(root: Path, **files) -> None:
    for name, content in files.items():
        (root / f"{name}.json").write_text(json.dumps(content))


def read(root: Path, name: str):
    return json.loads((root / f"{name}.json").read_text())


def test_subjects_scenes_and_triplets_are_read(root):
    data = read_mug19(root)
    assert data.instances("s") == ["red", "blue"]
    assert [p.name for p in data.photos("red")] == ["0.png", "1.png"]
    assert data.read_view("s", "000").shape == (6, 8, 3)
    masks = data.read_masks("s", "000")
    assert masks.shape == (2, 6, 8) and masks.sum() == 24
    assert masks[0, :3, :4].all() and masks[1, 3:, 4:].all()
    assert [(t.instance, t.variant) for t in data.triplets] == [(1, False), (1, True)]


def test_questions_by_variants_are_a_group_of_their_own(root):
    groups = read_mug19(root).groups()
    assert {key: [t.id for t in group] for key, group in groups.items()} == {
        ("s", "000", False): ["1"],
        ("s", "000", True): ["2"],
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scene": "t"}, "no view 000 of scene 't'"),
        ({"view": "9"}, "no view 9"),
        ({"instance": 3}, "instances 1 to 2, not 3"),
        ({"subject": "green"}, "'green' is not a subject"),
        ({"subject": "blue"}, "must be the instance's own"),
        ({"splits": ["variant"]}, "must be a sibling's"),
        ({"splits": ["some"]}, "its splits must be some of"),
        ({"description": "the cup"}, "does not name the class"),
        ({"id": "2"}, "repeated id"),
    ],
)
def test_a_wrong_triplet_is_named(root, change, said):
    triplets = read(root, "triplets")
    write(root, triplets=[triplets[0] | change, triplets[1]])
    with pytest.raises(UserError, match=said) as raised:
        read_mug19(root)
    assert "triplets.json" in str(raised.value) and "\n" not in str(raised.value)


def test_a_scene_with_an_unknown_subject_is_named(root):
    scenes = read(root, "scenes")
    scenes["s"]["instances"][0]["subject"] = "gone"
    write(root, scenes=scenes)
    with pytest.raises(UserError, match="scene s holds 'gone'"):
        read_mug19(root)


def test_asking_twice_for_an_instance_is_refused(root):
    triplets = read(root, "triplets")
    write(root, triplets=[*triplets, triplets[0] | {"id": "3"}])
    with pytest.raises(UserError, match="has two triplets"):
        read_mug19(root)


def test_a_missing_key_a_missing_file_and_damaged_json_are_named(root):
    triplets = read(root, "triplets")
    del triplets[0]["view"]
    write(root, triplets=triplets)
    with pytest.raises(UserError, match="lacks 'view'"):
        read_mug19(root)
    (root / "triplets.json").write_text("[{")
    with pytest.raises(UserError, match="triplets.json: damaged JSON"):
        read_mug19(root)
    (root / "scenes.json").unlink()
    with pytest.raises(UserError, match="scenes.json: no such file"):
        read_mug19(root)
    with pytest.raises(UserError, match="no such folder of photos"):
        images_in(root / "nowhere")


def test_photos_and_masks_that_do_not_fit_are_named(root):
    data = read_mug19(root)
    with pytest.raises(UserError, match="the mask is 8x6 pixels and its photo 9x6"):
        data.read_masks("s", "000", (6, 9))
    (root / "scenes/s/000.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="000.png: not a readable image"):
        data.read_view("s", "000")
