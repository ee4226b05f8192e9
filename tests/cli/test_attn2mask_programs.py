"""The programs of attn2mask, run one after the other on a random tiny Stable Diffusion."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import build_mini_prompts
import build_prompts
import draw_picture
import generate_images
import invert_image
import refine_synthetic
import train_dreambooth_lora
from attnseg.datasets.images import read_mask
from attnseg.datasets.voc import DATASET as voc
from attnseg.errors import UserError, run
from attnseg.io.shards import problem_with
from attnseg.mini.world.splits import voc_id, voc_scene
from attnseg.mini.world.voc_layout import write_scene
from attnseg.results.chosen import spread, with_several_classes
from attnseg.results.generated_pictures import local_labels
from attnseg.settings import LabellingJob, read_settings

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "voc.jsonl"
    assert build_mini_prompts.main(["--count", "5", "--output", str(path)]) == 0
    lines = path.read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | {"classes": [], "spans": []})
    path.write_text("\n".join(lines) + "\n")
    return path


def generation(prompts: Path, tiny_sd: Path, folder: Path, *more: str) -> list[str]:
    return [
        "--prompts", str(prompts), "--model", str(tiny_sd), "--device", "cpu",
        "--output", str(folder / "attention/shard-00000.safetensors"), "--images",
        str(folder / "images"), "--set", "steps=2", "attention_step=1", "batch_size=2",
        "image_format=png", "precision=float32", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def generated(prompts, tiny_sd, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    assert generate_images.main(generation(prompts, tiny_sd, folder)) == 0
    return folder


def test_a_shard_holds_images_maps_and_a_list_of_the_skipped(generated):
    shard = generated / "attention/shard-00000.safetensors"
    assert problem_with(shard) is None
    items = json.loads(shard.with_suffix(".json").read_text())["items"]
    tensors = load_file(shard)
    assert [bool(item["skipped"]) for item in items] == [False, False, True, False, False]
    for item in items:
        if item["skipped"]:
            assert item["image"] is None and f"{item['id']}/cross" not in tensors
            continue
        maps = tensors[f"{item['id']}/cross"]
        assert list(maps.shape) == [len(item["classes"]), *item["grid"]]
        with Image.open(generated / "images" / item["image"]) as image:
            assert image.size == (64, 64) and image.mode == "RGB"
    assert not list(shard.parent.glob(".shard*"))  # nothing of the batches is left


def test_a_complete_shard_is_left_and_a_lost_image_made_again(prompts, tiny_sd, generated, capsys):
    arguments = generation(prompts, tiny_sd, generated)
    assert generate_images.main(arguments) == 0
    assert "is complete" in capsys.readouterr().out
    image = generated / "images/voc_000001.png"
    before = image.read_bytes()
    image.unlink()
    assert generate_images.main(arguments) == 0
    assert image.read_bytes() == before


def test_a_lost_image_is_named_and_its_shard_removed(generated, tmp_path, capsys):
    folder = Path(shutil.copytree(generated, tmp_path / "generated"))
    image = folder / "images/voc_000001.png"
    image.write_bytes(image.read_bytes()[:-30])
    refine = [
        "--dataset", "voc", "--attention", str(folder / "attention"), "--images",
        str(folder / "images"), "--output", str(folder / "masks"), "--processes", "1",
    ]  # fmt: skip
    assert run(lambda: refine_synthetic.main(refine)) == 1
    assert "the image voc_000001.png is missing or damaged; removed" in capsys.readouterr().err
    assert not list((folder / "attention").glob("shard-*"))


def test_an_interrupted_shard_goes_on_after_its_last_batch(
    prompts, tiny_sd, generated, tmp_path, monkeypatch, capsys
):
    original, calls = generate_images.generate, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(generate_images, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_images.main(generation(prompts, tiny_sd, tmp_path))
    assert not (tmp_path / "attention/shard-00000.json").exists()
    assert generate_images.main(generation(prompts, tiny_sd, tmp_path)) == 0
    assert len(calls) == 4  # the first batch was not made again
    assert "skipped, 3 of them now" in capsys.readouterr().out
    assert_same_shards(generated, tmp_path)


def assert_same_shards(one: Path, other: Path) -> None:
    first, second = (load_file(f / "attention/shard-00000.safetensors") for f in (one, other))
    assert first.keys() == second.keys()
    for name in first:
        assert np.allclose(first[name].float(), second[name].float(), rtol=1e-2, atol=1e-6)
        image = f"images/{name.split('/')[0]}.png"
        pixels = [np.asarray(Image.open(f / image)).astype(int) for f in (one, other)]
        assert np.abs(pixels[0] - pixels[1]).max() <= 1


def test_the_images_do_not_depend_on_the_batch_size(prompts, tiny_sd, generated, tmp_path):
    arguments = generation(prompts, tiny_sd, tmp_path, "batch_size=3")
    assert generate_images.main(arguments) == 0
    assert_same_shards(generated, tmp_path)


def test_images_may_be_jpeg(prompts, tiny_sd, tmp_path):
    arguments = generation(prompts, tiny_sd, tmp_path, "image_format=jpg", "--limit", "1")
    assert generate_images.main(arguments) == 0
    with Image.open(tmp_path / "images/voc_000000.jpg") as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize("post", ["crf", "threshold", "otsu"])
def test_masks_and_reliability_of_one_shard(generated, tmp_path, post):
    arguments = [
        "--dataset", "voc", "--attention", str(generated / "attention"), "--images",
        str(generated / "images"), "--output", str(tmp_path), "--set", f"post={post}", "--processes", "1",
    ]  # fmt: skip
    assert refine_synthetic.main(arguments) == 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    made_with = read_settings(LabellingJob, manifest["parameters"]["options"])
    assert made_with == LabellingJob(post=post)
    assert len(list(tmp_path.glob("*.png"))) == 4
    for item in manifest["items"]:
        if item["skipped"]:
            continue
        mask = read_mask(tmp_path / f"{item['id']}.png")
        allowed = {0, *(1 + voc.classes.index(name) for name in item["classes"])}
        assert mask.shape == (64, 64) and set(np.unique(mask)) <= allowed
        sure = np.asarray(Image.open(tmp_path / f"reliability/{item['id']}.png"))
        assert set(np.unique(sure)) <= {0, 255}
        assert item["reliable"] == pytest.approx((sure > 0).mean(), abs=1e-3)


def test_masks_of_other_parameters_are_replaced(generated, tmp_path):
    arguments = [
        "--dataset", "voc", "--attention", str(generated / "attention"), "--images",
        str(generated / "images"), "--output", str(tmp_path), "--processes", "1", "--set", "post=none",
    ]  # fmt: skip
    assert refine_synthetic.main([*arguments, "beta=0"]) == 0
    first = [read_mask(path).mean() for path in sorted(tmp_path.glob("*.png"))]
    assert refine_synthetic.main([*arguments, "beta=0.9"]) == 0
    second = [read_mask(path).mean() for path in sorted(tmp_path.glob("*.png"))]
    assert all(a < b for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def lora(tiny_sd, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    rng = np.random.default_rng(0)
    for index in range(2):
        pixels = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    assert train_dreambooth_lora.main(adaptation(tiny_sd, folder, folder / "lora.safetensors")) == 0
    assert not list(folder.rglob("*.pt"))
    return folder / "lora.safetensors"


def adaptation(tiny_sd: Path, photos: Path, output: Path) -> list[str]:
    return [
        "--model", str(tiny_sd), "--images", *map(str, sorted(photos.glob("*.png"))), "--output",
        str(output), "--device", "cpu",
        "--set", "steps=2", "rank=2", "learning_rate=0.01", "class_images=2",
    ]  # fmt: skip


def test_images_of_the_class_are_drawn_once_and_those_missing_again(tiny_sd, lora, tmp_path):
    drawn = lora.with_name("lora.class_images")
    assert sorted(path.name for path in drawn.glob("*.png")) == [
        "generated-00000.png", "generated-00001.png"
    ]  # fmt: skip
    folder = shutil.copytree(drawn, tmp_path / "again.class_images")
    (folder / "generated-00001.png").unlink()  # as after a kill
    arguments = adaptation(tiny_sd, lora.parent, tmp_path / "again.safetensors")
    assert train_dreambooth_lora.main(arguments) == 0
    for name in ("generated-00000.png", "generated-00001.png"):
        assert (folder / name).read_bytes() == (drawn / name).read_bytes()
    first, second = load_file(lora), load_file(tmp_path / "again.safetensors")
    assert first.keys() == second.keys() and all(first[k].equal(second[k]) for k in first)
    arguments = adaptation(tiny_sd, lora.parent, tmp_path / "without.safetensors")
    assert train_dreambooth_lora.main([*arguments, "class_images=0"]) == 0
    assert not (tmp_path / "without.class_images").exists()
    without = load_file(tmp_path / "without.safetensors")
    assert any(not first[k].equal(without[k]) for k in first)


def test_generation_with_the_adapter_gives_other_images(
    prompts, tiny_sd, generated, lora, tmp_path
):
    arguments = generation(prompts, tiny_sd, tmp_path, "--lora", str(lora), "--limit", "1")
    assert generate_images.main(arguments) == 0
    name = "attention/shard-00000.safetensors"
    plain, adapted = (load_file(f / name)["voc_000000/cross"] for f in (generated, tmp_path))
    assert (plain != adapted).any()
    manifest = json.loads((tmp_path / name).with_suffix(".json").read_text())
    assert len(manifest["parameters"]["lora"]) == 64


def test_inversion_of_a_split_and_its_masks(tiny_sd, tmp_path):
    root = tmp_path / "VOCdevkit"
    for name in ("JPEGImages", "Annotations", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    ids = [voc_id("val", index) for index in range(3)]
    for index, image_id in enumerate(ids):
        write_scene(root, image_id, voc_scene(0, "val", index))
    annotation = root / "Annotations" / f"{ids[1]}.xml"
    annotation.write_text("<annotation></annotation>")
    voc.list_path(root, "val").write_text("\n".join(ids) + "\n")
    shard = tmp_path / "attention/shard-00000.safetensors"
    arguments = [
        "--root", str(root), "--split", "val", "--model", str(tiny_sd), "--output", str(shard),
        "--set", "steps=3", "inner_iterations=2", "batch_size=2", "--device", "cpu",
    ]  # fmt: skip
    assert invert_image.main(arguments) == 0
    items = json.loads(shard.with_suffix(".json").read_text())["items"]
    assert [bool(item["skipped"]) for item in items] == [False, True, False]
    assert all(item["psnr"] > 0 for item in items if not item["skipped"])
    assert len(load_file(shard)) == 2
    masks = tmp_path / "masks"
    refining = [
        "--dataset", "voc", "--attention", str(shard.parent), "--images",
        str(root / "JPEGImages"), "--output", str(masks), "--keep-skipped",
        "--processes", "1",
    ]  # fmt: skip
    assert refine_synthetic.main(refining) == 0
    assert not read_mask(masks / f"{ids[1]}.png").any()
    assert read_mask(masks / f"{ids[0]}.png").shape == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "coco"], "needs --captions"),
        (["--source", "cityscapes"], "needs --count"),
        (["--source", "imagenet_s", "--count", "3"], "needs --root"),
        (["--source", "cityscapes", "--count", "0"], "at least 1"),
    ],
)
def test_wrong_requests_for_prompts_are_one_line(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        build_prompts.main([*arguments, "--output", str(tmp_path / "p.jsonl")])


def test_a_mistake_is_one_line_on_stderr(tmp_path):
    command = [
        sys.executable, str(SCRIPTS / "build_prompts.py"), "--source", "coco", "--captions",
        str(tmp_path / "absent.json"), "--output", str(tmp_path / "p.jsonl"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "absent.json" in done.stderr


def test_a_picture_shows_samples_that_have_masks_and_leaves_out_the_skipped(generated, tmp_path):
    folders = ["--attention", str(generated / "attention"), "--images", str(generated / "images")]
    masks = tmp_path / "masks"
    with pytest.raises(UserError, match="no mask of a sample"):
        draw_picture.main(
            ["generated", *folders, "--masks", str(masks), "--output", str(tmp_path / "a.png")]
        )
    refine_synthetic.main(
        ["--dataset", "voc", *folders, "--output", str(masks), "--processes", "1"]
    )
    draw_picture.main(
        ["generated", *folders, "--masks", str(masks), "--output", str(tmp_path / "a.png")]
    )
    assert Image.open(tmp_path / "a.png").width > 300


def test_a_picture_of_a_domain_takes_pictures_from_folders_below(generated, tmp_path):
    both = tmp_path / "generated"
    both.mkdir()
    (both / "images").symlink_to(generated / "images")
    for shard in (generated / "attention").glob("shard-*"):
        (both / shard.name).symlink_to(shard)
    picture = tmp_path / "b.png"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty has no pictures"):
        draw_picture.main(
            [
                "adaptation",
                "--target",
                str(tmp_path / "empty"),
                "--before",
                str(both),
                "--after",
                str(both),
            ]
            + ["--output", str(picture)]
        )
    draw_picture.main(
        ["adaptation", "--target", str(generated), "--before", str(both), "--after", str(both)]
        + ["--count", "2", "--output", str(picture)]
    )
    assert Image.open(picture).width > 300


def test_pictures_are_spread_over_the_list():
    assert spread(list(range(11)), 3) == [0, 5, 10]
    assert spread([4, 5], 6) == [4, 5]
    one, two, three = (({"classes": list("abc"[:n])}, n) for n in (1, 2, 3))
    assert with_several_classes([one, two, three], 6) == [two, three]
    assert with_several_classes([one], 6) == [one]


def test_labels_of_a_picture_are_numbered_in_turn_and_unknown_is_background():
    mask = np.array([[0, 7], [20, 255]], np.uint8)
    assert local_labels(mask).tolist() == [[0, 1], [2, 0]]


def test_a_shard_of_an_earlier_release_without_its_images_is_not_whole(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a picture")
    there, skipped, gone = ({"image": name} for name in ("a.png", None, "b.png"))
    assert generate_images.images_there([there, skipped], tmp_path)
    assert not generate_images.images_there([there, gone], tmp_path)
