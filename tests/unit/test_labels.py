"""Image labels from a table."""

import json

import pytest

from attnseg import datasets
from attnseg.datasets.coco import DATASET as coco
from attnseg.datasets.labels import leftovers
from attnseg.datasets.voc import DATASET as voc
from attnseg.errors import UserError


def test_classes_come_in_the_data_sets_order_and_may_be_none(tmp_path):
    (tmp_path / "labels.csv").write_text("id,classes\na,person; dog\nb,\nc,potted plant\n")
    with pytest.raises(
        UserError, match="line 4: unknown class 'potted plant': known are aeroplane"
    ):
        voc.labels(tmp_path, "a", "csv")
    assert coco.labels(tmp_path, "a", "csv") == ["person", "dog"]
    assert coco.labels(tmp_path, "b", "csv") == []
    assert coco.labels(tmp_path, "c", "csv") == ["potted plant"]
    with pytest.raises(UserError, match="no line for image 'd'"):
        coco.labels(tmp_path, "d", "csv")


@pytest.mark.parametrize(
    "text, said",
    [
        ("id;classes\na;dog\n", "line 1: the columns must be id and classes"),
        ("id,classes\na,dog\na,cat\n", "line 3: repeated image 'a'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, text, said):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        voc.labels(tmp_path, "a", "csv")


def test_a_missing_table_and_a_foreign_source_are_one_line(tmp_path):
    with pytest.raises(UserError, match="labels.csv: cannot be read .*columns id and classes"):
        voc.labels(tmp_path, "a", "csv")
    with pytest.raises(UserError, match="voc has no labels of 'instances'"):
        voc.labels(tmp_path, "a", "instances")
    with pytest.raises(UserError, match="coco has no labels of 'xml'"):
        coco.labels(tmp_path, "a", "xml")


# a COCO file of one's own: ids from 0 and out of order, other years, names written otherwise
CATEGORIES = {0: "fork-lift", 7: "Traffic_Light", 3: "van", 5: "worker"}
ITEMS = {
    "images/train/a.jpg": [(0, 0), (7, 0)],
    "images\\\\train\\\\b b.PNG": [(3, 0), (5, 0), (5, 0)],
    "kitchen/c.1.jpg": [(5, 0), (0, 1)],  # a crowd of forklifts alone
    "d.jpg": [],
    "gone.jpg": [(3, 0)],
}


def coco_file(path, items=ITEMS, categories=CATEGORIES):
    numbers = {name: 100 - i for i, name in enumerate(items)}
    path.write_text(
        json.dumps(
            {
                "images": [
                    {"id": number, "file_name": name, "width": 8, "height": 8}
                    for name, number in numbers.items()
                ],
                "annotations": [
                    {"id": i, "image_id": numbers[name], "category_id": category, "iscrowd": crowd}
                    for name, found in items.items()
                    for i, (category, crowd) in enumerate(found)
                ],
                "categories": [{"id": i, "name": name} for i, name in categories.items()],
            }
        ).replace("\\\\\\\\", "\\\\")
    )
    return path


def works(annotations, **more):
    return datasets.load(
        "works",
        {
            "classes": ["traffic light", "lorry", "forklift", "crane"],
            "synonyms": {"lorry": "van", "forklift": "fork lift"},
            "annotations": str(annotations),
            "labels": "instances",
            **more,
        },
    )


def test_a_coco_file_of_any_categories_says_what_is_in_photos(tmp_path):
    own = works(coco_file(tmp_path / "own.json"))
    found = {i: own.labels(tmp_path, i) for i in ("a", "train/b b", "c.1", "sub/d")}
    assert found == {
        "a": ["traffic light", "forklift"],
        "train/b b": ["lorry"],
        "c.1": [],  # a worker is no class, and a crowd is not counted
        "sub/d": [],
    }
    with pytest.raises(UserError, match="own.json: no image 'e' among its 5"):
        own.labels(tmp_path, "e")
    lines = leftovers(own, tmp_path, list(found), "instances")
    assert [line.removeprefix(f"{tmp_path / 'own.json'}: ") for line in lines] == [
        "labels of 1 that are no photos here: gone",
        "1 names that are no class, ignored: worker (3)",
        "1 classes that it never names: crane; if it calls them otherwise, say so in synonyms",
    ]


def test_photos_of_one_name_in_folders_are_told_apart_or_refused(tmp_path):
    items = {"x/a.jpg": [(0, 0)], "y/a.jpg": [(3, 0)], "b.jpg": [(3, 0)]}
    own = works(coco_file(tmp_path / "own.json", items))
    assert own.labels(tmp_path, "x/a") == ["forklift"]
    assert own.labels(tmp_path, "deep/y/a") == ["lorry"]
    with pytest.raises(UserError, match="photo 'a' could be x/a or y/a"):
        own.labels(tmp_path, "a")
    with pytest.raises(UserError, match="own.json: b could be b or z/b"):
        leftovers(own, tmp_path, ["x/a", "y/a", "b", "z/b"], "instances")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "not a COCO annotation file"),
        (lambda text: "[]", "not a COCO annotation file"),
        (lambda text: text.replace('"categories"', '"kinds"'), "it has no 'categories'"),
        (lambda text: text.replace('"category_id": 0', '"category_id": 9'), "it has no 9"),
    ],
)
def test_a_file_that_is_not_coco_s_is_one_line(tmp_path, change, said):
    path = coco_file(tmp_path / "own.json")
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=f"own.json: .*{said}"):
        works(path).labels(tmp_path, "a")
    with pytest.raises(UserError, match="none.json: No such file"):
        works(tmp_path / "none.json").labels(tmp_path, "a")
    with pytest.raises(UserError, match="works.annotations: not set; name the COCO file"):
        works("x/{id}.xml").labels(tmp_path, "a")


def test_annotations_of_voc_may_name_more_than_the_classes_of_ones_own(tmp_path):
    for name, objects in {"a": ["Crane", "person"], "b": ["person"], "old": []}.items():
        found = "".join(f"<object><name>{word}</name></object>" for word in objects)
        (tmp_path / f"{name}.xml").write_text(f"<annotation>{found}</annotation>")
    own = works(f"{tmp_path}/{{id}}.xml", labels="xml")
    assert [own.labels(tmp_path, i) for i in ("a", "b")] == [["crane"], []]
    lines = leftovers(own, tmp_path, ["a", "b"], "xml")
    assert [line.removeprefix(f"{tmp_path}: ") for line in lines[:2]] == [
        "labels of 1 that are no photos here: old",
        "1 names that are no class, ignored: person (2)",
    ]
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "a.xml").rename(tmp_path / "Annotations" / "a.xml")
    with pytest.raises(UserError, match="unknown class 'Crane'"):  # a data set's own are all known
        voc.labels(tmp_path, "a", "xml")


def test_a_line_of_a_table_without_a_photo_is_named(tmp_path):
    (tmp_path / "labels.csv").write_text("id,classes\na,crane\na.jpg,crane\nb,\n")
    own = works("x.json", labels="csv")
    (line,) = leftovers(own, tmp_path, ["a", "b"], "csv")
    assert line.endswith("labels.csv: labels of 1 that are no photos here: a.jpg")
