"""The facts of data sets, each stated in one place."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnseg import datasets
from attnseg.core.geometry import own_fit
from attnseg.errors import UserError
from attnseg.settings import RefinementJob
from attnseg.text2mask.refine import refine

REPOSITORY = Path(__file__).resolve().parents[2]
TOY = {"classes": ["cat", "dog"], "background": False}


def picture(path, size=(4, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1]).save(path)


def test_facts_are_read_without_numpy_pil_or_torch():
    program = (
        "import sys; from attnseg import datasets; from dataclasses import fields\n"
        "for name in datasets.SHIPPED:\n"
        "    data = datasets.load(name, {})\n"
        "    [getattr(data, field.name) for field in fields(data)]\n"
        "    data.class_names, data.identity(), data.vocabulary(), data.photo_folder('train')\n"
        "    data.training_masks('train'), data.unclassed, data.caption_names(True)\n"
        "print(*{'numpy', 'PIL', 'torch'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_no_other_code_names_a_data_set():
    """But for the papers' tables and figures, the mini world, and what is personal, which is Mug19's."""
    names = re.compile(rf"""(["'])({"|".join(datasets.SHIPPED)})\1""")
    free = ("attnseg/datasets/", "attnseg/results/", "attnseg/mini/world/")
    mini = {"build_mini_world.py", "benchmark_mini.py"}
    mug19 = {
        "subjects.py", "evaluate_instances.py",
        "evaluations.py",  # a kind of evaluation has its name
    }  # fmt: skip
    formats = {"export.py"}  # which are named after them
    figures = REPOSITORY / "scripts/attnseg/settings/data.py"  # defaults of the papers' figures
    files = [*(REPOSITORY / "scripts").rglob("*.py"), *(REPOSITORY / "workflow").rglob("*.smk")]
    for file in files:
        free_here = {"mug19"} if file.name in mug19 else {"voc"} if file == figures else set()
        if file.name in mini | formats or any(folder in file.as_posix() for folder in free):
            continue
        code = re.sub(r'""".*?"""|#.*', "", file.read_text(), flags=re.DOTALL)
        found = {name for _, name in names.findall(code)}
        assert found <= free_here, file


def test_numbers_begin_where_the_background_ends():
    toy, voc = datasets.load("toy", TOY), datasets.load("voc")
    assert (toy.class_names, toy.number("dog"), toy.unclassed) == (["cat", "dog"], 1, 255)
    assert (voc.class_names[0], voc.number("bicycle"), voc.unclassed) == ("background", 2, 0)
    assert datasets.load("imagenet_s").number("n01443537") == 1
    with pytest.raises(UserError, match="'cow' is not a class of toy"):
        toy.number("cow")
    assert toy.colours()[0].any() and not voc.colours()[0].any()
    assert (toy.colours()[255] == voc.colours()[255]).all()


def test_without_a_background_every_pixel_is_its_best_class():
    rng = np.random.default_rng(0)
    image, maps = np.zeros((8, 8, 3), np.uint8), torch.from_numpy(rng.random((2, 8, 8)) / 9).float()
    fit = own_fit(8, 8, 8)
    labels, _ = refine(image, maps, fit, RefinementJob(crf=None), background=False)
    assert (labels == maps.argmax(0).numpy()).all()
    assert not refine(image, maps, fit, RefinementJob(crf=None))[
        0
    ].any()  # all far below the background


def test_photos_of_any_suffix_are_found_in_their_split(tmp_path):
    toy = datasets.load("toy", TOY)
    for name in ("train/a.JPG", "train/deep/b.Png", "train/c.webp", "val/a.jpeg"):
        picture(tmp_path / "images" / name)
    (tmp_path / "images/train/notes.txt").write_text("no photo")
    (tmp_path / "images/train/.a.png").write_bytes(b"")
    assert toy.read_split(tmp_path, "train") == ["a", "c", "deep/b"]
    assert toy.image_path(tmp_path, "a", "train").name == "a.JPG"
    assert toy.image_path(tmp_path, "deep/b", "train").name == "b.Png"
    assert toy.image_path(tmp_path, "c").name == "c.webp"
    with pytest.raises(UserError, match="two files of 'a'"):
        toy.image_path(tmp_path, "a")
    picture(tmp_path / "images/train/a.png")
    with pytest.raises(UserError, match="two files of 'a'"):
        toy.read_split(tmp_path, "train")
    with pytest.raises(UserError, match="no files .* of split 'dev': check datasets.toy.root"):
        toy.read_split(tmp_path, "dev")
    with pytest.raises(UserError, match="datasets.toy: no pattern of its files; set photos"):
        dataclasses.replace(toy, photos=None).read_split(tmp_path, "train")


def test_labels_come_from_a_table_a_folder_a_mask_or_xml(tmp_path):
    settings = {
        **TOY, "photos": "{split}/*/{id}.*", "masks": "truth/{id}.png", "mask_values": [7, 9],
        "annotations": "{id}.xml",
    }  # fmt: skip
    toy = datasets.load("toy", settings)
    picture(tmp_path / "train/dog/a.png")
    (tmp_path / "labels.csv").write_text("id,classes\na,dog;cat\nb,\n")
    (tmp_path / "a.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    (tmp_path / "truth").mkdir()
    Image.fromarray(np.array([[7, 9, 3, 0]], np.uint8)).save(tmp_path / "truth/a.png")
    sources = [source for source in toy.label_sources if source != "instances"]
    found = {source: toy.labels(tmp_path, "a", source, "train") for source in sources}
    assert found == {"csv": ["cat", "dog"], "folders": ["dog"], "mask": ["cat", "dog"], "xml": ["cat"], "known": ["cat"], "all": ["cat", "dog"]}  # fmt: skip
    assert toy.read_truth(tmp_path, "a").tolist() == [[0, 1, 255, 255]]
    assert toy.training_masks("train") is None
    assert datasets.load("toy", TOY).training_masks("train") == "masks/train"
    with pytest.raises(UserError, match="b: no class, and toy has no background"):
        toy.labels(tmp_path, "b")
    assert datasets.load("toy", {**settings, "labels": "folders"}).label_sources[0] == "folders"


def test_two_data_sets_of_one_layout_stand_side_by_side():
    entry = {"layout": "voc", "root": "elsewhere", "labels": "csv", "classes": None}
    argument = datasets.argument("mine", entry)
    assert argument == {"key": "mine", "layout": "voc"}
    mine = datasets.load(json.dumps(argument))
    assert (mine.name, mine.vocabulary(), mine.identity()) == ("mine", "voc", {})
    assert mine.list_path(Path("r"), "val") == Path("r/ImageSets/Segmentation/val.txt")
    assert datasets.argument("voc", {"root": "r", "labels": "xml"}) == "voc"


def test_what_decides_masks_and_queries_of_ones_own_is_said_in_full():
    toy = datasets.load("toy", {**TOY, "synonyms": {"cat": "kitten"}, "background_words": ["sofa"]})
    assert toy.identity() == {"classes": ["cat", "dog"]}
    assert toy.vocabulary()["synonyms"] == {"cat": "kitten"}
    fewer = datasets.load("voc", {"classes": ["dog"], "background_words": ["sky"]})
    assert fewer.identity() and fewer.vocabulary() != "voc"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "toy: no such data set; give it `classes`, or a `layout`: voc, coco"),
        ({"layout": "vox"}, "no such data set"),
        ({"classes": ["cat", "cat"]}, "give at most 254 names"),
        ({**TOY, "photos": "{city}/{id}.png"}, "toy.photos: .*must contain {id}"),
        ({**TOY, "masks": "truth.png"}, "toy.masks: .*must contain {id}"),
        ({**TOY, "mask_values": [1]}, "mask_values: give one number per class"),
        ({**TOY, "synonyms": {"cow": "ox"}}, "synonyms: 'cow' is not one of its classes"),
        ({**TOY, "prompt": "a photo"}, "toy.prompt: a photo: write {}"),
        ({**TOY, "labels": "xmll"}, "labels: 'xmll': choose one of csv, mask"),
        ({"file": "absent.py"}, "absent.py: no such Python file"),
    ],
)
def test_a_contradiction_is_one_line_that_names_the_key(settings, message):
    with pytest.raises(UserError, match=message):
        datasets.load("toy", settings)


def test_a_configuration_file_names_its_one_data_set(tmp_path):
    path = tmp_path / "pets.yaml"
    path.write_text("datasets: {pets: {root: x, classes: [dog, cat], splits: {}}}\n")
    assert datasets.load(str(path)).class_names == ["background", "dog", "cat"]
    for text in ("datasets: {a: {}, b: {}}\n", "seed: 1\n", "[", "datasets: 3\n"):
        path.write_text(text)
        with pytest.raises(UserError, match="pets.yaml: not a configuration of one data set"):
            datasets.load(str(path))
    with pytest.raises(UserError, match="No such file"):
        datasets.load(str(tmp_path / "none.yaml"))
