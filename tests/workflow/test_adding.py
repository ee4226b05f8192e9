"""docs/adding.md, gone through: each recipe as written, then a plan of what it adds, or the jobs."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

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


def test_every_recipe_is_gone_through_below():
    assert set(RECIPES) == {
        "A variant (an ablation)", "A data set", "A model", "A model family", "A competing method",
        "A table", "A claim", "Before you send it",
    }  # fmt: skip
    assert [len(blocks(name)) for name in RECIPES] == [3, 1, 1, 1, 1, 0, 0, 0]


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
    assert "--timestep 300" in output and "--background-power 4" in output
    output = with_own(variant + segmentor, trained)
    assert "work/masks/voc/trainaug/late/steep-train/manifest.json" in output


def test_a_point_of_figure_b8(with_own):
    output = with_own(blocks("A variant (an ablation)")[2], "results/voc_figure_b8.csv")
    assert "--timestep 800" in output and '"masks":"t_800/crf"' in output.replace(" ", "")


def test_a_data_set_in_voc_s_layout(snakemake, checkout, tmp_path):
    """Planned as written; then its data are read, with a root and a count that exist."""
    (own,) = blocks("A data set")
    root = tmp_path / "photos"
    make_photos(root, "JPEGImages", "ImageSets/Segmentation", ["dog", "person"])
    own = own.replace("/data/my_photos", str(root)).replace("images: 120", "images: 2")
    file = checkout / "my_photos.yaml"
    file.write_text(own)
    asked = targets("A data set")
    assert len(asked) == 2
    done = snakemake("-n", *asked, "--cores", "1", "--configfile", "my_photos.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    read = "work/my_photos/masks/voc/train/reference/random_labels/manifest.json"
    done = snakemake(read, "--cores", "1", "--configfile", "my_photos.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    classes = {0, 12, 15}  # background, dog, person
    masks = [np.array(Image.open((checkout / read).parent / f"{i}.png")) for i in "ab"]
    assert set(np.unique(masks)) == classes


def test_a_model_from_a_folder(with_own, tiny_sd):
    (own,) = blocks("A model")
    masks = "work/masks/voc/train/base/crf/manifest.json"
    output = with_own(own.replace("/models/my-diffusion", str(tiny_sd)), masks)
    assert f"--model {tiny_sd}" in output and "--cross-blocks 4 5 6 7 8 --self-block 11" in output
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
    package = copy / "scripts" / "attnseg"
    recipe = RECIPES["A data set"]
    # 1. the module, from voc.py
    text = (package / "datasets" / "voc.py").read_text()
    text = re.sub(r"^CLASSES = \(.*?^\)", f"CLASSES = {PETS}", text, flags=re.M | re.S)
    for old, new in (("JPEGImages", "photos"), ("SegmentationClassAug", "masks")):
        text = text.replace(old, new)
    (package / "datasets" / "pets.py").write_text(text)
    # 2. the lists that name it
    layouts = package / "datasets" / "layouts.py"
    edit(layouts, "import coco, voc", "import coco, pets, voc")
    edit(layouts, '"coco": coco}', '"coco": coco, "pets": pets}')
    edit(layouts, '"coco": "instances"}', '"coco": "instances", "pets": "csv"}')
    rules = copy / "workflow" / "rules" / "common.smk"
    edit(rules, '"coco": "masks"}', '"coco": "masks", "pets": "masks"}')
    edit(rules, '    "voc": "JPEGImages",\n', '    "voc": "JPEGImages",\n    "pets": "photos",\n')
    program = copy / "scripts" / "extract_attention.py"
    edit(program, '"coco": 0.5}', '"coco": 0.5, "pets": 0.2}')
    for name in ("LAYOUTS", "LABELS", "TRUE_MASKS", "PHOTO_FOLDERS", "BOX_THRESHOLDS"):
        assert f"`{name}`" in recipe
    # 3. where it comes from
    with open(copy / "config" / "datasets.yaml", "a") as file:
        file.write(PETS_ENTRY)
    # 4. the configuration
    make_photos(copy / "pets", "photos", "ImageSets/Segmentation", list(PETS), "masks")
    own = {
        "device": "cpu",
        "resources": {"gpu_per_job": 0},
        "model": {"path": str(model), "revision": None},
        "extraction": {"resize": "none", "noises": 1},
        "datasets": {
            "pets": {
                "source": "folder", "root": "pets", "labels": "csv",
                "splits": {"train": {"images": 2}},
            }
        },
        "segmentors": {
            "pets": {
                "extends": "deeplabv2_voc",
                "train": {"dataset": "pets", "split": "train", "masks": "truth"},
            }
        },
    }  # fmt: skip
    (copy / "own.yaml").write_text(yaml.safe_dump(own))


PETS_ENTRY = """
pets:
  title: Pets
  version: "1"
  site: https://pets.example
  licence: CC0.
  needed_for: [pets_table1]
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
    with open(copy / "scripts" / "attnseg" / "tables" / "text2mask.py", "a") as file:
        file.write(PETS_TABLE)
    header = re.search(r"`(method,metric,.*?)`", recipe)[1]
    (copy / "config" / "published" / "pets_table1.csv").write_text(header + "\n")
    edit(
        copy / "tests" / "unit" / "test_published.py",
        "TYPED_AGAIN = {\n",
        'TYPED_AGAIN = {\n    "pets_table1": dict,\n',
    )
    (copy / "workflow" / "report" / "pets_table1.rst").write_text("**Pets.**\n")
    assert "needed_for" in recipe and "pets_table1" in PETS_ENTRY


def add_claim(copy: Path) -> None:
    edit(
        copy / "scripts" / "attnseg" / "tables" / "claims.py",
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
    found = [(np.array(Image.open(masks / f"{i}.png")), extended / "pets/masks" / f"{i}.png") for i in "ab"]  # fmt: skip
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
    in_copy(extended, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names)


def test_the_ledger_asks_for_a_new_claim_s_evaluations(extended):
    flags = ("-n", "-p", "--cores", "1", "--configfile", "own.yaml")
    output = in_copy(extended, SNAKEMAKE, "results/claims.csv", *flags).stdout
    assert (
        "masks/pets/train/base/none=work/evaluation/masks/pets/train/base/none/metrics.json"
        in output
    )
