"""200 bent files for each reader: each is read, or refused in one line that names it, never a traceback."""

import copy
import csv
import io
import json
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from bent import COUNT, as_json, as_yaml, attack, bent, structures, texts
from safetensors.torch import save, save_file

from attnseg import datasets
from attnseg.app import folders
from attnseg.app.exports.masks import read_folder
from attnseg.attn2mask.dreambooth_lora import load_lora
from attnseg.attn2mask.prompt_sets import read_captions, read_prompts
from attnseg.backbones import load_backbone
from attnseg.backbones.model_files import check_model, weight_hashes
from attnseg.config import reading as configuration
from attnseg.datasets.completeness import read_registry
from attnseg.datasets.dataset import Dataset
from attnseg.datasets.labels import coco_labels, leftovers, read_labels, xml_labels
from attnseg.datasets.mug19 import read_mug19
from attnseg.errors import UserError, one_line
from attnseg.io.archives import extract
from attnseg.io.downloads import read_lock
from attnseg.io.files import parameters_hash, sealed, sha256, start_folder
from attnseg.io.provenance import read_config
from attnseg.io.shards import listed_shards, read_arrays
from attnseg.personalised.personal import INFO, PROJECTIONS, read_personal
from attnseg.personalised.predictions import kept_rows, read_predictions, read_rows
from attnseg.results import TABLES, build
from attnseg.results.iou import read_metrics, write_metrics
from attnseg.segmentation.data import listed_pairs
from attnseg.segmentation.model import build_model, load_pretrained, load_segmentor, save_segmentor
from attnseg.settings import Segmentor, read_segmentor, read_settings

REPOSITORY = Path(__file__).resolve().parents[2]
PETS = Dataset("pets", ("dog", "cat"), annotations="{id}.xml", synonyms={"cat": "kitten"})


@pytest.fixture
def refuses(tmp_path, monkeypatch, record_property):
    """Attacks a reader in a folder, and counts."""
    monkeypatch.chdir(tmp_path)

    def call(contents: Iterator[bytes], name: str, read: Callable[[Path], object]) -> None:
        record_property("refusals", attack(contents, tmp_path / "cases", name, read))
        record_property("hostile", COUNT)

    return call


# -- lists and labels


def test_lists_of_a_split(refuses):
    lists = Dataset("pets", ("dog",), lists="{split}.txt")
    sound = "".join(f"2012_{i:06d}\n" for i in range(20)).encode()
    refuses(texts(sound), "train.txt", lambda path: lists.read_split(path.parent, "train"))


def test_labels_csv(refuses):
    sound = b"id,classes\n" + b"".join(b'"a (%d)",dog;cat\nb%d,\n' % (i, i) for i in range(8))

    def read(path: Path) -> None:
        read_labels(path, PETS.classes)
        leftovers(PETS, path.parent, ["b1"], "csv")

    refuses(texts(sound), "labels.csv", read)


def test_voc_s_annotations(refuses):
    objects = (
        "<object><name>dog</name><difficult>1</difficult></object><object><name>CAT</name></object>"
    )
    sound = f"<?xml version='1.0'?><annotation><filename>a.jpg</filename>{objects}</annotation>"
    refuses(texts(sound.encode()), "a.xml", lambda path: xml_labels(path, PETS))


COCO = {
    "images": [{"id": i, "file_name": f"set/{i}.jpg", "width": 8, "height": 8} for i in range(4)],
    "annotations": [
        {"id": i, "image_id": i % 4, "category_id": 1 + i % 2, "iscrowd": i // 5,
         "bbox": [0, 0, 4, 4], "segmentation": [[0, 0, 4, 0, 4, 4]]} for i in range(6)
    ],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
}  # fmt: skip


def test_a_coco_file_of_one_s_own(refuses):
    def read(path: Path) -> None:
        facts = Dataset("pets", ("dog", "cat"), annotations="own.json")
        coco_labels(path, "set/1", facts)
        leftovers(facts, path.parent, ["set/1", "3"], "instances")

    refuses(as_json(COCO), "own.json", read)


def test_coco_s_annotations_and_the_list_of_masks(refuses, tmp_path):
    coco = datasets.load("own", {"layout": "coco", "classes": ["dog", "cat"]})

    def read(path: Path) -> None:
        root = path.parents[1]
        for image_id in coco.read_split(root, "train2014"):
            coco.labels(root, image_id, "instances", "train2014")

    refuses(as_json(COCO), "annotations/instances_train2014.json", read)

    def listed(path: Path) -> None:
        shutil.copytree(tmp_path / "sound" / "annotations", path.parents[1] / "annotations")
        read(path)

    (tmp_path / "sound/annotations").mkdir(parents=True)
    (tmp_path / "sound/annotations/instances_train2014.json").write_text(json.dumps(COCO))
    shutil.rmtree(tmp_path / "cases")
    made = {"items": [{"id": str(i), "classes": ["dog"]} for i in range(4)]}
    refuses(as_json(made), "masks/train2014.json", listed)


def test_captions(refuses):
    sound = {"annotations": [{"id": i, "caption": f"a dog and {i} cats"} for i in range(8)]}
    refuses(as_json(sound), "captions_train2014.json", read_captions)


def test_prompts(refuses):
    lines = [
        {"id": f"voc_{i}", "prompt": "a dog and a cat", "classes": ["dog", "cat"],
         "spans": [[[2, 5]], [[12, 15]]], "seed": i} for i in range(3)
    ]  # fmt: skip

    def written(value: object) -> str:
        return "\n".join(json.dumps(line) for line in value) if isinstance(value, list) else "x"

    refuses(structures(lines, written), "prompts.jsonl", read_prompts)


MUG19 = {
    "subjects.json": {"red": {"class": "mug", "series": "a"}, "blue": {"class": "mug", "series": "a"}},
    "scenes.json": {"s1": {"instances": [{"subject": "red"}, {"subject": "blue"}], "views": ["0", "1"]}},
    "triplets.json": [
        {"id": "t", "scene": "s1", "view": "0", "subject": "red", "instance": 1, "description": "the mug", "splits": ["all"]}
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", list(MUG19))
def test_the_index_of_mug19(refuses, name):
    from attnseg.datasets.mug19 import SPLITS

    sound = copy.deepcopy(MUG19)
    sound["triplets.json"][0]["splits"] = [s for s in SPLITS if s != "variant"][:1]

    def read(path: Path) -> None:
        for other in set(sound) - {name}:
            (path.parent / other).write_text(json.dumps(sound[other]))
        read_mug19(path.parent)

    refuses(as_json(sound[name]), name, read)


def test_lists_of_imagenet_s(refuses):
    imagenet = datasets.load("imagenet_s")

    def read(path: Path) -> None:
        (path.parent / "ImageNetS_categories_im2.txt").write_text("n01\nn02\n")
        imagenet.prompt_names(path.parent)

    refuses(texts(b"n01 tench, Tinca\nn02 goldfish\n"), "LOC_synset_mapping.txt", read)


# -- settings


def test_a_configuration(refuses):
    sound = {
        "datasets": {
            "pets": {"source": "folder", "root": "/data/pets", "classes": ["dog", "cat"], "labels": "csv",
                     "synonyms": {"cat": "kitten"}, "background_words": ["grass"], "mask_values": [3, 7],
                     "palette": [[0, 0, 0], [1, 2, 3]], "splits": {"train": {"images": 4, "truth": False}}}
        },
        "variants": {"late": {"noises": 1, "timestep": 300}},
        "refinements": {"steep": {"background": {"power": 4}}},
        "segmentors": {"mine": {"extends": "deeplabv2_voc", "loss": "plain", "train": {"dataset": "pets", "masks": "late/steep"}}},
        "predictions": {"more": {"segmentor": "mine", "photos": "/data/more"}},
        "claims": {"training_runs": 2},
    }  # fmt: skip
    usual = REPOSITORY / "config" / "config.yaml"

    def read(path: Path) -> None:
        try:
            configuration.read_config(usual, path)
        except UserError as error:  # it is named with its line, relative to the folder
            said = str(error)
            named = (
                "own.yaml" in said
                or "config.yaml" in said
                or said.startswith(("config:", "segmentors"))
            )
            assert named, said
            raise UserError(f"{path}: {said}") from None

    refuses(as_yaml(sound), "own.yaml", read)


def test_a_data_set_in_a_configuration_of_its_own(refuses):
    sound = {
        "datasets": {
            "pets": {"classes": ["dog", "cat"], "photos": "{split}/{id}.*", "exif": "turn"}
        }
    }
    refuses(as_yaml(sound), "pets.yaml", lambda path: named(path, lambda: datasets.load(str(path))))


def named(path: Path, read: Callable[[], object]) -> None:
    """Of what the command line holds, which has no file."""
    try:
        read()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def test_data_sets_and_settings_of_the_command_line(refuses, tmp_path):
    sound = {
        "key": "pets",
        "classes": ["dog", "cat"],
        "photos": "{split}/{id}.*",
        "synonyms": {"cat": "x"},
    }

    def read(path: Path) -> None:
        text = "{" + path.read_text(errors="replace")
        named(path, lambda: datasets.load(text))

    def written(value: object) -> str:
        return json.dumps(value)[1:]

    refuses(structures(sound, written), "argument", read)
    shutil.rmtree(tmp_path / "cases")
    settings = Segmentor().dump()

    def assigned(path: Path) -> None:
        named(path, lambda: read_settings(Segmentor, read_config(path), "--settings"))

    refuses(as_json(settings), "settings.json", assigned)


def test_the_registry_of_data_sets(refuses):
    sound = yaml.safe_load((REPOSITORY / "config" / "datasets.yaml").read_text())
    refuses(texts(yaml.safe_dump(sound).encode()), "datasets.yaml", read_registry)


# -- what is between the jobs


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> tuple[dict, bytes]:
    """The manifest of a shard and its tensors."""
    tensors = save({"a/cross": torch.rand(1, 2, 2).half(), "b/cross": torch.rand(1, 2, 2).half()})
    items = [
        {"id": name, "classes": ["dog"], "image_size": [8, 8], "skipped": [], "grid": [2, 2]}
        for name in "ab"
    ]
    return {"parameters_hash": parameters_hash({}), "parameters": {}, "items": items}, tensors


@pytest.mark.parametrize("digest", [False, True], ids=["without", "with a digest"])
def test_manifests_of_shards(refuses, shard, digest):
    """With a digest that fits: what another program has made, or an earlier release."""
    about, tensors = shard

    def read(path: Path) -> None:
        file = path.with_suffix(".safetensors")
        file.write_bytes(tensors)
        try:
            told = json.loads(path.read_text())
            if isinstance(told, dict):
                told.setdefault("sha256", sha256(file))
                path.write_text(json.dumps(sealed(told) if digest else told))
        except (ValueError, RecursionError):
            pass
        list(read_arrays(path.parent))

    refuses(as_json(about), "shard-00000.json", read)


@pytest.mark.parametrize("digest", [False, True], ids=["flipped", "with its digest"])
def test_tensors_of_shards(refuses, shard, digest):
    about, tensors = shard

    def read(path: Path) -> None:
        told = about | {"sha256": sha256(path) if digest else "0" * 64}
        path.with_suffix(".json").write_text(json.dumps(sealed(told)))
        list(read_arrays(path.parent))

    refuses(texts(tensors), "shard-00000.safetensors", read)


def test_lists_of_shards_and_of_masks(refuses, tmp_path):
    shards = {"images": 2, "shards": {"shard-00000.safetensors": ""}, "timing": {}}

    def read(path: Path) -> None:
        (path.parent / "shard-00000.json").write_text("{}")
        listed_shards(path.parent)

    refuses(as_json(shards), "manifest.json", read)
    shutil.rmtree(tmp_path / "cases")
    masks = {"items": [{"id": "a", "image": "a.png", "classes": ["dog"], "skipped": None}] * 2}
    refuses(
        as_json(masks), "manifest.json", lambda path: listed_pairs(PETS, path.parent, path.parent)
    )


def test_parameters_of_a_folder_are_never_trusted(tmp_path):
    """A damaged record is as none: the folder's files are made again."""
    for number, content in enumerate(as_json({"hash": "0" * 16, "run": "x"})):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "a.png").write_bytes(b"")
        (folder / "parameters.json").write_bytes(content)
        start_folder(folder, {"a": 1})
        assert not (folder / "a.png").exists()


def test_metrics(refuses):
    ones = np.ones((2, 3), int)

    def read(path: Path) -> None:
        content = path.read_bytes()
        write_metrics(
            path.parent, ["a", "b"], ones, ones, ones, dataset="d", split="s", classes=["background", "dog", "cat"],
        )  # fmt: skip
        path.write_bytes(content)
        metrics, _ = read_metrics(path.parent)
        build.measurement(str(path.parent), metrics, "miou")
        build.measurement(str(path.parent), metrics, "iou/dog")

    sound = {"dataset": "d", "split": "s", "n_images": 2, "classes": ["background", "dog"], "iou": [1.0, 2.0],
             "miou": 1.5, "sha256": {}, "parameters": {"seed": 0}}  # fmt: skip
    refuses(as_json(sound), "metrics.json", read)


def test_counts_of_images(refuses):
    ones, buffer = np.ones((2, 3), int), io.BytesIO()
    np.savez_compressed(buffer, ids=np.array(["a", "b"]), tp=ones, fp=ones, fn=ones)
    from attnseg.results.measured import read_counts

    refuses(
        texts(buffer.getvalue()), "per_image.npz", lambda p: read_counts(p.parent, "per_image.npz")
    )


def test_tables_of_numbers(refuses, tmp_path):
    table = TABLES["voc_table1"]
    sound = (REPOSITORY / "config/published/voc_table1.csv").read_bytes()
    refuses(texts(sound), "voc_table1.csv", lambda path: build.read_published(path, table))
    shutil.rmtree(tmp_path / "cases")
    file = io.StringIO()
    rows = csv.DictWriter(file, build.COLUMNS, lineterminator="\n")
    rows.writeheader()
    for method in ("a", "b"):
        rows.writerow(dict.fromkeys(build.COLUMNS, "1") | {"method": method, "note": "seed 1; x"})
    refuses(texts(file.getvalue().encode()), "voc_table1.csv", build.read_rows)


def test_what_a_person_s_folder_of_masks_says(refuses):
    made_with = {"model": "m", "classes": ["dog"], "exif": "turn"}
    sound = {
        "made_with": made_with,
        "classes": ["dog"],
        "photos": {"a": {"photo": "/p/a.jpg", "classes": ["dog"]}},
    }

    def read(path: Path) -> None:
        failed = None
        for once in (
            lambda: folders.start(path.parent, made_with, {}, False),
            lambda: read_folder(path.parent),
        ):
            try:
                once()
            except UserError as error:
                failed = error
        if failed:
            raise failed

    refuses(as_json(sound), "manifest.json", read)


def test_answers_about_subjects(refuses, tmp_path):
    view = {"size": [8, 8], "content": [8, 8], "padded": [8, 8]}
    tensors = save(
        {"s/0/labels": torch.zeros(2, 2).char(), "s/0/foreground": torch.zeros(2, 2).half()}
    )

    def read(path: Path) -> None:
        (path.parent / "segments.safetensors").write_bytes(tensors)
        read_predictions(path.parent)

    refuses(
        as_json({"views": {"s/0": view}, "parameters": {}, "methods": {}}), "manifest.json", read
    )
    shutil.rmtree(tmp_path / "cases")
    save_file({"t": torch.zeros(2)}, tmp_path / "rows", {"made_with": "x", "about": "{}"})

    def rows(path: Path) -> None:
        kept_rows(path, "x")
        read_rows(path)

    refuses(texts((tmp_path / "rows").read_bytes()), "dino.safetensors", rows)


def test_weights_of_a_subject(refuses):
    def read(path: Path) -> None:
        save_file({"a.to_k.weight": torch.zeros(2, 2)}, path.with_name(PROJECTIONS))
        save_file({"<new1>": torch.zeros(2)}, path.with_name("token_1.safetensors"))
        read_personal(path.parent)

    refuses(as_json({"classes": {"<new1>": "mug"}, "base": "x", "settings": {}}), INFO, read)


def test_the_lock_of_downloads(refuses):
    sound = {"https://x/a": {"sha256": "0" * 64, "bytes": 1, "first_seen": "2026-01-01"}}
    refuses(as_json(sound), "downloads.lock.json", read_lock)


# -- weights


def test_an_index_and_configurations_of_a_model(refuses, tiny_sd, tmp_path):
    index = json.loads((tiny_sd / "model_index.json").read_text())

    def read(path: Path) -> None:
        for part in tiny_sd.iterdir():
            if part.is_dir():
                (path.parent / part.name).symlink_to(part)
        check_model(path.parent)
        weight_hashes(path.parent)

    refuses(as_json(index), "model_index.json", read)


@pytest.mark.parametrize("component", ["vae", "unet", "text_encoder", "tokenizer", "scheduler"])
def test_components_of_a_model(tiny_sd, tmp_path, component, record_property):
    """Fewer, as each is loaded with torch."""
    rng, refused = random.Random(2), 0
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        for part in tiny_sd.iterdir():
            if part.name == component:
                shutil.copytree(part, folder / part.name)
            else:
                (folder / part.name).symlink_to(part)
        file = rng.choice(sorted((folder / component).iterdir()))
        file.write_bytes(bent(file.read_bytes(), rng))
        try:
            load_backbone(folder, device="cpu")
        except UserError as error:
            refused += 1
            assert str(folder) in one_line(error)
    assert refused >= 3
    record_property("hostile", 12)
    record_property("refusals", refused)


def test_weights_of_a_segmentor(refuses, tmp_path):
    settings = read_segmentor(
        {"backbone": "resnet18", "width": 8, "stem": "small", "output_stride": 8, "rates": [1]}
    )
    model = build_model(settings, 3)
    save_segmentor(tmp_path / "sound", model, settings, classes=["background", "dog", "cat"])
    sound = (tmp_path / "sound").read_bytes()
    header = 8 + int.from_bytes(sound[:8], "little")

    def near_the_header() -> Iterator[bytes]:
        for start, content in zip(texts(sound[:header]), texts(sound), strict=True):
            yield content if random.Random(len(content)).random() < 0.1 else start + sound[header:]

    refuses(near_the_header(), "weights.safetensors", load_segmentor)
    rng = random.Random(4)
    for number in range(20):
        path = tmp_path / f"{number}{rng.choice(['.safetensors', '.pth'])}"
        path.write_bytes(bent(sound, rng))
        try:
            load_pretrained(model, str(path))
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_a_lora(tiny_backbone, tmp_path):
    save_file(
        {"unet.x.lora_A.weight": torch.zeros(2, 2)},
        tmp_path / "sound",
        {"attnseg_base_model": "[0.5, 1]"},
    )
    sound, rng = (tmp_path / "sound").read_bytes(), random.Random(5)
    for number in range(40):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(bent(sound, rng))
        with pytest.raises(UserError) as error:
            load_lora(tiny_backbone, path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


# -- archives


def archive(kind: str) -> bytes:
    buffer = io.BytesIO()
    files = {f"top/{i}.txt": bytes(range(256)) * i for i in range(6)}
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in files.items():
                file.writestr(name, content)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode=f"w{kind[3:]}") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar:gz", "tar:bz2", "tar:xz"])
def test_archives(refuses, kind):
    """Nothing is left of one that is refused; and nothing lands outside its folder."""

    def read(path: Path) -> None:
        out = path.parent / "out"
        before = set(path.parents[1].iterdir())
        try:
            extract(path, out)
        except UserError:
            assert not out.exists() or not list(out.iterdir())
            raise
        finally:
            assert {p.name for p in path.parent.iterdir()} <= {path.name, "out"}
            assert set(path.parents[1].iterdir()) == before

    refuses(texts(archive(kind)), "archive", read)
