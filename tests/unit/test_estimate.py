"""What jobs cost before they run: their units by the settings, and this machine's own records."""

import json
from pathlib import Path

import pytest

from attnseg.config.reading import read_config
from attnseg.jobs import Jobs
from attnseg.results.costs import Cost, Prices, measured, read_costs
from attnseg.results.planned import Planned, jobs_for
from attnseg.results.work import Work

CONFIG = Path(__file__).resolve().parents[2] / "config"
HOUR = 3600


def work_of(tmp_path: Path, content: str = "{}", *files: str) -> Work:
    own = tmp_path / "own.yaml"
    own.write_text(content)
    return Work(Jobs(read_config(CONFIG / "config.yaml", *files, own)), read_costs())


def job(
    rule: str, output: str = "", needs: str = "", log: str = "", **wildcards: object
) -> Planned:
    """A job as a dry run prints it."""
    told = ", ".join(f"{name}={value}" for name, value in wildcards.items())
    return Planned(rule, {"wildcards": told, "output": output, "input": needs, "log": log})


def shard(variant: str, number: int = 0, **more: str) -> Planned:
    where = {"dataset": "voc", "split": "train", "variant": variant}
    return job("extract_attention", **more, **where, shard=f"{number:05d}")


def training(segmentor: str, **more: str) -> Planned:
    return job("train_segmentor", **more, segmentor=segmentor)


# Estimates of an audit of the paper scale, in GPU hours of one A100, and the settings that it had
AUDITED = """
segmentors:
  deeplabv2_voc: {batch: 10, accumulate: 1, iterations: 20000}
  deeplabv2_coco: {batch: 10, accumulate: 1, iterations: 100000, crop: 321}
  attn2mask_beco_voc_168679: {iterations: 52910}
  attn2mask_beco_voc_10000: {iterations: 25000}
"""
VARIANTS = """base official one_noise prompt_000 prompt_001 prompt_010 prompt_011 prompt_100 prompt_101
    prompt_110 prompt_111 seed_40 seed_41 seed_42 seed_43 seed_44 t_50 t_100 t_200 t_300 t_500 cross_down
    cross_mid cross_up cross_fine cross_all self_down self_mid self_up self_last noises_2 noises_5""".split()
VOC = {"dataset": "voc", "split": "train"}
ITEMS = {
    "VOC's extraction, and trainaug with ten noises": (
        [shard(variant, number) for variant in VARIANTS for number in range(8)]
        + [
            job("extract_attention", dataset="voc", split="trainaug", variant="base", shard=f"{i:05d}")
            for i in range(53)
        ],
        (7, 9),
    ),
    "COCO's extraction": (
        [
            job("extract_attention", dataset="coco", split="train", variant="once", shard=f"{i:05d}")
            for i in range(411)
        ],
        (3, 4),
    ),
    "DeepLabV2, VOC three times and COCO twice": (
        [training("deeplabv2_voc")] * 3 + [training("deeplabv2_coco")] * 2,
        (28, 28),
    ),
    "292,679 generated images": (
        [
            job("generate_images", synthesis=name, shard=f"{i:05d}")
            for name, shards in (("voc", 338), ("imagenet_s", 200), ("cityscapes", 24), ("cityscapes_lora", 24))
            for i in range(shards)
        ],
        (205, 205),
    ),
    "15 supervised DeepLabv3+": ([training("real_voc")] * 15, (110, 110)),
    "BECO on 168,679 images, 52,910 iterations": ([training("attn2mask_beco_voc_168679")], (13, 13)),
    "BECO on 10,000, null-text inversion of 2,913 photos, Mug19": (
        [training("attn2mask_beco_voc_10000"), job("generate_class_images"), job("segment_instances")]
        + [job("train_custom_diffusion", number=i) for i in range(19)]
        + [
            job("invert_image", dataset="voc", split=split, inversion="nti", shard=f"{i:05d}")
            for split, shards in (("train", 30), ("val", 29))
            for i in range(shards)
        ],
        (40, 60),
    ),
}  # fmt: skip


@pytest.mark.parametrize("item", ITEMS)
def test_the_unit_costs_agree_with_the_audit_of_the_paper_scale(item, tmp_path):
    jobs, (low, high) = ITEMS[item]
    hours = Prices(work_of(tmp_path, AUDITED), {}).of(jobs).gpu / HOUR
    assert low / 1.5 < hours < high * 1.5, hours


def test_coco_s_crf_agrees_with_the_audit_s_64_core_hours(tmp_path):
    work = work_of(tmp_path, "segmentors: {deeplabv2_coco: {test: {crf: true}}}")
    predictions = job("evaluate_segmentor", segmentor="deeplabv2_coco", split="val")
    cost = Prices(work, {}).of([predictions])
    assert 64 / 1.5 < cost.cpu / HOUR < 64 * 1.5
    assert cost.gpu == 0  # of a job without a GPU, which refines the predictions of another one
    on_a_gpu = Planned(
        "evaluate_segmentor", predictions.fields | {"resources": "runtime=240, gpu=1"}
    )
    scales = work.config["segmentors"]["deeplabv2_coco"]["test"]
    passes = 40137 * len(scales["scales"]) * (1 + scales["flip"])
    assert work.units(on_a_gpu)["pass"] == passes


def test_passes_are_photos_times_noises_and_of_single_queries_times_classes(tmp_path):
    work = work_of(tmp_path, "extraction: {noises: 7, shard_size: 100}")
    assert work.units(shard("base"))["pass"] == 100 * 7
    assert work.units(shard("base", 14))["pass"] == 64 * 7  # of 1,464 photos
    assert work.units(shard("prompt_000"))["pass"] == 100 * 1 * 1.5


def test_a_training_is_all_its_crops(tmp_path):
    work = work_of(
        tmp_path, "segmentors: {a: {extends: real_voc, batch: 4, iterations: 9, crop: 500}}"
    )
    assert work.units(training("a"))["megapixel of deeplabv3plus"] == 4 * 9 * 0.25


def test_a_job_that_two_targets_need_is_counted_once():
    plan = [
        job("extract", "maps, list"), job("refine", "masks", "maps, photos"), job("score", "a", "masks"),
        job("show", "b", "masks, list"), job("other", "c"), job("both", "", "a, b"),
    ]  # fmt: skip

    def rules(goal: str) -> list[str]:
        return [found.rule for found in jobs_for(goal, plan)]

    assert rules("a") == ["extract", "refine", "score"]
    assert rules("b") == ["extract", "refine", "show"]
    assert rules("both") == ["extract", "refine", "score", "show", "both"]
    assert rules("c") == ["other"]


def test_records_of_this_machine_correct_the_costs_of_their_kind_alone(tmp_path):
    work = work_of(tmp_path, "segmentors: {deeplabv2_voc: {iterations: 1000}}")
    plan = [
        training(name, output=f"work/{name}", log=f"work/logs/train_segmentor/{name}.log")
        for name in ("deeplabv2_voc", "deeplabv2_coco", "real_voc", "beco_voc")
    ]
    plain = Prices(work, {})
    before = {name: plain.of_job(found).gpu for name, found in zip("vcrb", plan, strict=True)}
    benchmarks = tmp_path / "work/benchmarks/train_segmentor"
    benchmarks.mkdir(parents=True)
    for name, seconds in (("deeplabv2_voc", 3 * before["v"]), ("real_voc", 1.0)):
        attempt = {"seconds": seconds / 2, "cpu_seconds": 1, "peak_mib": 1}
        record = {"command": [], "attempts": [attempt, attempt], "read": [], "wrote": []}
        (benchmarks / f"{name}.json").write_text(json.dumps(record))
    (tmp_path / "work/deeplabv2_voc").touch()  # real_voc's training was not finished
    found = measured(plan, work, tmp_path)
    assert found == {("train_segmentor", "job", "megapixel of deeplabv2"): (1, pytest.approx(3))}
    corrected = Prices(work, {kind: factor for kind, (_, factor) in found.items()})
    after = {name: corrected.of_job(found).gpu for name, found in zip("vcrb", plan, strict=True)}
    times = {name: after[name] / before[name] for name in before}
    assert times == {name: pytest.approx(of) for name, of in zip("vcrb", (3, 3, 1, 1), strict=True)}


def test_archives_are_counted_where_they_are_downloaded_and_are_kept_beside_their_files(tmp_path):
    coco = [job("download_dataset", dataset="coco")]
    archives = 252872794 + 13510573713 + 6645013297  # annotations, photos of train and of val
    cost = Prices(work_of(tmp_path), {}).of_data(coco)
    assert (cost.download, cost.disk) == (archives, 2 * archives)
    there = work_of(tmp_path, "datasets: {coco: {source: folder}}")
    assert Prices(there, {}).of_data(coco) == Cost()


def test_the_mini_scale_has_costs_of_its_own(tmp_path):
    prices = Prices(work_of(tmp_path, "{}", str(CONFIG / "mini.yaml")), {})
    cost = prices.of([training("deeplabv2_voc"), job("make_table", target="voc_table1")])
    assert (cost.gpu, cost.cpu) == (0, 101) and cost.jobs == 2


def test_every_unit_of_a_job_has_a_cost_with_its_source(tmp_path):
    work, costs = work_of(tmp_path), read_costs()
    for jobs, _ in ITEMS.values():
        for found in jobs:
            units = set(work.units(found)) - {"job"}
            assert units <= set(costs["units"][found.rule]), found
    for rule, units in costs["units"].items():
        for unit, cost in units.items():
            assert cost["source"] and set(cost) - {"source"} <= {
                "gpu",
                "cpu",
                "bytes",
                "download",
            }, (rule, unit)
