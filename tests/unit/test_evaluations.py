"""Names of evaluations: parsing, paths and dependencies."""

import pytest

from attnseg.errors import UserError
from attnseg.evaluations import Evaluation
from attnseg.results import TABLES, evaluations_needed

CONFIG = {
    "datasets": {"voc": {"splits": {"train": {"truth": True}, "test": {"truth": False}}}},
    "variants": {"base": {}},
    "inversions": {"nti": {}},
    "methods": {"rival": {}},
    "refinements": {"crf": {}},
    "labellings": {"beta_0": {}},
    "segmentors": {"deeplab": {"train": {"dataset": "voc"}}},
}


def test_every_name_in_a_table_is_the_name_of_what_is_read_from_it():
    names = {name for target in TABLES for name in evaluations_needed(target, pending=True)}
    assert len(names) > 50
    assert all(str(Evaluation.parse(name)) == name for name in names)


def test_a_name_says_what_is_measured():
    evaluation = Evaluation.parse("masks/voc/train/base/crf")
    assert evaluation == Evaluation("masks", "train", "base", "voc", "crf")
    assert evaluation.path == "<work>/evaluation/masks/voc/train/base/crf/metrics.json"
    assert evaluation.masks == "voc/train/base/crf" and not evaluation.trained
    again = Evaluation.parse("segmentors/deeplab@3/val")
    assert (again.method, again.run, again.split, again.dataset) == ("deeplab", 3, "val", None)
    assert str(again) == "segmentors/deeplab@3/val" and again.again(1).run == 1
    assert again.data(CONFIG) == "voc"


@pytest.mark.parametrize("name", ["masks/voc/train/base", "voc/train", "segmentors//val", ""])
def test_what_is_no_name_is_one_line(name):
    with pytest.raises(UserError, match="is not an evaluation; the forms are masks/<dataset>"):
        Evaluation.parse(name)


@pytest.mark.parametrize(
    ("name", "can"),
    [
        ("masks/voc/train/base/crf", True),
        ("masks/voc/train/base/beta_0", False),
        ("masks/voc/train/nti/beta_0", True),
        ("masks/voc/train/nti/crf", False),
        ("masks/voc/val/base/crf", False),
        ("masks/voc/train/rival/given", True),
        ("masks/voc/test/rival/given", False),
        ("masks/voc/train/rival/crf", False),
        ("masks/voc/train/base/given", False),
        ("masks/coco/train/base/crf", False),
        ("segmentors/deeplab/train", True),
        ("segmentors/deeplab@2/train", True),
        ("segmentors/deeplab/test", False),
        ("segmentors/absent/train", False),
    ],
)
def test_what_the_configuration_can_make(name, can):
    assert Evaluation.parse(name).can_be_made(CONFIG) is can


def test_what_only_a_server_can_score():
    assert Evaluation.parse("segmentors/deeplab/test").needs_server(CONFIG)
    assert not Evaluation.parse("segmentors/deeplab/train").needs_server(CONFIG)
    assert not Evaluation.parse("masks/voc/test/base/crf").needs_server(CONFIG)
