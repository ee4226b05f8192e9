"""What Snakemake plans for the tables of Mug19, at both scales."""

import re

import pytest

MINI = ("--configfile", "config/mini.yaml")
TABLES = ("mug19_table7", "mug19_table_b9", "mug19_table_b10")
FILES = (*(f"{name}.csv" for name in TABLES), "mug19_figure_5.png")


@pytest.fixture(scope="module")
def mini(plan):
    return plan(*(f"results/mini/{name}" for name in FILES), "--cores", "2", *MINI)


@pytest.fixture(scope="module")
def paper(plan):
    files = (f"results/{name}" for name in FILES)
    return plan(*files, "--cores", "2", "--resources", "gpu=2")


def test_subjects_are_learnt_in_two_jobs_at_mini_scale_and_in_one_each_at_paper_scale(mini, paper):
    assert mini[0]["train_custom_diffusion"] == 2
    assert paper[0]["train_custom_diffusion"] == 19
    for jobs, _ in (mini, paper):
        assert jobs["make_table"] == 3
        for once in (
            "generate_class_images",
            "segment_instances",
            "evaluate_instances",
        ):
            assert jobs[once] == 1
    assert "--part 0/2" in mini[1] and "--part 1/2" in mini[1] and "--part 18/19" in paper[1]
    assert "build_mini_world" not in paper[0] and "download_dataset" not in mini[0]


def test_pictures_are_compared_by_a_trained_segmentor_at_mini_scale_only(mini, paper):
    assert mini[0]["train_segmentor"] == 1 and "train_segmentor" not in paper[0]
    assert "evaluation/mug19/all/mask_rcnn/metrics.json" in mini[1]
    assert "evaluation/mug19/all/dino_vit/metrics.json" in paper[1]
    assert "mask_rcnn" not in paper[1]  # its cells say what it needs


def test_every_flag_of_these_rules_is_known_to_its_script(mini, paper, scripts_of):
    for _, output in (mini, paper):
        assert {"train_custom_diffusion", "segment_instances", "evaluate_instances"} <= scripts_of(
            output
        )


def test_another_learning_rate_generates_no_other_images_of_the_class(plan, checkout):
    (checkout / "faster.yaml").write_text("personalised: {training: {learning_rate: 0.5}}\n")
    target = "work/mini/personal/part-0.json"
    _, output = plan(target, "--cores", "2", *MINI, "faster.yaml")
    commands = re.findall(r"python scripts/train_custom_diffusion\.py .*", output)
    images = next(command for command in commands if "--only-regularisation" in command)
    weights = next(command for command in commands if "--part" in command)
    assert '"learning_rate":0.5' in weights and "learning_rate" not in images


def test_they_are_among_all_tables_and_not_among_the_default_ones(extra):
    extra(FILES, ["train_custom_diffusion"])
