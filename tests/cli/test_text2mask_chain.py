"""Photos to masks through the programs, and one line for each mistake in the input."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import draw_attention
import evaluate_masks
import extract_attention
import refine_masks
import segment_image
import verify_shards
from attnseg.datasets.images import PALETTE, read_image, read_mask, write_mask
from attnseg.datasets.voc import DATASET as voc
from attnseg.errors import run
from attnseg.mini.world import voc_layout

CRF = json.dumps({"crf": {"iterations": 3, "bilateral": {"sxy": 9.7}}})


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Mini VOC with six scenes in trainaug and three in train."""
    root = tmp_path_factory.mktemp("VOC2012")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voc_layout, "VOC_SPLITS", {"trainaug": (2, 6), "train": (2, 3)})
        voc_layout.write_voc(root, seed=0)
    return root


@pytest.fixture
def root(world, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(world, tmp_path / "VOC2012"))


def extract(root: Path, model: Path, folder: Path, *more: str, shard: int = 0) -> int:
    arguments = [
        "--root", str(root), "--split", "trainaug", "--model", str(model), "--device", "cpu",
        "--shard", str(shard), "--output", str(folder / f"shard-{shard:05d}.safetensors"),
        "--set", "resize=none", "noises=1", "shard_size=4", *more,
    ]  # fmt: skip
    return run(lambda: extract_attention.main(arguments))


def one_line(capsys, *fragments: str) -> None:
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in error
    for fragment in fragments:
        assert fragment in lines[0]


def test_photos_to_masks_to_metrics_and_resume(root, tiny_sd, tmp_path, capsys):
    shards, masks = tmp_path / "attention", tmp_path / "masks"
    assert [extract(root, tiny_sd, shards, shard=i) for i in (0, 1)] == [0, 0]
    made = {path: path.stat().st_mtime_ns for path in shards.iterdir()}
    assert extract(root, tiny_sd, shards) == 0  # complete: left as it is
    assert made == {path: path.stat().st_mtime_ns for path in shards.iterdir()}
    files = [str(path) for path in sorted(shards.glob("*.safetensors"))]
    verify = [*files, "--images", "6", "--output", str(shards / "manifest.json")]
    assert run(lambda: verify_shards.main(verify)) == 0
    manifest = json.loads((shards / "manifest.json").read_text())
    assert sum(manifest["timing"]["labels"]) == sum(
        len(item["classes"])
        for path in shards.glob("shard-*.json")
        for item in json.loads(path.read_text())["items"]
    )
    assert all(seconds > 0 for seconds in manifest["timing"]["seconds"])
    refine = [
        "--root", str(root), "--attention", str(shards), "--settings", CRF, "--processes", "1",
        "--output", str(masks), "--train-output", str(tmp_path / "train"),
    ]  # fmt: skip
    assert run(lambda: refine_masks.main(refine)) == 0
    ids = voc.read_split(root, "trainaug")
    before = {i: (masks / f"{i}.png").read_bytes() for i in ids}
    (masks / f"{ids[2]}.png").unlink()  # as after a kill
    assert run(lambda: refine_masks.main(refine)) == 0
    assert before == {i: (masks / f"{i}.png").read_bytes() for i in ids}
    for i in ids:
        labels = {0, *(1 + voc.classes.index(name) for name in voc.labels(root, i))}
        sure = read_mask(tmp_path / "train" / f"{i}.png")
        mask = read_mask(masks / f"{i}.png")
        assert set(np.unique(mask)) <= labels
        assert (sure[sure != 255] == mask[sure != 255]).all()
    evaluate = [
        "--dataset", "voc", "--root", str(root), "--split", "trainaug", "--masks", str(masks),
        "--output", str(tmp_path / "evaluation"),
    ]  # fmt: skip
    assert run(lambda: evaluate_masks.main(evaluate)) == 0
    measured = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert measured["n_images"] == 6

    capsys.readouterr()
    refine[refine.index(str(masks))] = str(tmp_path / "again")
    photo = next(voc.image_path(root, i) for i in ids if voc.labels(root, i))
    flipped = bytearray(photo.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    photo.write_bytes(flipped)
    assert run(lambda: refine_masks.main(refine)) == 1
    one_line(capsys, f"{photo}: not the photo that its attention was made from: restore it")


def test_a_damaged_shard_is_named_and_made_again_alone(root, tiny_sd, tmp_path, capsys):
    assert [extract(root, tiny_sd, tmp_path, shard=i) for i in (0, 1)] == [0, 0]
    good = (tmp_path / "shard-00001.safetensors").read_bytes()
    (tmp_path / "shard-00001.safetensors").write_bytes(good[:-7])
    files = [str(path) for path in sorted(tmp_path.glob("*.safetensors"))]
    out = str(tmp_path / "manifest.json")
    assert run(lambda: verify_shards.main([*files, "--output", out])) == 1
    one_line(capsys, "shard-00001.safetensors: the tensors are damaged")
    assert extract(root, tiny_sd, tmp_path, shard=1) == 0
    assert (tmp_path / "shard-00001.safetensors").read_bytes() == good


def test_shards_of_different_settings_are_no_set(root, tiny_sd, tmp_path, capsys):
    assert extract(root, tiny_sd, tmp_path) == 0
    assert extract(root, tiny_sd, tmp_path, "timestep=300", shard=1) == 0
    files = [str(path) for path in sorted(tmp_path.glob("*.safetensors"))]
    assert run(lambda: verify_shards.main([*files, "--output", str(tmp_path / "m.json")])) == 1
    one_line(capsys, "shard-00001.safetensors: made with other parameters than shard-00000")


def test_figure_2_has_a_row_a_class(root, tiny_sd, tmp_path):
    picture = tmp_path / "figure.png"
    arguments = ["--root", root, "--split", "trainaug", "--model", tiny_sd, "--output", picture]
    arguments += ["--set", "resize=none", "--count", "2", "--device", "cpu"]
    assert run(lambda: draw_attention.main(list(map(str, arguments)))) == 0
    ids = [i for i in voc.read_split(root, "trainaug") if len(voc.labels(root, i)) > 1]
    rows = sum(len(voc.labels(root, i)) for i in (ids[0], ids[-1]))
    assert Image.open(picture).height == pytest.approx(110 * 1.9 * rows, abs=2)


def test_a_corrupt_photo_is_named_and_leaves_nothing_half_written(root, tiny_sd, tmp_path, capsys):
    bad = voc.image_path(root, voc.read_split(root, "trainaug")[1])
    bad.write_bytes(bad.read_bytes()[:200])
    folder = tmp_path / "attention"
    assert extract(root, tiny_sd, folder) == 1
    one_line(capsys, str(bad), "not a readable image")
    assert not folder.exists() or not list(folder.iterdir())
    bad.unlink()
    assert extract(root, tiny_sd, folder) == 1
    one_line(capsys, str(bad), "no such file")


def test_an_unknown_class_and_a_missing_annotation_are_named(root, tiny_sd, tmp_path, capsys):
    path = root / "Annotations" / f"{voc.read_split(root, 'trainaug')[0]}.xml"
    path.write_text("<annotation><object><name>unicorn</name></object></annotation>")
    assert extract(root, tiny_sd, tmp_path) == 1
    one_line(capsys, str(path), "unknown class 'unicorn'")
    path.unlink()
    assert extract(root, tiny_sd, tmp_path) == 1
    one_line(capsys, str(path), "no annotation")


def test_an_image_without_labels_becomes_all_background(root, tiny_sd, tmp_path):
    first = voc.read_split(root, "trainaug")[0]
    (root / "Annotations" / f"{first}.xml").write_text("<annotation/>")
    assert extract(root, tiny_sd, tmp_path / "a") == 0
    refine = [
        "--root",
        str(root),
        "--attention",
        str(tmp_path / "a"),
        "--output",
        str(tmp_path / "m"),
    ]
    assert run(lambda: refine_masks.main([*refine, "--processes", "1"])) == 0
    assert not read_mask(tmp_path / "m" / f"{first}.png").any()


def test_wrong_counts_blocks_models_and_folders_are_refused(root, tiny_sd, tmp_path, capsys):
    assert extract(root, tiny_sd, tmp_path / "a", "--images", "7") == 1
    one_line(capsys, "lists 6 images", "says 7", "datasets.voc.splits.trainaug.images")
    assert extract(root, tiny_sd, tmp_path / "a", "self_block=40") == 1
    one_line(capsys, "[40]", "0 to 15", "model.self_block")
    broken = Path(shutil.copytree(tiny_sd, tmp_path / "sd"))
    shutil.rmtree(broken / "vae")
    assert extract(root, broken, tmp_path / "a") == 1
    one_line(capsys, str(broken), "vae")
    precious = tmp_path / "holiday"
    precious.mkdir()
    (precious / "beach.png").write_bytes(b"x")
    assert extract(root, tiny_sd, tmp_path / "a") == 0
    refine = ["--root", str(root), "--attention", str(tmp_path / "a"), "--output", str(precious)]
    assert run(lambda: refine_masks.main(refine)) == 1
    one_line(capsys, str(precious))
    assert (precious / "beach.png").exists()


def test_masks_of_another_size_are_refused(root, tmp_path, capsys):
    masks = tmp_path / "masks"
    masks.mkdir()
    for i in voc.read_split(root, "train"):
        write_mask(masks / f"{i}.png", np.zeros((64, 64)), PALETTE)
    write_mask(masks / f"{i}.png", np.zeros((32, 64)), PALETTE)
    arguments = ["--dataset", "voc", "--root", str(root), "--split", "train", "--masks", str(masks)]
    assert run(lambda: evaluate_masks.main([*arguments, "--output", str(tmp_path / "e")])) == 1
    one_line(capsys, f"{i}.png")


def test_one_photo_for_a_person(root, tiny_sd, tmp_path, capsys):
    photo = voc.image_path(root, voc.read_split(root, "train")[0])
    arguments = [
        str(photo), "--classes", "dog, sofa", "--model", str(tiny_sd), "--device", "cpu",
        "--output", str(tmp_path / "mask.png"), "--overlay", str(tmp_path / "overlay.png"),
    ]  # fmt: skip
    assert run(lambda: segment_image.main(arguments)) == 0
    legend = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in legend] == ["background", "dog", "sofa"]
    mask = read_mask(tmp_path / "mask.png")
    assert mask.shape == (64, 64) and mask.max() <= 2
    assert read_image(tmp_path / "overlay.png").shape[0] > 64  # with a legend below
    assert run(lambda: segment_image.main([*arguments[:1], "--classes", ",", *arguments[3:]])) == 1
    one_line(capsys, "--classes")
