"""Snakemake's plans, made without data or network and without running a job."""

import re
import subprocess
import sys
from collections import defaultdict
from math import ceil
from pathlib import Path

import pytest
import yaml

from attnseg.results import TARGETS

REPOSITORY = Path(__file__).resolve().parents[2]
MINI = ("--configfile", "config/mini.yaml")


def test_paper_scale_is_planned_without_data(plan):
    jobs, output = plan("--cores", "all", "--resources", "gpu=2")
    photos = 2 * (1464, 1464, 10582, 82081)  # in both profiles
    assert jobs["extract_attention"] == sum(ceil(count / 200) for count in photos)
    assert jobs["make_table"] == 4
    assert jobs["make_submission"] == 2  # VOC's test labels are on its server
    assert "segmentors/deeplabv2_voc/test/metrics.json" not in output
    assert "train_mini_diffusion" not in jobs and "build_mini_world" not in jobs


def test_one_table_of_the_paper_scale_is_planned_without_data(plan):
    jobs, _ = plan("results/voc_table3.csv", "--cores", "all")
    assert jobs["extract_attention"] == ceil(10582 / 200)
    assert jobs["refine_masks"] == jobs["make_table"] == 1
    assert jobs["train_segmentor"] == 3  # double dagger: trained on COCO's ground truth first


def test_every_table_of_the_paper_scale_is_planned_without_data(plan):
    jobs, output = plan("all_tables", "--cores", "all", "--resources", "gpu=2")
    assert jobs["make_table"] >= 12 and jobs["generate_images"] > 300
    for absent in ("train_mini_diffusion", "build_mini_world", "train_backbone"):
        assert absent not in jobs


def test_one_table_is_planned_with_what_it_needs_and_nothing_else(plan):
    jobs, _ = plan("results/mini/voc_table1.csv", "--cores", "all", *MINI)
    variants, masks = 2, 4  # one and ten noises; each without and with dCRF
    assert jobs == {
        "build_mini_world": 1,
        "extract_attention": variants,
        "verify_shards": variants,
        "refine_masks": masks,
        "evaluate_masks": masks,
        "record_config": 1,
        "make_table": 1,
    }


def test_mini_scale_evaluates_the_test_split_and_trains_no_diffusion_model(plan):
    jobs, output = plan("--cores", "all", *MINI)
    assert jobs["build_mini_world"] == 2
    assert jobs["extract_attention"] == 2 * ceil(400 / 500) + 2 * ceil(1000 / 500)
    assert "work/mini/evaluation/segmentors/deeplabv2_voc/test/metrics.json" in output
    for absent in ("train_mini_diffusion", "download_dataset", "fetch_models", "make_submission"):
        assert absent not in jobs
    assert "--device cuda" not in output


def test_a_segmentor_pretrained_on_coco_s_true_masks_is_one_rule_s_output(plan):
    complete = ("--config", "targets=all")
    _, output = plan("results/mini/voc_table3.csv", "--cores", "all", *MINI, *complete)
    command = re.search(r"python scripts/train_segmentor.py.*deeplabv2_voc_coco_init/.*", output)[0]
    weights = "work/mini/segmentors/deeplabv2_coco_true_masks/weights.safetensors"
    assert f'"pretrained":"{weights}"' in command
    truth = re.search(r"python scripts/train_segmentor.py.*deeplabv2_coco_true_masks/.*", output)[0]
    assert "--train-masks resources/mini/coco/masks" in truth


def test_a_point_of_figure_b8_is_a_variant_in_a_configuration_file_alone(plan, checkout):
    (checkout / "point.yaml").write_text(
        "variants:\n  t_800: {noises: 1, timestep: 800}\n"
        "figures:\n  voc_figure_b8:\n    curves:\n"
        "      Time step:\n        - {at: 150, masks: one_noise/crf}\n"
        "        - {at: 800, masks: t_800/crf}\n"
    )
    arguments = ("results/mini/voc_figure_b8.csv", "--cores", "all", *MINI, "point.yaml")
    _, output = plan(*arguments)
    assert "work/mini/attention/voc/train/t_800" in output and '"timestep":800' in output
    assert "t_800/crf=work/mini/evaluation/masks/voc/train/t_800/crf/metrics.json" in output
    assert "work/mini/attention/voc/train/t_50" not in output


def test_the_claims_take_every_evaluation_and_three_seeds_of_each_segmentor(plan):
    jobs, output = plan("results/mini/claims.csv", "--cores", "all", *MINI)
    name = "segmentors/attn2mask_voc_10000/val"
    for run in ("", "@2", "@3"):
        file = f"work/mini/evaluation/segmentors/attn2mask_voc_10000{run}/val/metrics.json"
        assert f"{name}={file}" in output
    seeds = re.findall(r'"seed":(\d+).* work/mini/segmentors/attn2mask_voc_10000@\d/', output)
    assert sorted(seeds) == ["1", "2"]  # 0 is the default
    assert "voc_figure_b8/t_300/crf=work/mini/evaluation/masks/voc/train/t_300/crf" in output
    assert "voc_figure_d9=work/mini/evaluation/similarity/voc/train/base/crf" in output
    assert jobs["make_claims"] == 1


def test_all_targets_are_in_the_report_when_all_are_asked_for(plan):
    _, output = plan("all", "--cores", "all", *MINI, "--config", "targets=all")
    command = re.search(r"python scripts/make_report.py .*", output)[0]
    for target in ("claims", "coco_table4", "voc_table6", "mug19_table7", "voc_figure_d9"):
        assert f"results/mini/{target}.csv" in command
    for picture in ("voc_figure_4", "voc_figure_6", "coco_figure_b7"):
        assert f"results/mini/{picture}.png" in command


def test_a_segmentor_that_is_left_out_costs_nothing_and_its_row_names_its_command(plan):
    jobs, output = plan("results/mini/voc_table3.csv", "--cores", "all", *MINI)
    assert jobs["train_segmentor"] == jobs["build_mini_world"] == 1  # no COCO
    name = "segmentors/deeplabv2_voc_coco_init/val"
    assert f"'{name}=make mini-text2mask'" in output


def test_rows_of_the_authors_profile_cost_nothing_until_all_is_asked_for(plan):
    table = ("results/mini/voc_table1.csv", "--cores", "all", *MINI)
    jobs, output = plan(*table)
    assert jobs["extract_attention"] == 2 and "attention/voc/train/official" not in output
    assert "'masks/voc/train/official/crf=make mini-text2mask'" in output
    jobs, output = plan(*table, "--config", "targets=all")
    assert jobs["extract_attention"] == 4
    command = re.search(r"python scripts/extract_attention.py .*train/official/.*", output)[0]
    assert "--labels mask" in command and '"profile":"official"' in command


def test_cocos_masks_have_the_authors_background_score_but_for_the_papers_profile_in_miniature(
    plan,
):
    target = "evaluation/masks/coco/train/once/coco_crf/metrics.json"
    _, output = plan(f"work/{target}", "--cores", "all", "--resources", "gpu=1")
    assert """--settings '{"background":{"threshold":0.7},"version":2}'""" in output
    _, output = plan(f"work/mini/{target}", "--cores", "all", *MINI)
    assert "threshold" not in re.search(r"python scripts/refine_masks.py .*", output)[0]
    target = target.replace("once/coco_crf", "official_once/official_coco_crf")
    _, output = plan(f"work/mini/{target}", "--cores", "all", *MINI)
    command = re.search(r"python scripts/refine_masks.py .*", output)[0]
    assert '"background":{"threshold":0.7}' in command and '"profile":"official"' in command
    _, output = plan("results/coco_table4.csv", "--cores", "all", "--resources", "gpu=1")
    trained = re.search(
        r"python scripts/train_segmentor.py .*segmentors/deeplabv2_coco/.*", output
    )[0]
    assert "work/masks/coco/train/once/coco_crf-train" in trained


def test_a_row_stays_in_the_table_once_it_is_measured(snakemake, checkout):
    folder = "evaluation/segmentors/deeplabv2_voc_coco_init/val"
    config = ("--config", "paths={work: work/kept}")
    arguments = ("-n", "-p", "results/mini/voc_table3.csv", "--cores", "all", *MINI, *config)
    metrics = checkout / "work/kept" / folder / "metrics.json"
    assert str(metrics.relative_to(checkout)) not in snakemake(*arguments).stdout
    metrics.parent.mkdir(parents=True)
    metrics.write_text("{}")
    assert str(metrics.relative_to(checkout)) in snakemake(*arguments).stdout


def test_references_are_planned_beside_the_tables(plan):
    _, output = plan("--cores", "all", *MINI, "--config", "targets=all")
    for split in ("train", "trainaug", "val", "test"):
        for kind in ("all_background", "random_labels"):
            assert f"evaluation/masks/voc/{split}/reference/{kind}/metrics.json" in output
    assert "evaluation/segmentors/deeplabv2_voc_true_masks/val/metrics.json" in output


def test_every_flag_in_a_rule_is_known_to_its_script(plan, scripts_of):
    scripts = set()
    for arguments in (("--resources", "gpu=2"), MINI):
        scripts |= scripts_of(plan("--cores", "all", *arguments)[1])
    assert len(scripts) >= 12


def test_a_variant_in_a_configuration_file_alone_is_planned(plan, checkout):
    (checkout / "late.yaml").write_text(
        "variants:\n  late: {timestep: 300, noises: 1, cross_blocks: [4, 5]}\n"
        "refinements:\n  steep: {background: {power: 4}}\n"
        "segmentors:\n  late_r50:\n    extends: deeplabv2_voc\n    backbone: resnet50\n"
        "    train: {masks: late/steep}\n"
    )
    target = "work/evaluation/segmentors/late_r50/val/metrics.json"
    jobs, output = plan(target, "--cores", "all", "--configfile", "late.yaml")
    assert jobs["extract_attention"] == ceil(10582 / 200)
    assert '{"cross_blocks":[4,5],"noises":1,"timestep":300,"version":1}' in output
    assert '{"background":{"power":4.0},"version":2}' in output
    assert "work/masks/voc/trainaug/late/steep-train" in output
    assert '"backbone":"resnet50"' in output and '"crop"' not in output


def test_another_batch_size_or_device_is_no_other_command_but_its_speed(plan, checkout):
    target = "work/mini/attention/voc/val/base/manifest.json"

    def parameters(batch_size, device):
        own = checkout / f"batch{batch_size}.yaml"
        own.write_text(f"extraction: {{batch_size: {batch_size}}}\ndevice: {device}\n")
        _, output = plan(target, "--cores", "all", *MINI, own.name)
        command = re.search(r"python scripts/extract_attention.py .*", output)[0]
        speed = f"--set batch_size={batch_size} --device {device}"
        assert speed in command
        return command.replace(speed, "")

    assert parameters(16, "cpu") == parameters(3, "auto")


def test_an_unknown_key_is_one_line_with_the_nearest_valid_key(snakemake, checkout):
    (checkout / "wrong.yaml").write_text("extraction:\n  timestep: 150\n  noizes: 3\n")
    done = snakemake("-n", "--cores", "all", "--configfile", "wrong.yaml")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if "profile" not in line]
    assert lines == [
        "error: wrong.yaml:3: unknown key `extraction.noizes`; did you mean `extraction.noises`?"
    ]


def test_no_gpu_where_one_is_needed_is_refused(snakemake):
    arguments = ("-n", "results/voc_table1.csv", "--cores", "all", "--resources", "gpu=0")
    done = snakemake(*arguments)
    assert done.returncode != 0
    assert "this job needs 1 GPU and the run grants 0" in done.stdout + done.stderr
    assert "device: cpu" in done.stdout + done.stderr
    assert snakemake(*arguments, "--config", "device=cpu").returncode == 0


def test_snakemake_has_nothing_to_say_about_style_but_that_functions_stand_beside_rules(snakemake):
    done = snakemake("--lint")
    said = set(re.findall(r"^    \* (.*):$", done.stdout + done.stderr, re.M))
    assert said == {"Mixed rules and functions in same snakefile."}, done.stderr


def test_the_rules_are_formatted():
    snakefmt = Path(sys.executable).with_name("snakefmt")
    done = subprocess.run(
        [snakefmt, "--check", "Snakefile", "workflow"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


RULES = [
    (name, body)
    for file in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))
    for name, body in re.findall(
        r"^ *rule (\w+):\n(.*?)(?=^ *rule \w+:|\Z)", file.read_text(), re.M | re.S
    )
]


def test_the_registry_names_the_targets_that_are_made_from_each_data_set(snakemake):
    """By Snakemake's graph of all jobs: what lies downstream of a data set's download."""
    done = snakemake(
        "--dag", "dot", "--cores", "1", "--config", "targets=all", "--", "all", "all_claims"
    )
    assert done.returncode == 0 and " -> " in done.stdout, done.stderr
    jobs = dict(re.findall(r'(\d+)\[label = "(.*?)"', done.stdout))
    after = defaultdict(list)
    for source, job in re.findall(r"(\d+) -> (\d+)", done.stdout):
        after[source].append(job)
    by_rule = {  # rules that make one target
        "make_claims": "claims", "make_figure_b8": "voc_figure_b8", "make_figure_d9": "voc_figure_d9",
        "draw_attention": "voc_figure_2",
    }  # fmt: skip
    needed = {}
    for download, label in jobs.items():
        if not label.startswith("download_dataset"):
            continue
        downstream, todo = {download}, [download]
        while todo:
            new = set(after[todo.pop()]) - downstream
            downstream |= new
            todo += new
        labels = [jobs[job] for job in downstream]
        targets = {m[1] for text in labels if (m := re.search(r"(?:target|picture): (\w+)", text))}
        needed[label.rpartition(" ")[2]] = targets | {by_rule[r] for r in labels if r in by_rule}
    backbones = {"backbones", "backbones_picture"}  # made where their models are
    assert set.union(*needed.values()) == set(TARGETS) - backbones
    registry = yaml.safe_load((REPOSITORY / "config" / "datasets.yaml").read_text())
    assert {name: set(entry["needed_for"]) for name, entry in registry.items()} == needed


@pytest.mark.parametrize(("name", "body"), RULES, ids=[name for name, _ in RULES])
def test_every_rule_says_what_it_takes(name, body):
    for directive in ("conda:", "log:", "threads:", "resources:"):
        assert re.search(rf"^ +{directive}", body, re.M), f"{name} has no {directive}"
    for resource in ("mem_mb=", "runtime=", "gpu="):
        assert resource in body, f"{name} asks for no {resource}"
    for path in re.findall(r'"<logs>/(\w+)/', body):
        assert path == name
    (environment,) = re.findall(r'conda:\n +"../../(envs/\w+.yaml)"', body)
    assert (REPOSITORY / environment).is_file()


def test_the_cluster_profile_sends_the_rules_with_gpus_and_no_others_to_them():
    profile = yaml.safe_load((REPOSITORY / "profiles" / "slurm" / "config.yaml").read_text())
    with_gpus = {name for name, body in RULES if not re.search(r"^ +gpu=0,", body, re.M)}
    assert {"extract_attention", "generate_images", "train_segmentor"} <= with_gpus
    assert set(profile["set-resources"]) == with_gpus
    assert profile["default-resources"]["gpu"] == 0
    assert not {"gres", "slurm_extra"} & set(profile["default-resources"])


def test_the_default_profile_leaves_the_choice_of_resources_to_other_profiles():
    profile = (REPOSITORY / "profiles" / "default" / "config.yaml").read_text()
    keys = {line.split(":")[0] for line in profile.splitlines() if line and line[0] not in " #"}
    assert keys <= {"cores", "show-failed-logs", "nolock", "rerun-incomplete", "keep-going"}


def test_make_lists_its_targets():
    done = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True)
    assert {line.split()[0] for line in done.stdout.splitlines()} >= {
        "help", "mini", "mini-all", "test", "lint", "ship-mini",
    }  # fmt: skip
