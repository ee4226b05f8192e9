"""Which targets a configuration can make, and from which evaluations."""

import json
from pathlib import Path

import pytest

from attnseg.config.reading import read_config
from attnseg.config.resolved import resolve_variant
from attnseg.evaluations import Evaluation
from attnseg.jobs import Jobs
from attnseg.results import PICTURES, TARGETS
from attnseg.results.targets import Targets

CONFIG = Path(__file__).resolve().parents[2] / "config"


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> dict:
    """The paper scale, where nothing was made yet."""
    folder = tmp_path_factory.mktemp("work")
    config = read_config(CONFIG / "config.yaml")
    return config | {"paths": config["paths"] | {"work": str(folder)}}


BACKBONES = {"backbones", "backbones_picture"}  # of models that are not there


def targets_of(config: dict, **changed) -> Targets:
    return Targets(Jobs(config | changed))


def test_the_paper_scale_can_make_everything_and_each_target_is_in_one_group(config):
    targets = targets_of(config)
    assert set(targets.available) == set(TARGETS) - BACKBONES | set(config["pictures"])
    groups = [targets.group(name) for name in ("text2mask", "attn2mask", "mug19", "claims")]
    assert sorted(sum(groups, [])) == sorted(map(targets.file, targets.available))
    assert targets.group("claims") == ["<results>/claims.csv"]


def test_what_is_wanted_is_what_is_named(config):
    assert targets_of(config, targets=["voc_table1"]).wanted == ["voc_table1"]
    every = targets_of(config, targets="all")
    assert every.wanted == every.available


def test_without_a_data_set_its_targets_are_not_available(config):
    datasets = {name: entry for name, entry in config["datasets"].items() if name != "mug19"}
    lost = set(TARGETS) - BACKBONES - set(targets_of(config, datasets=datasets).available)
    assert "mug19_figure_5" in lost and lost == {name for name in TARGETS if "mug19" in name}


def test_a_segmentor_that_is_left_out_is_named_with_its_command(config):
    targets = targets_of(config, targets="all")
    trained = next(e for e in targets.measured("voc_table3") if e.trained)
    left = targets_of(config, targets=["voc_table3"], leave_out={trained.method: "make it"})
    assert trained not in left.measured("voc_table3") and trained in left.configured("voc_table3")
    assert f"{trained}=make it" in left.evaluations_flags("voc_table3")["left_out"]
    file = Path(trained.path.replace("<work>", config["paths"]["work"]))
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    assert trained in left.measured("voc_table3")
    assert f"{trained}={file}" in left.evaluations_flags("voc_table3")["evaluations"]


def test_a_variant_that_is_left_out_is_named_with_its_command(config):
    left = targets_of(config, targets=["voc_table1"], leave_out={"official": "make it"})
    assert {e.method for e in left.measured("voc_table1")} == {
        *("base", "one_noise", "official_one_noise")
    }
    named = ["masks/voc/train/official/none=make it", "masks/voc/train/official/crf=make it"]
    assert left.evaluations_flags("voc_table1")["left_out"] == named
    assert targets_of(config, targets="all", leave_out={"official": "make it"}).measured(
        "voc_table1"
    ) == targets_of(config, targets="all").measured("voc_table1")


def test_what_a_server_scores_is_submitted(config):
    submitted = targets_of(config).submissions("voc_table3")
    assert len(submitted) == 2
    for name, record in submitted.items():
        _, _, segmentor, split = record.removesuffix(".json").split("/")
        assert Evaluation("segmentors", split, segmentor).needs_server(config)
        assert name == f"segmentors/{segmentor}/{split}"


def test_every_picture_shows_masks_that_can_be_made(config):
    targets = targets_of(config)
    for name in config["pictures"]:
        (shown,) = targets.shown(name)
        assert name in PICTURES and shown.can_be_made(config)
        assert targets.drawing(name) == [targets.file(name)] == [f"<results>/{name}.png"]


def test_the_points_of_a_curve_are_evaluated_once(config):
    targets = targets_of(config)
    metrics = targets.curve_metrics("voc_figure_b8")
    assert len(metrics) == len(set(metrics)) > 3
    told = targets.curves_flags("voc_figure_b8")
    assert len(told["evaluations"]) == len(metrics)
    assert all("=" in pair and "<work>" not in pair for pair in told["evaluations"])


def test_a_point_is_labelled_as_it_was_written(config):
    curves = json.loads(targets_of(config).curves_flags("voc_figure_b8")["curves"])
    labels = {name: [str(point["at"]) for point in points] for name, points in curves.items()}
    assert labels["Time step"][:2] == ["50", "100"]  # not 50.0
    assert labels["Background threshold"][:3] == ["0.8", "0.9", "1.0"]


def test_claims_of_trained_segmentors_rest_on_several_runs(config):
    targets = targets_of(config, claims=config["claims"] | {"training_runs": 3})
    runs: dict[str, set[int]] = {}
    for name, evaluation in targets.claimed:
        runs.setdefault(name, set()).add(evaluation.run)
    trained = {name for name in runs if name.startswith("segmentors/")}
    assert trained and all(runs[name] == ({1, 2, 3} if name in trained else {1}) for name in runs)
    assert len(targets.claimed_metrics()) == len(set(targets.claimed_metrics()))


def test_references_stand_beside_tables_and_in_none(config):
    targets = targets_of(config, targets=["voc_table1"])
    references = targets.references()
    assert references and not set(references) & set(targets.metrics("voc_table1"))
    for name in ("all_background", "random_labels"):
        assert f"<work>/evaluation/masks/voc/train/reference/{name}/metrics.json" in references
    assert targets_of(config, targets=["voc_figure_2"]).references() == []


def test_backbones_are_compared_of_themselves_where_all_of_them_are_there(config, tmp_path):
    some = {"U-Net": "once", "MM-DiT": "joint"}
    rows = [{"backbone": n, "reading": "attention", "variant": v} for n, v in some.items()]
    figures = config["figures"] | {"backbones": config["figures"]["backbones"] | {"rows": rows}}
    joint = config["backbones"]["joint"] | {"path": str(tmp_path / "model")}
    targets = targets_of(config, figures=figures, backbones={"joint": joint}, targets="all")
    assert not BACKBONES & set(targets.available)
    assert {e.method for e in map(Evaluation.parse, names(targets.backbone_metrics()))} == {"once"}
    shown = {row["method"]: row for row in targets.backbone_rows()}
    assert shown["U-Net, attention, propagated"]["files"]["dCRF"].endswith("once/crf/metrics.json")
    assert shown["U-Net, attention"]["files"]["Initial"].endswith("once/cross_none/metrics.json")
    assert shown["MM-DiT, attention"]["files"] == {}
    assert str(tmp_path / "model") in shown["MM-DiT, attention"]["missing"]
    assert "t usual" in shown["MM-DiT, attention"]["protocol"]
    assert not any("/joint/" in path for path in targets.claimed_metrics())
    (tmp_path / "model").mkdir()
    targets = targets_of(config, figures=figures, backbones={"joint": joint})
    assert set(targets.available) >= BACKBONES
    assert any("/joint/none/" in path for path in targets.claimed_metrics())
    assert all(row["files"] for row in targets.backbone_rows())


def names(paths: list[str]) -> list[str]:
    """The names of evaluations, by their files."""
    return [p.removeprefix("<work>/evaluation/").removesuffix("/metrics.json") for p in paths]


def test_a_variant_of_another_backbone_is_of_its_model_blocks_and_files(config, tmp_path):
    (tmp_path / "transformer").mkdir()
    weights = tmp_path / "transformer" / "a.safetensors"
    weights.touch()
    joint = {
        **config["backbones"]["joint"],
        "path": str(tmp_path),
        "cross_blocks": [2],
        "self_block": 1,
    }
    changed = config | {"backbones": config["backbones"] | {"joint": joint}}
    jobs = Jobs(changed)
    settings = resolve_variant(changed, "joint")
    assert (settings["cross_blocks"], settings["self_block"]) == (
        [2],
        1,
    ) and "backbone" not in settings
    assert jobs.models.files("joint") == [str(tmp_path / "model_index.json"), str(weights)]
    assert jobs.masks.shard_flags("voc", "train", "joint", "0")["model"] == str(tmp_path)
    assert jobs.masks.labels_flags("voc", "joint", "none")["model"] == str(tmp_path)
    assert jobs.models.files("base") == jobs.models.files()
    assert jobs.masks.shard_flags("voc", "train", "base", "0")["model"] == jobs.models.folder
    assert jobs.masks.labels_flags("voc", "base", "none")["model"] == config["model"]["path"]
    assert resolve_variant(changed, "base")["cross_blocks"] == config["model"]["cross_blocks"]
