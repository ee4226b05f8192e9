"""What Snakemake plans for attn2mask's tables, at both scales."""

import re
from math import ceil

import pytest

MINI = ("--configfile", "config/mini.yaml")
TARGETS = (
    "attn2mask_voc_table1",
    "attn2mask_voc_table2",
    "attn2mask_imagenet_s_table3",
    "attn2mask_cityscapes_table4",
    "attn2mask_voc_table5",
    "attn2mask_voc_table6",
)
RULES = (
    *("build_prompts", "generate_images", "refine_synthetic", "train_dreambooth_lora"),
    *("invert_image", "refine_inversion", "write_true_masks"),
)


@pytest.fixture(scope="module")
def mini(plan):
    return plan(*(f"results/mini/{t}.csv" for t in TARGETS), "--cores", "2", *MINI)


@pytest.fixture(scope="module")
def paper(plan):
    files = (f"results/{target}.csv" for target in TARGETS)
    return plan(*files, "--cores", "2", "--resources", "gpu=2")


def command_of(output: str, script: str, text: str) -> str:
    """The command of a script that holds `text`."""
    commands = re.findall(rf"python scripts/{script}\.py .*", output)
    return next(command for command in commands if text in command)


def test_the_six_tables_are_planned_at_mini_scale(mini):
    jobs, output = mini
    assert jobs["make_table"] == 6
    assert jobs["generate_images"] == 1200 // 300 + 600 // 300 + 1 + 1
    assert jobs["invert_image"] == 150 // 75 + 75 // 75
    assert jobs["train_segmentor"] == jobs["evaluate_segmentor"] == 20
    assert jobs["train_dreambooth_lora"] == 1
    assert jobs["build_mini_world"] == 3
    for absent in ("download_dataset", "fetch_models", "extract_attention"):
        assert absent not in jobs
    assert "--device cuda" not in output


def test_the_six_tables_are_planned_at_paper_scale_without_data(paper):
    jobs, output = paper
    size = 500
    sets = (168_679, 100_000, 12_000, 12_000)
    assert jobs["generate_images"] == sum(ceil(count / size) for count in sets)
    assert jobs["invert_image"] == ceil(1464 / 50) + ceil(1449 / 50)
    assert jobs["train_segmentor"] == 20
    assert "--captions resources/coco/annotations/captions_train2014.json" in output
    assert "build_mini_world" not in jobs


def test_every_flag_of_these_rules_is_known_to_its_script(mini, paper, scripts_of):
    for _, output in (mini, paper):
        assert set(RULES) - {"refine_inversion"} <= scripts_of(output)


def test_a_table_generates_no_more_images_than_it_needs(plan):
    jobs, output = plan("results/attn2mask_voc_table5.csv", "--cores", "2")
    assert jobs["generate_images"] == 10_000 // 500
    assert jobs["refine_synthetic"] == jobs["train_segmentor"] == 8
    for post in ('{"post":"threshold","theta":64.0,"version":3}', '{"post":"otsu","version":3}'):
        assert post in output
    assert '{"beta":0.0,"version":3}' in output


def test_only_the_adapted_images_come_from_the_lora(mini):
    _, output = mini
    adapted = command_of(output, "generate_images", "cityscapes_lora/shard")
    assert "--lora work/mini/loras/cityscapes.safetensors" in adapted
    assert "--lora" not in command_of(output, "generate_images", "generated/cityscapes/shard")
    assert "--adapted" in command_of(output, "build_prompts", "cityscapes_lora")
    assert "--adapted" not in command_of(output, "build_prompts", "generated/cityscapes/")


def test_segmentors_learn_from_generated_images_inverted_photos_and_true_masks(mini):
    _, output = mini
    generated = command_of(output, "train_segmentor", "attn2mask_voc_10000/")
    assert "--train-images work/mini/generated/voc/images" in generated
    assert "--train-masks work/mini/masks/generated/voc/crf/250" in generated
    assert "--train-split" not in generated and "--reliability" not in generated
    beco = command_of(output, "train_segmentor", "attn2mask_beco_voc_10000/")
    assert '"learner":"beco"' in beco
    assert "--reliability work/mini/masks/generated/voc/crf/250/reliability" in beco
    inverted = command_of(output, "train_segmentor", "nti_voc_train/")
    assert "--train-images resources/mini/VOCdevkit/VOC2012/JPEGImages" in inverted
    assert "--train-masks work/mini/masks/voc/train/nti/crf " in inverted
    real = command_of(output, "train_segmentor", "real_imagenet_s_10k/")
    assert "--train-split train-semi" in real
    assert "--train-masks work/mini/masks/imagenet_s/train-semi/truth" in real


def test_as_many_inverted_photos_are_scored_as_there_are(mini, paper):
    assert "--limit 75" in command_of(mini[1], "evaluate_masks", "/nti/crf")
    assert "--limit" not in command_of(paper[1], "evaluate_masks", "/nti/crf")


def test_they_are_among_all_tables_and_not_among_the_default_ones(extra, plan):
    extra([f"{target}.csv" for target in TARGETS], RULES)
    assert "segmentors/real_voc" not in plan("--cores", "2", *MINI)[1]
