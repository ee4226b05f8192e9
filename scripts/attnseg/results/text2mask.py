"""The tables of Text2Mask: rows, columns, and the evaluations that fill `ours`.

Names of evaluations (folders of work/[mini/]evaluation/):
    masks/<dataset>/<split>/<variant>/<refinement>    pseudo masks against the ground truth
    segmentors/<name>/<split>                         a trained segmentor
    mug19/<split>/<method>                            personalised segmentation; the splits are
                                                      all, semantic_distractor, visual_distractor, variant
"""

from dataclasses import replace
from typing import Any

from attnseg.evaluations import MUG19_METHODS, MUG19_SPLITS, NO_MASK_RCNN, Evaluation
from attnseg.results.description import (
    Cell,
    Finding,
    Row,
    Source,
    Table,
    plain,
    rows_by_method,
    rows_by_metric,
    with_cells,
)

NO_COCO = "no data set `coco` is configured, or no segmentor of it"
NO_MUG19 = "Mug19 is not configured, or neither `dino` nor `features` for what compares pictures"
NO_PALAVRA = (
    "PALAVRA's encoder of photos, trained on CLIP's embeddings, is not part of the workflow"
)
NO_CLIP_ES = (
    "CLIP-ES's gradient maps of CLIP, which would have to know the identifier, are not part of the "
    "workflow"
)
NO_COCO_WEIGHTS = "no DeepLabV2 is configured that is pre-trained on COCO"

IMAGE_LEVEL = "Image-level supervision only"
LANGUAGE = "Image-level + language supervision"

RATE = "labels/s"  # classes per second whose attention is extracted

REFINEMENTS = {"Initial": "none", "dCRF": "crf"}


def _masks(
    variant: str, refinement: str, dataset: str = "voc", split: str = "train", **options: Any
) -> Source:
    return Source((f"masks/{dataset}/{split}/{variant}/{refinement}",), **options)


def _official(ours: dict[Cell, Source]) -> dict[Cell, Source]:
    """The same cells under the profile of the authors' code: in variants, and COCO's refinements, of
    names that begin with it."""

    def evaluation(name: str) -> str:
        found = Evaluation.parse(name)
        if found.dataset == "coco":
            found = replace(found, postprocessing=f"official_{found.postprocessing}")
        variant = "official" if found.method == "base" else f"official_{found.method}"
        return str(replace(found, method=variant))

    return {
        (f"{method} [official]", metric): replace(
            source, evaluations=tuple(map(evaluation, source.evaluations))
        )
        for (method, metric), source in ours.items()
    }


def _with_official(table: Table) -> Table:
    """The table with our columns under the profile of the authors' code, too."""
    official = _official(dict(table.ours))
    return with_cells(replace(table, ours={**table.ours, **official}), official)


def _table1() -> Table:
    methods = [
        *("IRN", "M&L", "SC-CAM", "SEAM", "AdvCAM", "CLIMS", "RIB", "OoD", "MCT", "CLIP-ES"),
        *("Ours (1 time)", "Ours (10 times)"),
    ]
    variants = {"Ours (1 time)": "one_noise", "Ours (10 times)": "base"}
    return Table(
        target="voc_table1",
        number="Text2Mask, Table 1",
        title="Pseudo masks of VOC 2012 train, mIoU",
        heads=("Method",),
        columns=plain(methods),
        rows=rows_by_metric(methods, ["Initial", "dCRF", "RW"]),
        ours={
            (method, metric): _masks(variant, refinement)
            for method, variant in variants.items()
            for metric, refinement in REFINEMENTS.items()
        },
    )


def _table2() -> Table:
    data = {
        "VOC 2012 trainaug": ("voc", "trainaug", "base"),
        "COCO 2014 train": ("coco", "train", "once"),
    }
    ours = {}
    for name, (dataset, split, variant) in data.items():
        options = {"missing": NO_COCO, "background": 0.7} if dataset == "coco" else {}
        for label, refinement in REFINEMENTS.items():
            own = f"coco_{refinement}" if dataset == "coco" else refinement
            ours["Ours", f"{name} {label}"] = _masks(variant, own, dataset, split, **options)
    columns = [(name, method) for name in data for method in ("CLIP-ES", "Ours")]
    return Table(
        target="voc_coco_table2",
        number="Text2Mask, Table 2",
        title="Pseudo masks of the images that train DeepLab, mIoU",
        heads=("Method",),
        columns=tuple(columns),
        rows=tuple(
            Row((label,), tuple((method, f"{name} {label}") for name, method in columns))
            for label in REFINEMENTS
        ),
        ours=ours,
    )


def _table3() -> Table:
    image_level = [
        ("PSA", "WR38", "V1"),
        ("IRN", "R50", "V2"),
        ("ICD", "R101", "V1‡"),
        ("SC-CAM", "R101", "V2‡"),
        ("BES", "R101", "V2‡"),
        ("ETG", "R101", "V2"),
        ("M&L", "R101", "V2"),
        ("SIPE", "R101", "V2‡"),
        ("RIB", "R101", "V2"),
        ("AMN", "R101", "V2‡"),
    ]
    language = [
        ("CLIMS", "R101", "V2"),
        ("CLIMS", "R101", "V2‡"),
        ("CLIP-ES", "R101", "V2"),
        ("CLIP-ES", "R101", "V2‡"),
        ("Ours", "R101", "V2"),
        ("Ours", "R101", "V2‡"),
    ]
    heads = image_level + language

    def server(segmentor: str) -> str:
        return f"the evaluation server holds the labels: submit submissions/{segmentor}/test.tgz"

    plain_v2, with_coco = "deeplabv2_voc", "deeplabv2_voc_coco_init"
    return Table(
        target="voc_table3",
        number="Text2Mask, Table 3",
        title="DeepLab on VOC 2012 val and test, mIoU (‡: pre-trained on COCO; ours on its ground truth)",
        heads=("Method", "Backbone", "Ver."),
        columns=plain(["Val", "Test"]),
        rows=rows_by_method(
            [" ".join(head) for head in heads],
            ["Val", "Test"],
            heads,
            [IMAGE_LEVEL] * len(image_level) + [LANGUAGE] * len(language),
        ),
        ours={
            ("Ours R101 V2", "Val"): Source((f"segmentors/{plain_v2}/val",)),
            ("Ours R101 V2", "Test"): Source(
                (f"segmentors/{plain_v2}/test",), missing=server(plain_v2)
            ),
            ("Ours R101 V2‡", "Val"): Source(
                (f"segmentors/{with_coco}/val",), missing=NO_COCO_WEIGHTS
            ),
            ("Ours R101 V2‡", "Test"): Source(
                (f"segmentors/{with_coco}/test",), missing=server(with_coco)
            ),
        },
    )


def _table4() -> Table:
    heads = [
        ("ETG", "R101", "I"),
        ("IRN", "R50", "I"),
        ("IRN", "R101", "I"),
        ("SIPE", "R101", "I"),
        ("RIB", "R101", "I"),
        ("AMN", "R101", "I"),
        ("CLIP-ES", "R101", "I+L"),
        ("Ours", "R101", "I+L"),
    ]
    return Table(
        target="coco_table4",
        number="Text2Mask, Table 4",
        title="DeepLab on COCO 2014 val, mIoU (I: image labels, L: language)",
        heads=("Method", "Backbone", "Sup."),
        columns=plain(["Val"]),
        rows=rows_by_method([f"{name} {backbone}" for name, backbone, _ in heads], ["Val"], heads),
        ours={("Ours R101", "Val"): Source(("segmentors/deeplabv2_coco/val",), missing=NO_COCO)},
    )


def _table5() -> Table:
    methods = {"Cross": "cross_", "CBP": "cbp_", "SelfCross": "", "Cross+SelfCross": "both_"}
    return Table(
        target="voc_table5",
        number="Text2Mask, Table 5",
        title="What is taken from the attention: pseudo masks of VOC 2012 train, one noise, mIoU",
        heads=("Attention",),
        columns=plain(list(methods)),
        rows=rows_by_metric(list(methods), list(REFINEMENTS)),
        ours={
            (method, metric): _masks("one_noise", prefix + refinement)
            for method, prefix in methods.items()
            for metric, refinement in REFINEMENTS.items()
        },
    )


def _table6() -> Table:
    metrics = ["bird", "boat", "person", "train", "tvmonitor", "mIoU"]
    methods, heads = [], []
    ours: dict[Cell, Source] = {}
    # (composed sentence, synonyms, background words), in the order of the print
    for composed in (0, 1):
        for background, synonyms in ((0, 0), (0, 1), (1, 0), (1, 1)):
            ticks = (composed, synonyms, background)
            names = [n for n, tick in zip(("Comp.", "Syn.", "BG."), ticks, strict=True) if tick]
            method = "+".join(names) or "none"
            methods.append(method)
            heads.append(tuple("✓" if tick else "" for tick in ticks))
            variant = "prompt_" + "".join(map(str, ticks))
            for metric in metrics:
                key = "miou" if metric == "mIoU" else f"iou/{metric}"
                ours[method, metric] = _masks(variant, "crf", metric=key)
            ours[method, RATE] = _masks(
                variant, "crf", metric="labels_per_second", missing="not timed"
            )
    return Table(
        target="voc_table6",
        number="Text2Mask, Table 6",
        title="The text query: pseudo masks of VOC 2012 train, one noise, dCRF, IoU",
        heads=("Comp.", "Syn.", "BG."),
        columns=plain([*metrics, RATE]),
        rows=rows_by_method(
            [*methods, *(f"{method} [official]" for method in methods)],
            [*metrics, RATE],
            heads * 2,
            [""] * len(methods) + ["The profile of the authors' code [official]"] * len(methods),
        ),
        ours=ours | _official(ours),
    )


MUG19_METRICS = {"mIoU": "miou", "bf_acc": "bf_acc", "af_acc": "af_acc"}


def _mug19(
    target: str, number: str, title: str, methods: dict, splits: dict, not_run: dict | None = None
) -> Table:
    """`methods`: label -> method in the evaluation's name; `not_run`: method -> reason."""
    not_run = {"mask_rcnn": NO_MASK_RCNN} if not_run is None else not_run
    columns = [(split, metric) for split in splits for metric in MUG19_METRICS]
    return Table(
        target=target,
        number=number,
        title=title,
        heads=("Split",),
        columns=tuple(columns),
        rows=rows_by_method(list(methods), [" ".join(column) for column in columns]),
        ours={
            (method, f"{split} {metric}"): Source(
                (f"mug19/{split_name}/{name}",),
                MUG19_METRICS[metric],
                not_run.get(name, NO_MUG19),
                pending=name not in MUG19_METHODS.values(),
            )
            for method, name in methods.items()
            for split, split_name in splits.items()
            for metric in MUG19_METRICS
        },
        findings=tuple(
            _ahead("Ours", other, f"{split} {metric}")
            for other in ("Subject Only", "Context Only")
            if "Ours" in methods
            for split in splits
            for metric in MUG19_METRICS
        ),
    )


def _ahead(ours: str, other: str, metric: str) -> Finding:
    """Ours is ahead of the subject-only and context-only ablations, except in one printed cell."""
    if (other, metric) == ("Subject Only", "Semantic Distractor bf_acc"):
        ours, other = other, ours
    return Finding((ours, metric), (other, metric))


def _table_b8() -> Table:
    seeds = ["40", "41", "42", "43", "44"]
    names = {seed: f"masks/voc/train/seed_{seed}/crf" for seed in seeds}
    ours = {("Ours", seed): Source((name,)) for seed, name in names.items()}
    ours["Ours", "Average"] = Source(tuple(names.values()))
    metrics = [*seeds, "Average"]
    return Table(
        target="voc_table_b8",
        number="Text2Mask, Table B.8",
        title="Other seeds: pseudo masks of VOC 2012 train, one noise, dCRF",
        heads=("Seeds",),
        columns=plain(metrics),
        rows=rows_by_method(["Ours"], metrics, [("mIoU",)]),
        ours=ours,
    )


TABLES = (
    _with_official(_table1()),
    _with_official(_table2()),
    _table3(),
    _table4(),
    _with_official(_table5()),
    _table6(),
    _mug19(
        "mug19_table7",
        "Text2Mask, Table 7",
        "Personalised referring segmentation on Mug19",
        MUG19_METHODS,
        MUG19_SPLITS,
    ),
    _table_b8(),
    _mug19(
        "mug19_table_b9",
        "Text2Mask, Table B.9",
        "Mug19: ways to personalise and ways to localise",
        {
            "PALAVRA+CLIP-ES": "palavra_clip_es",
            "Custom+CLIP-ES": "custom_clip_es",
            "PALAVRA+SelfCross": "palavra_selfcross",
            "Custom+SelfCross": "custom_selfcross",
            "Ours [identifier and class]": "identifier_class",
        },
        MUG19_SPLITS,
        {
            "palavra_clip_es": f"{NO_PALAVRA}, nor are CLIP-ES's gradient maps",
            "custom_clip_es": NO_CLIP_ES,
            "palavra_selfcross": NO_PALAVRA,
        },
    ),
    _mug19(
        "mug19_table_b10",
        "Text2Mask, Table B.10",
        "Mug19: the object known by a variant of its series",
        MUG19_METHODS,
        {"Variant": "variant"},
    ),
)
