"""The published values against a second transcription, typed again from the papers column by column."""

import csv
import re
import statistics
from pathlib import Path

import pytest

from attnseg.results import TABLES

FOLDER = Path(__file__).resolve().parents[2] / "config" / "published"

VOC = (
    "bg aeroplane bicycle bird boat bottle bus car cat chair cow table "
    "dog horse motorbike person plant sheep sofa train tv mean"
).split()
DISTRACTORS = ("All", "Semantic Distractor", "Visual Distractor")


def columns(methods: list[str], **values: str) -> dict[tuple[str, str], str]:
    """{metric: "one value a method, - for none"} -> {(method, metric): value}."""
    cells = {}
    for metric, line in values.items():
        for method, value in zip(methods, line.split(), strict=True):
            if value != "-":
                cells[method, metric] = value
    return cells


def text2mask_table1():
    methods = "IRN M&L SC-CAM SEAM AdvCAM CLIMS RIB OoD MCT CLIP-ES".split()
    return columns(
        [*methods, "Ours (1 time)", "Ours (10 times)"],
        RW="66.3 67.0 63.4 63.6 68.0 70.5 70.6 72.1 69.1 - - -",
        dCRF="54.3 - 55.3 56.8 62.1 62.4 62.9 65.5 64.5 75.0 74.4 76.1",
        Initial="48.8 49.6 50.9 55.4 55.6 56.6 56.5 59.1 61.7 70.8 72.7 74.2",
    )


def text2mask_table2():
    return columns(
        ["CLIP-ES", "Ours"],
        **{
            "COCO 2014 train dCRF": "41.5 45.3",
            "COCO 2014 train Initial": "39.7 43.7",
            "VOC 2012 trainaug dCRF": "68.7 71.7",
            "VOC 2012 trainaug Initial": "65.9 70.3",
        },
    )


def text2mask_table3():
    methods = [
        *("PSA WR38 V1", "IRN R50 V2", "ICD R101 V1‡", "SC-CAM R101 V2‡", "BES R101 V2‡"),
        *("ETG R101 V2", "M&L R101 V2", "SIPE R101 V2‡", "RIB R101 V2", "AMN R101 V2‡"),
        *("CLIMS R101 V2", "CLIMS R101 V2‡", "CLIP-ES R101 V2", "CLIP-ES R101 V2‡"),
        *("Ours R101 V2", "Ours R101 V2‡"),
    ]
    return columns(
        methods,
        Test="63.7 64.8 64.3 65.9 66.6 67.6 69.1 69.7 68.6 70.6 68.7 70.0 71.4 73.9 71.5 74.2",
        Val="61.7 63.5 64.1 66.1 65.7 66.8 67.2 68.8 68.3 70.7 69.3 70.4 71.1 73.8 71.2 73.3",
    )


def text2mask_table4():
    methods = ["ETG R101", "IRN R50", "IRN R101", "SIPE R101", "RIB R101", "AMN R101"]
    return columns(
        [*methods, "CLIP-ES R101", "Ours R101"], Val="28.0 32.6 41.4 40.6 43.8 44.7 45.4 45.7"
    )


def text2mask_table5():
    return columns(
        ["Cross", "CBP", "SelfCross", "Cross+SelfCross"],
        dCRF="67.1 69.9 74.4 73.0",
        Initial="61.7 64.1 72.7 69.9",
    )


def text2mask_table6():
    methods = ["none", "Syn.", "BG.", "Syn.+BG.", "Comp.", "Comp.+Syn.", "Comp.+BG."]
    return columns(
        [*methods, "Comp.+Syn.+BG."],
        mIoU="72.1 73.1 72.7 74.3 73.2 73.8 73.1 74.4",
        tvmonitor="62.3 60.6 66.3 67.3 62.8 64.5 66.3 65.6",
        train="74.1 73.5 81.9 81.5 75.2 74.7 82.2 82.5",
        person="38.4 59.3 36.1 63.5 45.2 56.9 41.0 59.7",
        boat="74.2 72.8 71.7 71.6 76.4 75.7 77.1 77.0",
        bird="85.6 87.1 80.3 83.9 85.3 87.0 79.4 85.0",
    )


MUG_METHODS = ["Mask R-CNN", "DINO-ViT", "Subject Only", "Context Only", "Arithmetic", "Ours"]


def text2mask_table7():
    return columns(
        MUG_METHODS,
        **{
            "All mIoU": "75.1 52.7 62.3 54.4 28.5 64.9",
            "All bf_acc": "58.9 42.3 60.1 51.2 35.1 60.2",
            "All af_acc": "75.1 72.8 79.5 70.9 37.2 83.3",
            "Semantic Distractor mIoU": "78.2 70.7 76.2 35.3 27.9 78.8",
            "Semantic Distractor bf_acc": "63.3 43.3 79.3 40.5 37.7 73.5",
            "Semantic Distractor af_acc": "78.2 93.2 95.0 45.1 35.2 98.3",
            "Visual Distractor mIoU": "42.9 39.9 31.9 50.3 55.2 56.8",
            "Visual Distractor bf_acc": "38.0 33.7 42.0 42.4 46.7 49.4",
            "Visual Distractor af_acc": "42.9 52.0 40.0 64.3 70.4 71.8",
        },
    )


def text2mask_table_b8():
    seeds = {
        "Average": "74.4",
        "44": "74.4",
        "43": "74.6",
        "42": "74.4",
        "41": "74.0",
        "40": "74.5",
    }
    return {("Ours", seed): value for seed, value in seeds.items()}


def text2mask_table_b9():
    return columns(
        ["PALAVRA+CLIP-ES", "Custom+CLIP-ES", "PALAVRA+SelfCross", "Custom+SelfCross"],
        **{
            "All mIoU": "26.0 36.1 53.1 64.9",
            "All bf_acc": "44.5 37.6 48.2 60.2",
            "All af_acc": "31.5 43.0 69.4 83.3",
            "Semantic Distractor mIoU": "2.5 33.4 53.6 78.8",
            "Semantic Distractor bf_acc": "33.0 37.1 46.3 73.5",
            "Semantic Distractor af_acc": "3.0 39.6 68.3 98.3",
            "Visual Distractor mIoU": "11.5 53.4 58.2 56.8",
            "Visual Distractor bf_acc": "38.8 42.0 50.8 49.4",
            "Visual Distractor af_acc": "14.1 63.5 74.5 71.8",
        },
    )


def text2mask_table_b10():
    return columns(
        MUG_METHODS,
        **{
            "Variant af_acc": "71.9 66.7 78.8 71.1 47.1 88.3",
            "Variant bf_acc": "59.5 44.7 54.9 52.6 37.3 60.7",
            "Variant mIoU": "71.9 48.5 61.6 54.7 36.5 69.2",
        },
    )


def attn2mask_table1():
    by_class = """
        93.6 83.0 86.6   88.0 79.5 77.2   40.0 33.2 29.0   84.5 55.7 79.0   66.2 56.6 72.0
        63.2 56.5 56.2   89.3 76.3 84.8   84.5 58.3 68.0   87.6 70.1 80.9   32.4 22.2 24.9
        74.3 57.0 76.3   37.6 34.6 46.0   83.0 64.7 73.6   73.8 64.2 71.3   78.1 55.3 65.9
        86.1  9.0 19.8   56.5 17.2 22.5   76.4 57.7 67.8   45.0 18.7  7.4   82.8 63.2 68.7
        71.5 38.9 46.1   71.2 51.1 58.3
    """.split()
    methods = ("Real-supervised", "Attn2mask (ours)", "Attn2mask+BECO (ours)")
    keys = [(method, label) for label in VOC for method in methods]
    return dict(zip(keys, by_class, strict=True))


def attn2mask_table2():
    values = {
        "BECO (full)": "70.9",
        "ReCAM (full)": "70.5",
        "ReCAM (base)": "54.8",
        "Pseudo-mask (full)": "70.0",
        "Pseudo-mask (base)": "52.7",
        "Attn2mask+BECO (168,679)": "58.3",
        "Attn2mask+BECO (10,000)": "51.7",
        "Attn2mask (168,679)": "51.1",
        "Attn2mask (50,000)": "49.7",
        "Attn2mask (10,000)": "46.5",
        "Attn2mask (2,000)": "41.2",
    }
    return {(method, "mIoU"): value for method, value in values.items()}


def attn2mask_table3():
    return columns(
        ["Real-Supervised", "BigDatasetGAN", "Attn2mask (ours)"],
        **{"100k": "- 74.4 66.0", "10k": "82.1 74.1 63.7"},
    )


def attn2mask_table4():
    plain = ["Attn2mask (ours)", "MaskCLIP", "MDC", "PiCIE", "ReCo"]
    adapted = ["Attn2mask-LoRA (ours)", "MDC", "PiCIE", "STEGO", "ReCo+"]
    return columns(
        plain, **{"mIoU": "13.2 10.0 7.0 9.7 19.3", "Acc.": "63.7 35.9 - - 74.6"}
    ) | columns(
        [f"{name} (adapt.)" for name in adapted],
        **{"mIoU": "17.1 7.1 12.3 21.0 24.2", "Acc.": "69.7 47.9 40.7 73.2 83.7"},
    )


def attn2mask_table5():
    methods = ["dCRF β = 0.2", "dCRF β = 0", "Otsu", "Thresholding θ = 128", "Thresholding θ = 64"]
    return columns(methods, mIoU="46.5 44.3 41.2 44.6 43.5")


def attn2mask_table6():
    methods = ["NTI on the val set", "NTI on the train set and retraining", "Attn2mask"]
    return columns(methods, mIoU="47.3 50.6 51.1")


TYPED_AGAIN = {
    "voc_table1": text2mask_table1,
    "voc_coco_table2": text2mask_table2,
    "voc_table3": text2mask_table3,
    "coco_table4": text2mask_table4,
    "voc_table5": text2mask_table5,
    "voc_table6": text2mask_table6,
    "mug19_table7": text2mask_table7,
    "voc_table_b8": text2mask_table_b8,
    "mug19_table_b9": text2mask_table_b9,
    "mug19_table_b10": text2mask_table_b10,
    "voc_figure_d9": lambda: {("Ours", "r"): "-0.73", ("Ours", "p"): "0.0049"},
    "attn2mask_voc_table1": attn2mask_table1,
    "attn2mask_voc_table2": attn2mask_table2,
    "attn2mask_imagenet_s_table3": attn2mask_table3,
    "attn2mask_cityscapes_table4": attn2mask_table4,
    "attn2mask_voc_table5": attn2mask_table5,
    "attn2mask_voc_table6": attn2mask_table6,
}


def published(target: str) -> dict[tuple[str, str], str]:
    with open(FOLDER / f"{target}.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    cells = {(line["method"], line["metric"]): line["paper"] for line in lines}
    assert len(cells) == len(lines), "a cell stands there twice"
    return cells


@pytest.mark.parametrize("target", TYPED_AGAIN)
def test_the_values_are_those_of_the_second_transcription(target):
    assert published(target) == TYPED_AGAIN[target]()


def test_every_table_has_published_values_and_every_file_is_checked():
    assert {path.stem for path in FOLDER.glob("*.csv")} == set(TYPED_AGAIN)
    assert set(TABLES) <= set(TYPED_AGAIN)


@pytest.mark.parametrize("target", TABLES)
def test_the_labels_are_those_of_the_description(target):
    assert set(published(target)) <= set(TABLES[target].cells)


@pytest.mark.parametrize("target", TABLES)
def test_values_have_one_decimal_and_labels_no_citation(target):
    for (method, metric), value in published(target).items():
        assert re.fullmatch(r"\d{1,2}\.\d", value), (method, metric, value)
        assert not re.search(r"\[\d+\]|<|\$|\*", method + metric)


@pytest.mark.parametrize("method", ["Real-supervised", "Attn2mask (ours)", "Attn2mask+BECO (ours)"])
def test_the_mean_of_the_classes_is_the_printed_mean(method):
    values = published("attn2mask_voc_table1")
    classes = [float(values[method, label]) for label in VOC[:-1]]
    assert statistics.fmean(classes) == pytest.approx(float(values[method, "mean"]), abs=0.1)


def test_the_average_over_seeds_is_the_printed_one():
    values = published("voc_table_b8")
    seeds = [float(values["Ours", str(seed)]) for seed in range(40, 45)]
    assert statistics.fmean(seeds) == pytest.approx(float(values["Ours", "Average"]), abs=0.05)
    assert round(statistics.stdev(seeds), 1) == 0.2


def test_values_that_the_papers_print_twice_agree():
    table1, table5 = published("voc_table1"), published("voc_table5")
    for metric in ("Initial", "dCRF"):
        assert table1["Ours (1 time)", metric] == table5["SelfCross", metric]
    assert table1["Ours (1 time)", "dCRF"] == published("voc_table6")["Comp.+Syn.+BG.", "mIoU"]
    assert table1["Ours (1 time)", "dCRF"] == published("voc_table_b8")["Ours", "Average"]
    for split in DISTRACTORS:
        for metric in ("mIoU", "bf_acc", "af_acc"):
            cell = f"{split} {metric}"
            ours = published("mug19_table7")["Ours", cell]
            assert ours == published("mug19_table_b9")["Custom+SelfCross", cell]
    sizes, full = published("attn2mask_voc_table2"), published("attn2mask_voc_table1")
    assert sizes["Attn2mask (168,679)", "mIoU"] == full["Attn2mask (ours)", "mean"]
    assert sizes["Attn2mask+BECO (168,679)", "mIoU"] == full["Attn2mask+BECO (ours)", "mean"]
    assert (
        sizes["Attn2mask (168,679)", "mIoU"]
        == published("attn2mask_voc_table6")["Attn2mask", "mIoU"]
    )
    assert (
        sizes["Attn2mask (10,000)", "mIoU"]
        == published("attn2mask_voc_table5")["dCRF β = 0.2", "mIoU"]
    )
