"""Configured methods in the tables: the cells that they fill, and the place of new rows and columns."""

import pytest

from attnseg.config.reading import prepare
from attnseg.errors import UserError
from attnseg.results import TABLES, competitors, evaluations_needed
from attnseg.results.description import with_cells
from attnseg.settings import Method, read_settings

SEGMENTOR = {
    "architecture": "deeplabv2",
    "backbone": "resnet18",
    "pretrained": None,
    "train": {"dataset": "voc", "split": "train", "masks": "base/crf"},
}


def configured(**methods) -> dict:
    splits = {name: {"images": 2} for name in ("train", "trainaug", "val")}
    return prepare(
        {
            "datasets": {"voc": {"root": "voc", "splits": splits}},
            "segmentors": {"deeplabv2_voc": SEGMENTOR, "real_voc": SEGMENTOR},
            "methods": methods,
        }
    )


def method(**fills) -> dict:
    return {"label": "CLIP-ES", "masks": "/masks", "fills": fills}


def test_a_cell_is_measured_on_what_ours_in_its_column_are():
    fills = {
        "voc_table1": ["Initial"],
        "voc_coco_table2": ["VOC 2012 trainaug dCRF", "COCO 2014 train Initial"],
        "voc_table3": ["Val"],
        "voc_table6": ["boat", "mIoU"],
        "attn2mask_voc_table1": ["table"],
    }
    tables = competitors.with_methods(TABLES, configured(mine=method(**fills)))
    expected = {
        ("voc_table1", "Initial"): ("masks/voc/train/mine/given", "miou"),
        ("voc_coco_table2", "VOC 2012 trainaug dCRF"): ("masks/voc/trainaug/mine/given", "miou"),
        ("voc_coco_table2", "COCO 2014 train Initial"): ("masks/coco/train/mine/given", "miou"),
        ("voc_table3", "Val"): ("masks/voc/val/mine/given", "miou"),
        ("voc_table6", "boat"): ("masks/voc/train/mine/given", "iou/boat"),
        ("voc_table6", "mIoU"): ("masks/voc/train/mine/given", "miou"),
        ("attn2mask_voc_table1", "table"): ("masks/voc/val/mine/given", "iou/diningtable"),
    }
    for (target, metric), (evaluation, value) in expected.items():
        source = tables[target].ours["CLIP-ES", metric]
        assert (source.evaluations, source.metric) == ((evaluation,), value)
        assert evaluation in evaluations_needed(tables[target])
    assert sum(map(len, fills.values())) == len(expected)
    # what a program is told gives it the same table
    for target, table in tables.items():
        again = competitors.told(TABLES[target], competitors.argument(table))
        assert (again.cells, again.ours) == (table.cells, table.ours)


@pytest.mark.parametrize("target", TABLES)
def test_a_new_method_has_a_row_or_a_column_and_the_rest_stays(target):
    table = TABLES[target]
    metrics = list(dict.fromkeys(metric for _, metric in table.cells))
    for some in (metrics, metrics[:1]):
        more = with_cells(table, [("New", metric) for metric in some])
        assert set(more.cells) == {*table.cells, *(("New", metric) for metric in some)}
        assert [cell for cell in more.cells if cell[0] != "New"] == table.cells
        assert all(len(row.cells) == len(more.columns) for row in more.rows)
        assert all(len(row.heads) == len(more.heads) for row in more.rows)
    assert with_cells(table, table.cells) == table


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"a": method(voc_tabel1=["Initial"])}, "methods.a.fills: 'voc_tabel1' is no table; did .*_table1"),
        ({"a": method(voc_table1=["initial"])}, "fills.voc_table1: 'initial' .*did you mean 'Initial'"),
        ({"a": method(voc_table1=["RW"])}, "'RW' is measured for nobody; choose of Initial, dCRF"),
        ({"a": method(mug19_table7=["All mIoU"])}, "'All mIoU' is not measured on masks of one split"),
        ({"a": method(coco_table4=["Val"])}, "'Val' is not measured on masks of one split"),
        (
            {"a": method(voc_table1=["Initial"]), "b": method(voc_table1=["Initial"])},
            "methods.b: 'CLIP-ES', 'Initial' of voc_table1 is measured already",
        ),
        (
            {"a": method(voc_coco_table2=["VOC 2012 trainaug dCRF"]) | {"label": "Ours"}},
            "methods.a: 'Ours', .* is measured already; choose another `label`",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_filled_is_one_line(methods, message):
    with pytest.raises(UserError, match=message) as error:
        competitors.with_methods(TABLES, configured(**methods))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"base": method()}, "`methods.base`: `variants.base` would share its folder; rename it"),
        (
            {"reference": method()},
            "`methods.reference`: the reference masks would share its folder",
        ),
        ({"a": {"label": "A"}}, "`masks` is missing"),
        (
            {"a": {"label": "A", "masks": "{id}.png"}},
            "of braces only {dataset} and {split} may stand",
        ),
    ],
)
def test_a_method_that_cannot_be_is_one_line(methods, message):
    with pytest.raises(UserError, match=message):
        configured(**methods)


def test_a_folder_is_a_pattern():
    one = read_settings(Method, {"label": "A", "masks": "/a/{dataset}/of_{split}"})
    assert one.folder("voc", "train") == "/a/voc/of_train"
