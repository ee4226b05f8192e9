"""Image labels from a table."""

import pytest

from attnseg.datasets.coco import DATASET as coco
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
