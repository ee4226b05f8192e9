"""Two checkouts are compared in all that they compute, and each difference is named."""

import copy
import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from attnseg.errors import UserError, run
from tools import same_results
from tools.same_results import (
    GROUPS,
    compare,
    flat,
    loss_reasons,
    plan_differences,
    planned_jobs,
    renamed,
    segmentor_differences,
)

SHARD = "work/mini/attention/voc/train/base/shard-00000.safetensors"
MASK = "work/mini/masks/voc/train/base/crf/2012_000001.png"
RELIABILITY = "work/mini/masks/generated/voc/crf/10/reliability/00000000.png"
LORA = "work/mini/loras/cityscapes.safetensors"
SUBJECT = "work/mini/personal/subjects/mug_1/pytorch_custom_diffusion_weights.safetensors"
INVERTED = "work/mini/inverted/voc/val/nti/shard-00000.safetensors"
GENERATED = "work/mini/generated/voc/shard-00000.safetensors"
FILES = ["attention", "masks", "generated", "inverted", "loras", "personal", "tables"]
COLUMNS = "method,metric,paper,ours,status,dataset,split,n_images,model,seed,note".split(",")
SEGMENTOR = "DeepLabV2 ResNet-18 (32 channels)"


def write_table(path: Path, *rows: tuple) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for method, metric, ours, model, note in rows:
            about = ("measured", "mini_voc", "val", 200)
            writer.writerow((method, metric, 70, ours, *about, model, 0, note))


def tables(root: Path, crf="72.3", val="63.5", free="50.0", note="in float32") -> None:
    folder = root / "results/mini"
    write_table(folder / "voc_table1.csv", ("Ours", "dCRF", crf, "assets/mini_sd", note))
    rows = [("Ours R101", "Val", val), ("Ours R101", "Test", free)]
    write_table(folder / "voc_table3.csv", *((*row, SEGMENTOR, note) for row in rows))


@pytest.fixture
def trees(tmp_path):
    """(OLD, NEW): two equal tiny trees, as runs leave them."""
    old, new = tmp_path / "old", tmp_path / "new"
    generator = np.random.default_rng(0)
    for name in (SHARD, GENERATED, INVERTED, LORA, SUBJECT):
        (old / name).parent.mkdir(parents=True)
        tensors = {
            "a/cross": generator.random((2, 8, 8)).astype(np.float16),
            "b/cross": generator.random((1, 4, 4)).astype(np.float32),
        }
        save_file(tensors, old / name, metadata={"made": "before"})
    for name in (MASK, RELIABILITY, "work/mini/generated/voc/images/00000000.png"):
        (old / name).parent.mkdir(parents=True)
        Image.fromarray(generator.integers(0, 9, (6, 6), dtype=np.uint8)).save(old / name)
    (old / "work/mini/generated/voc/prompts.jsonl").write_text('{"id": "0", "classes": ["dog"]}\n')
    (old / "Snakefile").touch()
    tables(old)
    (old / "tests/expected").mkdir(parents=True)
    (old / "tests/expected/mini.csv").write_text(
        "target,method,metric,value,tolerance\nvoc_table3,Ours R101,Val,63.0,1.0\n"
    )
    shutil.copytree(old, new)
    return old, new


@pytest.fixture
def same(trees, capsys):
    """Compares the trees: arguments -> (status, what was printed, lines)."""

    def call(*arguments: str, only: list[str] = FILES) -> tuple[int, list[str]]:
        status = same_results.main([*map(str, trees), "--only", *only, *arguments])
        return status, capsys.readouterr().out.splitlines()

    return call


def rewrite(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_equal_trees_are_a_line_each(same):
    status, lines = same()
    assert status == 0
    assert lines == [
        "attention: 1 shards, 2 tensors: equal",
        "masks: 2 masks and reliability maps: equal",
        "generated: 1 files, 2 tensors, 2 images and lists of prompts: equal",
        "inverted: 1 files, 2 tensors: equal",
        "loras: 1 files, 2 tensors: equal",
        "personal: 1 files, 2 tensors: equal",
        "tables: 2 tables, 3 rows: equal",
    ]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        (SHARD, "attention"),
        (GENERATED, "generated"),
        (INVERTED, "inverted"),
        (LORA, "loras"),
        (SUBJECT, "personal"),
    ],
)
def test_one_changed_value_of_a_tensor_is_named(trees, same, name, group):
    def change(tensors):
        tensors["a/cross"][1, 3, 3] += 0.25

    rewrite(trees[1] / name, change)
    status, lines = same()
    assert status == 1
    told = [line for line in lines if not line.endswith(": equal")]
    assert told[0].startswith(f"{group}: ") and told[0].endswith(": 1 difference")
    assert told[1].endswith(f"{Path(name).name}: a/cross: values differ, by 0.25 at most")
    assert len(told) == 2


def test_another_dtype_shape_name_or_shard_is_named(trees, same):
    def change(tensors):
        tensors["a/cross"] = tensors["a/cross"].astype(np.float32)
        tensors["b/cross"] = tensors["b/cross"].reshape(4, 4)
        tensors["c/cross"] = np.zeros(1, np.int8)

    rewrite(trees[1] / SHARD, change)
    shutil.copy(trees[1] / LORA, (trees[0] / SHARD).with_name("shard-00001.safetensors"))
    status, lines = same(only=["attention"])
    assert (status, lines[0]) == (1, "attention: 2 shards, 2 tensors: 4 differences")
    at = "  voc/train/base/shard-0000"
    assert set(lines[1:]) == {
        f"{at}1.safetensors: only in OLD",
        f"{at}0.safetensors: c/cross: only in NEW",
        f"{at}0.safetensors: a/cross: 'F16 [2, 8, 8]', now 'F32 [2, 8, 8]'",
        f"{at}0.safetensors: b/cross: 'F32 [1, 4, 4]', now 'F32 [4, 4]'",
    }


def test_the_files_metadata_may_change_and_a_damaged_file_may_not(trees, same):
    rewrite(trees[1] / SHARD, lambda tensors: None)
    assert (trees[0] / SHARD).read_bytes() != (trees[1] / SHARD).read_bytes()
    assert same(only=["attention"])[0] == 0
    (trees[1] / SHARD).write_bytes(b"12345678")
    status, lines = same(only=["attention"])
    assert status == 1 and "shard-00000.safetensors: not readable" in lines[1]


@pytest.mark.parametrize("name", [MASK, RELIABILITY])
def test_one_changed_byte_of_a_png_is_named(trees, same, name):
    content = bytearray((trees[1] / name).read_bytes())
    content[-20] ^= 1
    (trees[1] / name).write_bytes(content)
    status, lines = same(only=["masks"])
    assert status == 1
    assert lines[1] == f"  {name.removeprefix('work/mini/masks/')}: bytes differ"
    learnt = str(Path(name.removeprefix("work/mini/masks/")).parent)
    assert same("--learnt-masks", learnt, only=["masks"])[0] == 0
    assert same("--learnt-masks", learnt[:-1], only=["masks"])[0] == 1


def test_the_classes_of_generated_images_are_compared(trees, same):
    path = trees[1] / "work/mini/generated/voc/prompts.jsonl"
    path.write_text(path.read_text().replace("dog", "cat"))
    status, lines = same(only=["generated"])
    assert status == 1 and lines[1] == "  voc/prompts.jsonl: bytes differ"


def test_a_changed_cell_is_named_and_a_note_is_not(trees, same):
    tables(trees[1], note="elsewhere")
    assert same(only=["tables"])[0] == 0
    tables(trees[1], crf="72.4")
    status, lines = same(only=["tables"])
    assert status == 1
    assert lines[1:] == ["  voc_table1.csv: Ours, dCRF: ours: '72.3', now '72.4'"]


def test_what_a_segmentor_reaches_may_differ_within_its_tolerance(trees, same):
    tables(trees[1], val="64.5", free="47.0")  # 1.0 is expected of the first, 3.0 of any
    assert same(only=["tables"])[0] == 0
    tables(trees[1], val="64.6", free="46.9")
    status, lines = same(only=["tables"])
    assert status == 1
    assert lines[1:] == [
        "  voc_table3.csv: Ours R101, Val: ours: '63.5', now '64.6'",
        "  voc_table3.csv: Ours R101, Test: ours: '50.0', now '46.9'",
    ]
    tables(trees[1], val="")
    assert same(only=["tables"])[0] == 1


def test_a_missing_row_column_and_table_are_named(trees, same):
    folder = trees[1] / "results/mini"
    (folder / "voc_table1.csv").write_text("method,metric,ours\nOurs,Initial,1\n")
    (folder / "voc_table3.csv").unlink()
    status, lines = same(only=["tables"])
    assert status == 1
    assert "  voc_table3.csv: only in OLD" in lines
    assert "  voc_table1.csv: Ours, dCRF: only in OLD" in lines
    (folder / "voc_table1.csv").write_text("method,metric,ours\nOurs,dCRF,72.3\n")
    assert "  voc_table1.csv: Ours, dCRF: model: only in OLD" in same(only=["tables"])[1]


def test_a_claim_about_a_segmentor_has_a_tolerance_and_its_verdict_has_none(trees, same):
    columns = "id,claim,ours,low,high,verdict,note\n"
    rows = ["a,A beats B,4.0,1.0,7.0,holds", "a,A beats B,3.0,0.5,9.0,holds"]
    for root, row in zip(trees, rows, strict=True):
        for of, model in (("claims", SEGMENTOR), ("others", "assets/mini_sd")):
            path = root / f"results/mini/{of}.csv"
            path.write_text(f'{columns}{row},"mini_voc val, {model}"\n')
    status, lines = same(only=["tables"])
    assert status == 1
    assert {line.split(":")[0].strip() for line in lines[1:]} == {"others.csv"}
    path = trees[1] / "results/mini/claims.csv"
    path.write_text(path.read_text().replace("holds", "undecided"))
    assert "  claims.csv: a: verdict: 'holds', now 'undecided'" in same(only=["tables"])[1]


def test_ten_differences_of_a_group_are_shown(trees, same):
    for i in range(12):
        shutil.copy(trees[0] / MASK, trees[0] / MASK.replace("1.png", f"1_{i:02d}.png"))
    status, lines = same(only=["masks"])
    assert status == 1
    assert lines[0].endswith("12 differences") and len(lines) == 12
    assert lines[-1] == "  and 2 more"


def test_what_only_one_has_fails_where_it_must(trees, same):
    for folder in ("masks", "generated"):
        shutil.rmtree(trees[1] / "work/mini" / folder)
    status, lines = same(only=["generated"])
    assert (status, lines) == (0, ["generated: nothing to compare"])
    assert same("--strict", only=["generated"])[0] == 1
    assert same(only=["masks"])[0] == 1
    shutil.rmtree(trees[0] / "work/mini/masks")
    assert same(only=["masks"]) == (0, ["masks: nothing to compare"])
    assert same("--strict", only=["masks"])[0] == 1


def test_unfinished_work_is_not_compared(trees, same):
    hidden = (trees[1] / SHARD).with_name(".shard-00001-abc") / "00000000-4.safetensors"
    hidden.parent.mkdir()
    shutil.copy(trees[1] / SHARD, hidden)
    assert same(only=["attention"])[0] == 0


def test_a_group_that_cannot_be_compared_does_not_end_the_others(trees, same, monkeypatch):
    def fails(*_):
        raise UserError("NEW: cannot be asked")

    monkeypatch.setitem(GROUPS, "plan", fails)
    status, lines = same(only=["plan", "tables"])
    assert status == 1
    assert lines == ["plan: NEW: cannot be asked", "tables: 2 tables, 3 rows: equal"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no checkout of this repository; name one with a Snakefile"),
        (["--renamed", "refine_masks"], "--renamed refine_masks: write it as OLD=NEW"),
    ],
)
def test_a_wrong_argument_is_one_line(tmp_path, capsys, arguments, told):
    argv = [str(tmp_path), str(tmp_path), *arguments]
    assert run(lambda: same_results.main(argv)) == 1
    errors = capsys.readouterr().err
    assert told in errors and errors.count("\n") == 1


# -- segmentors


FOUND = {
    "descriptions": {
        "paper scale, deeplabv2_voc": {
            "model": {"backbone": {"depth": 101, "strides": [1, 2, 1, 1]}},
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.00025}},
            "default_hooks": {"timer": None},
        }
    },
    "losses": {"deeplabv2_voc": [3.1, 2.9]},
}


def test_nested_settings_have_a_name_each():
    assert flat({"a": {"b": [1, {"c": 2}], "d": {}}, "e": None}) == {
        "a.b.0": 1,
        "a.b.1.c": 2,
        "a.d": {},
        "e": None,
    }


def test_a_changed_setting_of_a_segmentor_is_named():
    other = copy.deepcopy(FOUND)
    assert segmentor_differences(FOUND, other) == []
    description = other["descriptions"]["paper scale, deeplabv2_voc"]
    description["optim_wrapper"]["optimizer"]["lr"] = 0.001
    description["model"]["backbone"]["strides"][2] = 2
    del description["default_hooks"]["timer"]
    at = "paper scale, deeplabv2_voc"
    assert segmentor_differences(FOUND, other) == [
        f"{at}: default_hooks.timer: only in OLD",
        f"{at}: default_hooks: only in NEW",
        f"{at}: model.backbone.strides.2: 1, now 2",
        f"{at}: optim_wrapper.optimizer.lr: 0.00025, now 0.001",
    ]
    assert len(segmentor_differences(FOUND, {"descriptions": {}, "losses": FOUND["losses"]})) == 1


def test_a_setting_that_changed_for_several_segmentors_is_one_line():
    description = FOUND["descriptions"]["paper scale, deeplabv2_voc"]
    old, new = (
        {"descriptions": {name: copy.deepcopy(description) for name in "abc"}, "losses": {}}
        for _ in range(2)
    )
    for name in "bc":
        new["descriptions"][name]["optim_wrapper"]["optimizer"]["type"] = "AdamW"
    assert segmentor_differences(old, new) == [
        "b and 1 more: optim_wrapper.optimizer.type: 'SGD', now 'AdamW'"
    ]


def test_losses_are_equal_to_a_millionth():
    assert loss_reasons([3.1, 2.9], [3.1 + 9e-7, 2.9 - 9e-7]) == []
    assert loss_reasons([3.1, 2.9], [3.1, 2.900002]) == [
        "the loss of iteration 2 was 2.9, now 2.900002"
    ]
    assert loss_reasons([3.1], [float("nan")]) != []
    assert loss_reasons([3.1, 2.9], [3.1]) == ["2, now 1"]


def test_six_small_images_are_the_same_each_time(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        same_results.write_toy(tmp_path / name)
    files = same_results.files_below(tmp_path / "a", ".png")
    assert len(files) == 18
    others = same_results.files_below(tmp_path / "b", ".png")
    assert compare(files, others, same_results.file_reasons) == []
    masks = [np.array(Image.open(path)) for name, path in files.items() if name.startswith("masks")]
    assert {*np.unique(masks[0])} == {0, 2, 255} and {*np.unique(masks[1])} == {0, 1, 255}


# -- the plan


DRY_RUN = """Building DAG of jobs...
Job stats:
job      count
-----  -------
total        3

[Thu Nov 26 02:03:16 2026]
rule evaluate_masks:
    input: work/masks/a/manifest.json
    output: work/evaluation/a/metrics.json, work/evaluation/a/per_image.npz
    log: work/logs/evaluate_masks/a.log
    wildcards: dataset=a
    threads: 2
    resources: tmpdir=/tmp, runtime=240, gpu=1, device=--device cuda --set a=b, mem_mb=16000, mem=16 GB, mem_mib=15259
[Thu Nov 26 02:03:16 2026]
rule make_table:
    output: results/t.csv
    reason: Missing output files: results/t.csv
    resources: tmpdir=/tmp, runtime=30, gpu=0, mem_mb=2000, mem=2 GB, mem_mib=1908

[Thu Nov 26 02:03:16 2026]
localrule all:
    input: results/t.csv
    jobid: 0
    resources: tmpdir=/tmp
Job stats:
"""


def test_a_dry_run_is_read_job_by_job():
    evaluated = "evaluate_masks -> work/evaluation/a/metrics.json, work/evaluation/a/per_image.npz"
    assert planned_jobs(DRY_RUN) == {
        evaluated: {"threads": "2", "gpu": "1", "mem_mb": "16000", "runtime": "240"},
        "make_table -> results/t.csv": {
            "threads": "1",
            "gpu": "0",
            "mem_mb": "2000",
            "runtime": "30",
        },
        "all -> ": {"threads": "1", "gpu": "none", "mem_mb": "none", "runtime": "none"},
    }


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("threads: 2", "threads: 4", "per_image.npz: threads: '2', now '4'"),
        ("gpu=1", "gpu=2", "per_image.npz: gpu: '1', now '2'"),
        ("mem_mb=2000", "mem_mb=4000", "t.csv: mem_mb: '2000', now '4000'"),
        ("runtime=30,", "runtime=60,", "t.csv: runtime: '30', now '60'"),
    ],
)
def test_a_changed_resource_is_named(before, after, told):
    (line,) = plan_differences(planned_jobs(DRY_RUN), planned_jobs(DRY_RUN.replace(before, after)))
    assert line.endswith(told)


def test_a_changed_output_and_a_missing_job_are_named():
    other = planned_jobs(DRY_RUN.replace("output: results/t.csv", "output: results/u.csv"))
    assert plan_differences(planned_jobs(DRY_RUN), other) == [
        "make_table -> results/t.csv: only in OLD",
        "make_table -> results/u.csv: only in NEW",
    ]


def test_a_job_that_is_planned_twice_counts_twice():
    again = DRY_RUN + DRY_RUN[DRY_RUN.index("rule make_table") :]
    found = plan_differences(planned_jobs(DRY_RUN), planned_jobs(again))
    assert "make_table -> results/t.csv again: only in NEW" in found


def test_what_changed_for_several_jobs_is_a_line_a_rule():
    job = {"threads": "1", "gpu": "0"}
    old = {f"{rule} -> {output}": job for rule in ("draw", "refine") for output in "abc"}
    new = dict(old) | {"draw -> b": job | {"gpu": "1"}, "draw -> c": job | {"gpu": "1"}}
    new["refine -> a"] = job | {"gpu": "1"}
    assert plan_differences(old, new) == [
        "draw -> b and 1 more: gpu: '0', now '1'",
        "refine -> a: gpu: '0', now '1'",
    ]


def test_a_renamed_rule_is_the_same_rule():
    old, new = planned_jobs(DRY_RUN), planned_jobs(DRY_RUN.replace("make_table", "write_table"))
    assert len(plan_differences(old, new)) == 2
    assert plan_differences(renamed(old, {"make_table": "write_table"}), new) == []


def test_a_checkout_is_planned_from_nothing_and_not_written_to(checkout, tmp_path):
    own = tmp_path / "checkout"
    shutil.copytree(checkout, own, symlinks=True)
    for made in ("work/mini/config.json", "resources/mini/voc.json"):
        (own / made).parent.mkdir(parents=True)
        (own / made).touch()
    before = sorted(own.rglob("*"))
    target = ["results/mini/voc_table1.csv", "--configfile", "config/mini.yaml"]
    jobs = same_results.jobs_of(own, target)
    assert jobs["make_table -> " + ", ".join(
        f"results/mini/voc_table1.{kind}" for kind in ("csv", "html", "provenance.json")
    )]["gpu"] == "0"  # fmt: skip
    assert {
        "record_config -> work/mini/config.json",
        "build_mini_world -> resources/mini/voc.json",
    } <= {*jobs}
    assert sorted(own.rglob("*")) == before
    with pytest.raises(UserError, match="its code cannot be asked"):
        same_results.jobs_of(own, ["no_such_target"])
