"""The files that jobs read and the flags of their programs, by a configuration."""

from pathlib import Path

import pytest

from attnseg.config.reading import prepare, read_config
from attnseg.errors import UserError
from attnseg.jobs import Jobs, flags
from attnseg.jobs.base import shard_files
from attnseg.jobs.settings import segmentor_job

CONFIG = Path(__file__).resolve().parents[2] / "config"


@pytest.fixture(scope="module")
def config() -> dict:
    return read_config(CONFIG / "config.yaml")


@pytest.fixture(scope="module")
def jobs(config) -> Jobs:
    return Jobs(config)


def trained_on(config: dict, **train) -> Jobs:
    """The jobs with a segmentor `own` that is trained on this."""
    beco = next(s for s in config["segmentors"].values() if s["learner"] == "beco")
    data = dict.fromkeys(beco["train"]) | {"dataset": "voc"} | train
    own = beco | {"train": data, "pretrained": None}
    return Jobs(prepare(config | {"segmentors": config["segmentors"] | {"own": own}}))


def test_flags_are_written_for_a_shell():
    assert flags(limit=3, keep_skipped=True, lora=None, adapted=False) == "--limit 3 --keep-skipped"
    assert flags(splits=["a=1", "b=2"], name="My set") == "--splits a=1 b=2 --name 'My set'"
    assert flags(settings={"b": 1, "a": [2]}) == """--settings '{"a":[2],"b":1}'"""
    assert flags() == ""


def test_the_last_shard_may_be_shorter():
    assert shard_files("f", 5, 2) == [f"f/shard-0000{i}.safetensors" for i in range(3)]
    assert len(shard_files("f", 4, 2)) == 2


def test_a_split_that_is_not_configured_is_one_line(jobs):
    with pytest.raises(UserError, match="datasets.voc.splits has no 'vall'; configured are train"):
        jobs.data.manifest("voc", "vall")


def test_labels_of_the_official_profile_come_from_the_masks(jobs):
    assert jobs.data.label_source("voc", "paper") == "xml"
    assert jobs.data.label_source("voc", "official") == "mask"


def test_a_data_set_of_ones_own_is_told_by_its_facts_and_has_its_own_words(config):
    entry = config["datasets"]["voc"] | {"layout": None, "classes": ["cat", "dog"]}
    own = Jobs(config | {"datasets": {"pets": entry}}).data
    assert own.argument("pets") == {"key": "pets", "classes": ["cat", "dog"]}
    assert own.vocabulary("pets") is None
    assert own.split_flags("pets", "train")["root"] == entry["root"]


def test_a_shard_is_told_what_the_data_set_and_the_variant_say(jobs, config):
    given = jobs.masks.shard_flags("voc", "train", "base", "00003")
    images = config["datasets"]["voc"]["splits"]["train"]["images"]
    assert given == {
        "labels": "xml", "shard": 3, "images": images, "model": jobs.models.folder,
        "model_file": None, "vocabulary": "voc",
    }  # fmt: skip
    shards = jobs.masks.shards("voc", "train", "base")
    assert shards[0] == "<work>/attention/voc/train/base/shard-00000.safetensors"
    assert len(shards) == -(-images // config["extraction"]["shard_size"])


def test_no_more_photos_are_inverted_than_a_split_lists(config):
    name, settings = next(iter(config["inversions"].items()))
    listed = config["datasets"]["voc"]["splits"]["train"]["images"]
    for wanted, inverted in ((3, 3), (listed + 1, listed)):
        changed = settings | {"images": {"train": wanted}, "shard_size": 2}
        masks = Jobs(config | {"inversions": {name: changed}}).masks
        assert masks.inverted_images("voc", "train", name) == inverted
        assert masks.limit_flags("train", name) == {"limit": wanted}
    assert masks.limit_flags("train", "base") == {"limit": None}


def test_a_number_is_labelled_with_the_seed_and_the_model_that_it_has(config):
    variants = config["variants"] | {"other": {"seed": 7}}
    masks = Jobs(config | {"variants": variants}).masks
    assert masks.labels_flags("voc", "other", "crf")["seed"] == 7
    assert masks.labels_flags("voc", "base", "crf")["seed"] == config["seed"]
    reference = masks.labels_flags("voc", "reference", "random_labels")
    assert (reference["model"], reference["seed"]) == ("random_labels", config["seed"])


def test_pseudo_masks_train_without_their_unsure_pixels(config):
    own = trained_on(config, split="train", masks="base/crf").segmentors
    assert own.training_masks("own") == "<work>/masks/voc/train/base/crf-train/manifest.json"
    assert own.training_list("own") == "<resources>/voc.json"
    told = own.training_flags("own")
    assert told["train_masks"].endswith("masks/voc/train/base/crf-train")
    assert (told["train_split"], told["reliability"]) == ("train", None)


def test_masks_of_a_competing_method_are_its_folder(config, tmp_path):
    method = {"label": "Theirs", "masks": str(tmp_path / "{dataset}" / "{split}"), "fills": {}}
    masks = Jobs(config | {"methods": {"theirs": method}}).masks
    with pytest.raises(UserError, match="methods.theirs.masks: .*no such folder; it must hold"):
        masks.scored("voc", "train", "theirs", "given")
    folder = tmp_path / "voc" / "train"
    folder.mkdir(parents=True)
    assert masks.scored("voc", "train", "theirs", "given") == str(folder)
    assert masks.newest_given("voc", "train", "theirs") == []
    (folder / "a.png").touch()
    assert masks.newest_given("voc", "train", "theirs") == str(folder / "a.png")
    assert masks.newest_given("voc", "train", "base") == []
    assert masks.labels_flags("voc", "theirs", "given")["model"] == "Theirs"


def test_true_masks_train_as_they_are(config):
    own = trained_on(config, split="train", masks="truth").segmentors
    root = config["datasets"]["voc"]["root"]
    assert own.training_masks("own") == "<resources>/voc.json"
    assert own.training_flags("own")["train_masks"].startswith(f"{root}/")


def test_true_masks_in_other_numbers_are_written_anew(config):
    own = trained_on(config, dataset="cityscapes", split="train", masks="truth").segmentors
    assert own.training_masks("own") == "<work>/masks/cityscapes/train/truth/manifest.json"


def test_generated_images_and_inverted_photos_train_with_their_reliability(config):
    name = next(n for n, s in config["synthesis"].items() if s["dataset"] == "voc")
    own = trained_on(config, synthesis=name, masks="crf", images=10).segmentors
    told, work = own.training_flags("own"), config["paths"]["work"]
    assert own.training_list("own") == [] and "root" not in told
    assert told["train_images"] == f"{work}/generated/{name}/images"
    assert told["reliability"] == f"{work}/masks/generated/{name}/crf/10/reliability"

    inversion = next(iter(config["inversions"]))
    jobs = trained_on(config, split="train", masks=f"{inversion}/crf")
    told = jobs.segmentors.training_flags("own")
    assert told["train_images"] == jobs.data.photos("voc", "train")
    assert told["reliability"] == f"{work}/masks/voc/train/{inversion}/crf/reliability"


def test_runs_of_a_segmentor_have_seeds_of_their_own(config):
    name = next(iter(config["segmentors"]))
    first, third = (segmentor_job(config, run) for run in (name, f"{name}@3"))
    assert third == first.but(seed=first.seed + 2)


def test_weights_from_an_address_are_fetched_first(config, jobs):
    name = next(n for n, s in config["segmentors"].items() if s["pretrained"])
    weights = jobs.segmentors.backbone(name)
    assert weights.startswith("<resources>/models/")
    file = segmentor_job(config, name).pretrained
    assert file == weights.replace("<resources>", config["paths"]["resources"])
    assert jobs.models.backbone_address(Path(weights).stem).startswith("https:")
    with pytest.raises(UserError, match="no segmentor is configured with the weights absent"):
        jobs.models.backbone_address("absent")
    assert trained_on(config, split="train", masks="truth").segmentors.backbone("own") == []


def test_prompts_need_the_data_that_they_are_read_from(config, jobs):
    captions = [n for n, s in config["synthesis"].items() if s["source"] == "coco"]
    assert captions
    assert jobs.synthesis.prompts_data(captions[0]) == "<resources>/coco.json"
    assert jobs.synthesis.prompt_flags(captions[0])["captions"].endswith(".json")
    without = {name: entry for name, entry in config["datasets"].items() if name != "coco"}
    with pytest.raises(UserError, match="needs datasets.coco; configure it"):
        Jobs(config | {"datasets": without}).synthesis.prompts_data(captions[0])


def test_gpus_of_a_training_may_be_others_than_those_of_a_job(config):
    for shared, gpus, flag in ((None, 1, None), (0, 0, None), (4, 4, 4)):
        resources = config["resources"] | {"gpu_per_job": 1, "gpu_per_training": shared}
        segmentors = Jobs(config | {"resources": resources}).segmentors
        assert (segmentors.gpus, segmentors.gpus_flag) == (gpus, flag)


def test_a_training_has_threads_of_its_own_and_no_other_seed_has_them(config):
    threads = config["resources"]["threads"]
    named = threads | {"train_segmentor": 3, "train_segmentors": {"deeplabv2_voc": 2}}
    segmentors = Jobs(config | {"resources": config["resources"] | {"threads": named}}).segmentors
    assert [segmentors.threads(f"deeplabv2_voc{end}") for end in ("", "@2", "_true_masks")] == [
        2,
        3,
        3,
    ]


def test_segmentors_that_are_only_tested_otherwise_share_one_training(jobs):
    weights = jobs.segmentors.weights
    assert weights("deeplabv2_voc_five_scales@2") == weights("deeplabv2_voc@2")
    assert weights("deeplabv2_voc") == "<work>/segmentors/deeplabv2_voc/weights.safetensors"
    others = [name for name in jobs.config["segmentors"] if name != "deeplabv2_voc_five_scales"]
    assert len({weights(name) for name in others}) == len(others)


def test_only_many_photos_with_the_crf_are_predicted_by_a_job_of_their_own(jobs):
    folder = "work/predictions/deeplabv2_coco@2/val"
    assert jobs.segmentors.predicted("deeplabv2_coco@2", "val") == f"{folder}/manifest.json"
    flags = jobs.segmentors.tested_flags("deeplabv2_coco@2", "val")
    assert flags["scores"] == folder
    assert jobs.segmentors.predicted("real_imagenet_s_10k", "validation") == []
    mini = Jobs(read_config(CONFIG / "config.yaml", CONFIG / "mini.yaml")).segmentors
    assert mini.predicted("deeplabv2_coco", "val") == []
    assert mini.tested_flags("deeplabv2_coco", "val")["scores"] is None
