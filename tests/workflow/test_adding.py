"""The recipes of docs/adding.md, followed as written, then planned or run."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from attnseg.settings import ExtractionJob, RefinementJob, read_settings

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
DOCUMENT = (REPOSITORY / "docs" / "adding.md").read_text()
RECIPES = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S))
PETS = ("rabbit", "hamster", "parrot")  # no class of VOC


def blocks(recipe: str) -> list[str]:
    """The YAML of a recipe."""
    return re.findall(r"```yaml\n(.*?)```", RECIPES[recipe], re.S)


def targets(recipe: str) -> list[str]:
    """The files that a recipe asks Snakemake for."""
    return re.findall(r"\b(?:work|results)/[\w/.]+\.(?:json|csv)", RECIPES[recipe])


def told(output: str, job: type) -> list:
    """The settings that a plan's extractions or refinements are told, with the defaults."""
    program = {ExtractionJob: "extract_attention", RefinementJob: "refine_masks"}[job]
    commands = map(shlex.split, re.findall(rf"python scripts/{program}\.py (.*?) > ", output))
    given = [json.loads(words[words.index("--settings") + 1]) for words in commands]
    assert given
    return [read_settings(job, settings) for settings in given]


def test_every_recipe_is_gone_through_below():
    assert set(RECIPES) == {
        "A variant (an ablation)", "A data set", "A model", "A model family", "A competing method",
        "A table", "A claim", "Before you send it",
    }  # fmt: skip
    assert [len(blocks(name)) for name in RECIPES] == [3, 3, 2, 1, 1, 0, 0, 0]


# -- by configuration


@pytest.fixture
def with_own(snakemake, tmp_path):
    """Plans with own.yaml over the paper's configuration -> the output."""

    def call(own: str, *wanted: str) -> str:
        (tmp_path / "own.yaml").write_text(own)
        done = snakemake(
            "-n", "-p", *wanted, "--cores", "1", "--configfile", str(tmp_path / "own.yaml")
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


def test_a_variant_and_a_segmentor_of_its_masks(with_own):
    variant, segmentor, _ = blocks("A variant (an ablation)")
    quality, trained = targets("A variant (an ablation)")
    output = with_own(variant, quality)
    assert {(job.timestep, job.noises) for job in told(output, ExtractionJob)} == {(300, 1)}
    assert [job.background.power for job in told(output, RefinementJob)] == [4]
    output = with_own(variant + segmentor, trained)
    assert "work/masks/voc/trainaug/late/steep-train/manifest.json" in output


def test_a_point_of_figure_b8(with_own):
    output = with_own(blocks("A variant (an ablation)")[2], "results/voc_figure_b8.csv")
    # one_noise is the paper's time step
    assert {job.timestep for job in told(output, ExtractionJob)} == {"usual", 800}
    assert '"masks":"t_800/crf"' in output.replace(" ", "")


def test_a_data_set_of_one_s_own(snakemake, checkout, tmp_path, tiny_sd):
    """Planned as written; then made, with a root and counts that exist and a small model."""
    own, segmentor, further = blocks("A data set")
    masks, quality, trained = targets("A data set")
    asked = [masks, quality]
    (checkout / "fields.yaml").write_text(own + segmentor)
    flags = ("--cores", "1", "--configfile", "fields.yaml")
    done = snakemake("-n", "-p", *asked, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    words = shlex.split(re.search(r"python scripts/extract_attention\.py (.*?) > ", done.stdout)[1])
    dataset = json.loads(words[words.index("--dataset") + 1])
    assert dataset["synonyms"] == {"crop": "green crop"} and dataset["background"] is False
    done = snakemake("-n", trained, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert masks.replace("crf/", "crf-train/") in done.stdout
    (tmp_path / "more").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "more" / "a.jpg")
    further = further.replace("/data/more", str(tmp_path / "more"))
    (checkout / "further.yaml").write_text(own + segmentor + further)
    done = snakemake("-n", "results/fields/more.png", *flags[:-1], "further.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "predict_photos" in done.stdout

    root = tmp_path / "fields"
    classes = yaml.safe_load(own)["datasets"]["fields"]["classes"]
    header, line = re.search(
        r"labels\.csv in the root: (\S+) and lines such as (\S+);", own
    ).groups()
    present = line.split(",")[1].split(";")
    random = np.random.default_rng(0)
    for folder in ("images/train", "images/val", "masks/val"):
        (root / folder).mkdir(parents=True)
    for photo in ("train/a.jpg", "train/b.PNG", "val/c.tif"):
        pixels = random.integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(root / "images" / photo)
    truth = random.choice(np.array([0, 1, 2, 255], np.uint8), (48, 64))
    Image.fromarray(truth).save(root / "masks" / "val" / "c.png")
    lines = [header, line.replace("photo1", "a"), line.replace("photo1", "b"), "c," + ";".join(classes)]  # fmt: skip
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    for old, new in (("/data/fields", str(root)), ("images: 120", "images: 2"), ("images: 30", "images: 1")):  # fmt: skip
        assert own.count(old) == 1
        own = own.replace(old, new)
    (checkout / "fields.yaml").write_text(own)
    small = {
        "device": "cpu",
        "resources": {"gpu_per_job": 0},
        "model": {"path": str(tiny_sd), "revision": None},
        "extraction": {"resize": "none", "noises": 1},
    }
    (checkout / "fields_small.yaml").write_text(yaml.safe_dump(small))
    done = snakemake(*asked, *flags, "fields_small.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    made = [np.array(Image.open((checkout / masks).parent / f"{i}.png")) for i in "ab"]
    assert {mask.shape for mask in made} == {(48, 64)}
    assert set(np.unique(made)) <= {classes.index(name) for name in present}
    metrics = json.loads((checkout / quality).read_text())
    assert metrics["classes"] == classes and metrics["n_images"] == 1
    mask = np.array(Image.open(checkout / "work/fields/masks/fields/val/base/crf/c.png"))
    counted = truth != 255
    expected = [
        100 * ((mask == n) & (truth == n)).sum() / (counted & ((mask == n) | (truth == n))).sum()
        for n in range(3)
    ]
    assert metrics["iou"] == pytest.approx(expected)


def read_as(snakemake, checkout: Path, own: dict, name: str) -> list[set[int]]:
    """Reads split `train` of a data set for masks of random labels -> the numbers in a's and b's."""
    (checkout / f"{name}.yaml").write_text(yaml.safe_dump(own))
    target = f"work/{name}/masks/{name}/train/reference/random_labels/manifest.json"
    done = snakemake(target, "--cores", "1", "--configfile", f"{name}.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    masks = [Image.open((checkout / target).parent / f"{i}.png") for i in "ab"]
    return [set(np.unique(np.array(mask)).tolist()) for mask in masks]


def test_data_sets_in_a_layout_that_is_known(snakemake, checkout, tmp_path):
    """Two of VOC's side by side, with its classes and with others."""
    layout, photos, lists, labels = re.search(
        r"`layout: (\w+)` \(`(\w+)`,\s+`([\w/]+)`, and `Annotations` or `([\w.]+)`\)",
        RECIPES["A data set"],
    ).groups()
    assert labels == "labels.csv"
    datasets = {}
    for name, classes in (("holiday", ["dog", "person"]), ("shelter", PETS)):
        root = tmp_path / name
        make_photos(root, photos, lists, classes)
        datasets[name] = {
            "layout": layout, "source": "folder", "root": str(root), "labels": "csv",
            "splits": {"train": {"images": 2, "truth": False}},
        }  # fmt: skip
    datasets["shelter"]["classes"] = list(PETS)
    found = {
        name: read_as(
            snakemake,
            checkout,
            {
                "datasets": datasets,
                "paths": {kind: f"{kind}/{name}" for kind in ("work", "results", "resources")},
            },
            name,
        )
        for name in datasets
    }
    assert found == {"holiday": [{0, 12, 15}] * 2, "shelter": [{0, 1, 2, 3}] * 2}


LAYOUT = """
from attnseg.datasets import Dataset


class Shelves(Dataset):
    def read_split(self, root, split):
        return [line.split()[0] for line in open(f"{root}/index.txt")]

    def image_path(self, root, image_id, split=None):
        return root / "shelf" / image_id

    def mask_path(self, root, image_id, split=None):
        return root / "drawn" / f"{image_id}.png"

    def read_truth(self, root, image_id, size=None, split=None):
        from attnseg.datasets.images import read_mask

        return read_mask(self.mask_path(root, image_id), size) // 50

    def labels_from_index(self, root, image_id, split):
        (line,) = [line for line in open(f"{root}/index.txt") if line.split()[0] == image_id]
        return line.split()[1:]


DATASET = Shelves(name="shelves", classes=("cup", "jar"), label_sources=("index", "mask"))
"""


def test_a_data_set_in_another_layout(snakemake, checkout, tmp_path):
    (names,) = re.findall(
        r"Override what patterns cannot express: (`read_split`.*?)\.", RECIPES["A data set"], re.S
    )
    methods = re.findall(r"`(\w+)(?:<source>)?`", names)
    assert len(methods) == 5
    for method in methods:
        assert f"    def {method}" in LAYOUT
    (file,) = re.findall(r"`file: (\w+\.py)`", RECIPES["A data set"])
    (checkout / file).write_text(LAYOUT)
    root, random = tmp_path / "shelves", np.random.default_rng(0)
    (root / "shelf").mkdir(parents=True)
    (root / "drawn").mkdir()
    (root / "index.txt").write_text("a cup jar\nb jar\n")
    truths = []
    for i in "ab":
        pixels = random.integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(root / "shelf" / i, format="PNG")
        truths.append(random.integers(0, 3, (48, 64)).astype(np.uint8))
        Image.fromarray(truths[-1] * 50).save(root / "drawn" / f"{i}.png")
    own = {
        "paths": {kind: f"{kind}/shelves" for kind in ("work", "results", "resources")},
        "datasets": {
            "shelves": {
                "file": file, "source": "folder", "root": str(root),
                "splits": {"train": {"images": 2}},
            }
        },
    }  # fmt: skip
    assert read_as(snakemake, checkout, own, "shelves") == [{0, 1, 2}, {0, 2}]
    quality = "work/shelves/evaluation/masks/shelves/train/reference/random_labels/metrics.json"
    done = snakemake(quality, "--cores", "1", "--configfile", "shelves.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((checkout / quality).read_text())
    folder = checkout / "work/shelves/masks/shelves/train/reference/random_labels"
    masks = np.stack([np.array(Image.open(folder / f"{i}.png")) for i in "ab"])
    truth = np.stack(truths)
    both = [((masks == n) & (truth == n)).sum() / ((masks == n) | (truth == n)).sum() for n in range(3)]  # fmt: skip
    assert metrics["iou"] == pytest.approx([100 * share for share in both])


def test_a_model_beside_the_configured_one(with_own, tiny_sd):
    _, beside = blocks("A model")
    output = with_own(beside.replace("/models/my-diffusion", str(tiny_sd)), "results/backbones.csv")
    assert f"--model {tiny_sd} " in output and "--model resources/models/CompVis--" in output
    assert (
        output.count("scripts/refine_masks.py --") == 8
    )  # two variants, propagated or not, the CRF or not
    assert '"method": "mine, cross-attention, propagated"' in output
    picture = with_own(beside, "results/backbones_picture.png")
    assert "draw_picture.py readings" in picture and "masks/voc/train/once/cross_none" in picture
    missing = with_own(beside, "results/backbones.csv")
    assert "no folder /models/my-diffusion" in missing and "--model /models" not in missing


def test_a_model_from_a_folder(with_own, tiny_sd):
    own, _ = blocks("A model")
    own = own.replace("/models/my-diffusion", str(tiny_sd))
    masks = "work/masks/voc/train/base/crf/manifest.json"
    for text, cross, own_block in (
        (own, [4, 5, 6, 7, 8], 11),
        (own.replace("[4, 5, 6, 7, 8]", "[3, 6]").replace("11", "9"), [3, 6], 9),
    ):
        output = with_own(text, masks)
        assert f"--model {tiny_sd}" in output
        for job in told(output, ExtractionJob):
            assert (job.cross_blocks, job.self_block) == (cross, own_block)
        assert "fetch_models" not in output


def test_a_model_family_of_a_file(with_own, tmp_path):
    (own,) = blocks("A model family")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weights.safetensors").touch()
    (tmp_path / "my_family.py").touch()
    own = own.replace("/models/mine", f"{tmp_path}/mine").replace("my_fam", f"{tmp_path}/my_fam")
    output = with_own(own, "work/masks/voc/train/base/crf/manifest.json")
    assert f"--model {tmp_path}/mine --model-file {tmp_path}/my_family.py" in output
    assert f"{tmp_path}/mine/weights.safetensors" in output and "fetch_models" not in output


def test_a_competing_method(with_own, tmp_path):
    (own,) = blocks("A competing method")
    for folder in ("clip_es/voc/train", "clip_es_crf/voc/train"):
        (tmp_path / folder).mkdir(parents=True)
    table, score = targets("A competing method")
    output = with_own(own.replace("/masks/", f"{tmp_path}/"), table)
    assert "--model CLIP-ES --given" in output and f"--masks {tmp_path}/clip_es/voc/train" in output
    assert f"masks/voc/train/clip_es/given={score}" in output


def test_a_segmentor_from_another_s_weights(with_own):
    weights = "<work>/segmentors/NAME/weights.safetensors"
    assert weights in RECIPES["A model"]
    own = {
        "segmentors": {
            "mine": {
                "extends": "deeplabv2_voc",
                "pretrained": weights.replace("NAME", "deeplabv2_coco"),
            }
        }
    }
    output = with_own(yaml.safe_dump(own), "work/evaluation/segmentors/mine/val/metrics.json")
    assert "--output work/segmentors/deeplabv2_coco/weights.safetensors" in output


# -- by code, in a copy


def make_photos(root: Path, photos: str, lists: str, classes: list[str], masks: str | None = None):
    """Two photos, `a` and `b`, of all classes, in VOC's layout with folders of other names."""
    random = np.random.default_rng(0)
    for folder in filter(None, (photos, lists, masks)):
        (root / folder).mkdir(parents=True)
    (root / lists / "train.txt").write_text("a\nb\n")
    lines = [f"{i},{';'.join(classes)}" for i in "ab"]
    (root / "labels.csv").write_text("\n".join(["id,classes", *lines]) + "\n")
    for i in "ab":
        photo = random.integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(photo).save(root / photos / f"{i}.jpg")
        if masks:
            mask = random.integers(0, len(classes) + 1, (48, 64)).astype(np.uint8)
            Image.fromarray(mask).save(root / masks / f"{i}.png")


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, (file, old)
    file.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def extended(tmp_path_factory, tiny_sd) -> Path:
    """A copy of the repository with a data set, a table and a claim more, as docs/adding.md says."""
    copy = tmp_path_factory.mktemp("extended") / "attnseg"
    for name in ("config", "envs", "profiles", "scripts", "tests", "workflow"):
        shutil.copytree(
            REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, copy)
    add_data_set(copy, tiny_sd)
    add_table(copy)
    add_claim(copy)
    return copy


def add_data_set(copy: Path, model: Path) -> None:
    recipe = RECIPES["A data set"].partition("**In the package**")[2]
    for place in (
        "scripts/attnseg/datasets/", "`SHIPPED` of `dataset.py`", "config/config.yaml", "config/datasets.yaml",
    ):  # fmt: skip
        assert place in recipe
    (copy / "scripts/attnseg/datasets/pets.py").write_text(PETS_FILE)
    edit(copy / "scripts/attnseg/datasets/dataset.py", '"mug19")  #', '"mug19", "pets")  #')
    edit(copy / "config/config.yaml", "\ndatasets:\n", f"\ndatasets:\n{PETS_CONFIGURED}")
    with open(copy / "config" / "datasets.yaml", "a") as file:
        file.write(PETS_ENTRY)
    make_photos(copy / "pets", "photos", "lists", list(PETS), "drawn")
    own = {
        "device": "cpu",
        "resources": {"gpu_per_job": 0},
        "model": {"path": str(model), "revision": None},
        "extraction": {"resize": "none", "noises": 1},
        "segmentors": {
            "pets": {
                "extends": "deeplabv2_voc",
                "train": {"dataset": "pets", "split": "train", "masks": "truth"},
            }
        },
    }
    (copy / "own.yaml").write_text(yaml.safe_dump(own))


PETS_FILE = f'''
"""Pets."""

from attnseg.datasets import Dataset

DATASET = Dataset(
    name="pets",
    classes={PETS},
    photos="photos/{{id}}.jpg",
    masks="drawn/{{id}}.png",
    lists="lists/{{split}}.txt",
)
'''

PETS_CONFIGURED = """\
  pets:
    source: folder
    root: pets
    splits:
      train: {images: 2}
"""

PETS_ENTRY = """
pets:
  title: Pets
  version: "1"
  site: https://pets.example
  licence: CC0.
  needed_for: [pets_table1, claims]
  parts:
    all:
      what: photos and masks
      holds:
        photos: 2
"""

PETS_TABLE = """
TABLES = (
    *TABLES,
    Table(
        target="pets_table1",
        number="Pets, Table 1",
        title="Pseudo masks of pets, mIoU",
        heads=("Method",),
        columns=plain(["mIoU"]),
        rows=rows_by_method(["Ours"], ["mIoU"]),
        ours={("Ours", "mIoU"): _masks("base", "none", dataset="pets")},
    ),
)
"""


def add_table(copy: Path) -> None:
    recipe = RECIPES["A table"]
    with open(copy / "scripts" / "attnseg" / "results" / "text2mask.py", "a") as file:
        file.write(PETS_TABLE)
    header = re.search(r"`(method,metric,.*?)`", recipe)[1]
    (copy / "config" / "published" / "pets_table1.csv").write_text(header + "\n")
    edit(
        copy / "tests" / "unit" / "test_published.py",
        "TYPED_AGAIN = {\n",
        'TYPED_AGAIN = {\n    "pets_table1": dict,\n',
    )
    (copy / "workflow" / "report" / "pets_table1.rst").write_text("**Pets.**\n")
    assert "`needed_for`" in recipe and "needed_for: [pets_table1" in PETS_ENTRY


def add_claim(copy: Path) -> None:
    assert "Add `claims` to\n`needed_for`" in RECIPES["A claim"] and "claims]" in PETS_ENTRY
    edit(
        copy / "scripts" / "attnseg" / "results" / "claims.py",
        "CLAIMS = (*_text2mask(), ",
        'CLAIMS = (_greater("pets", "Table 1", "Pets are found", cell("pets_table1", "Ours", "mIoU"),\n'
        '    cell("voc_table1", "Ours (1 time)", "Initial")), *_text2mask(), ',
    )


def in_copy(copy: Path, *command) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(copy / "scripts")}
    done = subprocess.run(
        list(map(str, command)), cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_table_of_a_data_set_of_other_classes_is_made(extended):
    in_copy(
        extended, SNAKEMAKE, "results/pets_table1.csv", "--cores", "1", "--configfile", "own.yaml"
    )
    with open(extended / "results" / "pets_table1.csv") as file:
        (row,) = csv.DictReader(file)
    assert row["dataset"] == "pets" and row["n_images"] == "2"
    masks = extended / "work" / "masks" / "pets" / "train" / "base" / "none"
    found = [(np.array(Image.open(masks / f"{i}.png")), extended / "pets/drawn" / f"{i}.png") for i in "ab"]  # fmt: skip
    classes = range(1 + len(PETS))
    ious = []
    for number in classes:
        both = either = 0
        for mask, path in found:
            truth = np.array(Image.open(path))
            both += ((mask == number) & (truth == number)).sum()
            either += ((mask == number) | (truth == number)).sum()
        ious.append(both / either)
    assert float(row["ours"]) == pytest.approx(100 * np.mean(ious), abs=0.051)


def test_segmentors_learn_a_new_data_set_s_true_masks(extended):
    target = "work/evaluation/segmentors/pets/train/metrics.json"
    flags = ("-n", "-p", "--cores", "1", "--configfile", "own.yaml")
    output = in_copy(extended, SNAKEMAKE, target, *flags).stdout
    assert "input: resources/pets.json, " in output.split("rule train_segmentor:")[1]
    assert "write_true_masks" not in output


def test_the_checks_know_a_new_data_set(extended):
    tool = extended / "scripts" / "tools" / "check_datasets.py"
    rows = in_copy(extended, sys.executable, tool, "--configfile", "own.yaml").stdout.splitlines()
    assert ["pets", "train", "2", "2/2", "2/2", "complete"] in [row.split() for row in rows]


def test_a_new_table_passes_the_tests_of_tables(extended):
    names = [extended / "tests" / "unit" / name for name in ("test_published.py", "test_tables.py")]
    names.append(
        f"{extended / 'tests/workflow/test_plans.py'}::"
        "test_the_registry_names_the_targets_that_are_made_from_each_data_set"
    )
    in_copy(extended, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names)


def test_the_ledger_asks_for_a_new_claim_s_evaluations(extended):
    flags = ("-n", "-p", "--cores", "1", "--configfile", "own.yaml")
    output = in_copy(extended, SNAKEMAKE, "results/claims.csv", *flags).stdout
    assert (
        "masks/pets/train/base/none=work/evaluation/masks/pets/train/base/none/metrics.json"
        in output
    )
