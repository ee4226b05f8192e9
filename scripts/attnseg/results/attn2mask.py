"""The tables of attn2mask: rows, columns, and the evaluations that fill `ours`.

Names of evaluations (folders of work/[mini/]evaluation/). The number of images in a name is that of
the paper's row, at every scale; the number used is in metrics.json.
    segmentors/real_voc/val                           DeepLabv3+ trained on ground truth
    segmentors/attn2mask_voc_<images>/val             DeepLabv3+ trained on generated images
    segmentors/attn2mask_beco_voc_<images>/val        the same with BECO
    segmentors/attn2mask_voc_10000_<post>/val         threshold_64, threshold_128, otsu, beta_0,
                                                      threshold_64_max, threshold_128_max, crf_max
    segmentors/nti_voc_train/val                      trained on masks of null-text inversion
    masks/voc/val/nti/crf                             null-text inversion of the val images themselves
    segmentors/{real,attn2mask}_imagenet_s_<images>/validation
    segmentors/{attn2mask,attn2mask_lora}_cityscapes/val
"""

import itertools

from attnseg.results.description import Finding, Nearest, Row, Source, Table, plain, rows_by_method

FULL = "168679"
VOC_COLUMNS = {  # printed name -> name in metrics.json
    "bg": "background",
    "aeroplane": "aeroplane",
    "bicycle": "bicycle",
    "bird": "bird",
    "boat": "boat",
    "bottle": "bottle",
    "bus": "bus",
    "car": "car",
    "cat": "cat",
    "chair": "chair",
    "cow": "cow",
    "table": "diningtable",
    "dog": "dog",
    "horse": "horse",
    "motorbike": "motorbike",
    "person": "person",
    "plant": "pottedplant",
    "sheep": "sheep",
    "sofa": "sofa",
    "train": "train",
    "tv": "tvmonitor",
}


def _source(name: str, metric: str = "miou") -> Source:
    return Source((name,), metric)


def _table1() -> Table:
    segmentors = {
        "Real-supervised": "real_voc",
        "Attn2mask (ours)": f"attn2mask_voc_{FULL}",
        "Attn2mask+BECO (ours)": f"attn2mask_beco_voc_{FULL}",
    }
    keys = {label: f"iou/{name}" for label, name in VOC_COLUMNS.items()} | {"mean": "miou"}
    return Table(
        target="attn2mask_voc_table1",
        number="attn2mask, Table 1",
        title="Segmentation of VOC 2012 val, IoU",
        heads=("Method",),
        columns=plain(list(keys)),
        rows=rows_by_method(list(segmentors), list(keys)),
        ours={
            (method, label): _source(f"segmentors/{name}/val", key)
            for method, name in segmentors.items()
            for label, key in keys.items()
        },
        findings=(Finding(("Attn2mask+BECO (ours)", "mean"), ("Attn2mask (ours)", "mean")),),
    )


def _table2() -> Table:
    ours, methods, heads = {}, [], []
    for name, segmentor, sizes in (
        ("Attn2mask", "attn2mask_voc", (2_000, 10_000, 50_000, 168_679)),
        ("Attn2mask+BECO", "attn2mask_beco_voc", (10_000, 168_679)),
    ):
        for size in sizes:
            method = f"{name} ({size:,})"
            methods.append(method)
            heads.append((f"{name} (ours)", f"{size:,}", "0"))
            ours[method, "mIoU"] = _source(f"segmentors/{segmentor}_{size}/val")
    for method in (
        "Pseudo-mask (base)",
        "ReCAM (base)",
        "Pseudo-mask (full)",
        "ReCAM (full)",
        "BECO (full)",
    ):
        methods.append(method)
        heads.append((method, "0", "10,582"))
    return Table(
        target="attn2mask_voc_table2",
        number="attn2mask, Table 2",
        title="Generated against real training images, VOC 2012 val",
        heads=("Method", "#Synth. imgs", "#Real imgs"),
        columns=plain(["mIoU"]),
        rows=rows_by_method(methods, ["mIoU"], heads),
        ours=ours,
        findings=tuple(
            Finding((more, "mIoU"), (fewer, "mIoU"))
            for fewer, more in [
                *itertools.pairwise(methods[:4]),
                (methods[4], methods[5]),
                (methods[1], methods[4]),
                (methods[3], methods[5]),
            ]
        ),
    )


def _table3() -> Table:
    heads = [("Real-Supervised", "10k"), ("BigDatasetGAN", "5k"), ("Attn2mask (ours)", "0")]
    return Table(
        target="attn2mask_imagenet_s_table3",
        number="attn2mask, Table 3",
        title="Foreground against background in ImageNet-S, mIoU",
        heads=("Method", "#Annotations"),
        columns=(("#Images", "10k"), ("#Images", "100k")),
        rows=(
            Row(heads[0], ((heads[0][0], "10k"), None)),
            *rows_by_method([head[0] for head in heads[1:]], ["10k", "100k"], heads[1:]),
        ),
        ours={
            ("Real-Supervised", "10k"): _source("segmentors/real_imagenet_s_10k/validation"),
            ("Attn2mask (ours)", "10k"): _source("segmentors/attn2mask_imagenet_s_10k/validation"),
            ("Attn2mask (ours)", "100k"): _source(
                "segmentors/attn2mask_imagenet_s_100k/validation"
            ),
        },
        findings=(Finding(("Attn2mask (ours)", "100k"), ("Attn2mask (ours)", "10k")),),
    )


def _table4() -> Table:
    printed = [
        ("Attn2mask (ours)", ""),
        ("Attn2mask-LoRA (ours)", "✓"),
        ("MaskCLIP", ""),
        ("MDC", ""),
        ("PiCIE", ""),
        ("ReCo", ""),
        ("MDC", "✓"),
        ("PiCIE", "✓"),
        ("STEGO", "✓"),
        ("ReCo+", "✓"),
    ]
    metrics = {"Acc.": "pixel_accuracy", "mIoU": "miou"}
    segmentors = {
        "Attn2mask (ours)": "attn2mask_cityscapes",
        "Attn2mask-LoRA (ours) (adapt.)": "attn2mask_lora_cityscapes",
    }
    return Table(
        target="attn2mask_cityscapes_table4",
        number="attn2mask, Table 4",
        title="Segmentation of Cityscapes val, without and with adaptation",
        heads=("Method", "Adapt."),
        columns=plain(list(metrics)),
        rows=rows_by_method(
            [name + (" (adapt.)" if tick else "") for name, tick in printed], list(metrics), printed
        ),
        ours={
            (method, metric): _source(f"segmentors/{name}/val", key)
            for method, name in segmentors.items()
            for metric, key in metrics.items()
        },
        findings=tuple(
            Finding(("Attn2mask-LoRA (ours) (adapt.)", metric), ("Attn2mask (ours)", metric))
            for metric in metrics
        ),
    )


def _table5() -> Table:
    methods = {
        "Thresholding θ = 64": "_threshold_64",
        "Thresholding θ = 128": "_threshold_128",
        "Otsu": "_otsu",
        "dCRF β = 0": "_beta_0",
        "dCRF β = 0.2": "",  # the 10,000 row of Table 2
        "Thresholding θ = 64 [max]": "_threshold_64_max",
        "Thresholding θ = 128 [max]": "_threshold_128_max",
        "dCRF β = 0.2 [max]": "_crf_max",
    }
    thresholds = ("Thresholding θ = 64", "Thresholding θ = 128")
    return Table(
        target="attn2mask_voc_table5",
        number="attn2mask, Table 5",
        title="From attention to labels: 10,000 generated images, VOC 2012 val",
        heads=("Post-processing",),
        columns=plain(["mIoU"]),
        rows=rows_by_method(list(methods), ["mIoU"]),
        ours={
            (method, "mIoU"): _source(f"segmentors/attn2mask_voc_10000{suffix}/val")
            for method, suffix in methods.items()
        },
        findings=tuple(
            Finding(("dCRF β = 0.2", "mIoU"), (other, "mIoU"))
            for other in methods
            if other != "dCRF β = 0.2" and not other.endswith("]")
        ),
        nearest=Nearest(
            {
                way: [
                    ((name + suffix, "mIoU"), (f"dCRF β = 0.2{suffix}", "mIoU"))
                    for name in thresholds
                ]
                for way, suffix in {
                    "from minimum to maximum": "",
                    "by the maximum": " [max]",
                }.items()
            }
        ),
    )


def _table6() -> Table:
    ours = {
        "Attn2mask": _source(f"segmentors/attn2mask_voc_{FULL}/val"),
        "NTI on the train set and retraining": _source("segmentors/nti_voc_train/val"),
        "NTI on the val set": _source("masks/voc/val/nti/crf"),
    }
    return Table(
        target="attn2mask_voc_table6",
        number="attn2mask, Table 6",
        title="Generated images against null-text inversion (NTI) of real ones, VOC 2012 val",
        heads=("Method",),
        columns=plain(["mIoU"]),
        rows=rows_by_method(list(ours), ["mIoU"]),
        ours={(method, "mIoU"): source for method, source in ours.items()},
        findings=tuple(
            Finding(("Attn2mask", "mIoU"), (other, "mIoU"))
            for other in ours
            if other != "Attn2mask"
        ),
    )


TABLES = (_table1(), _table2(), _table3(), _table4(), _table5(), _table6())
