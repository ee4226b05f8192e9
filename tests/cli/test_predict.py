"""A segmentor as ONNX: what it computes is what torch computes, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnseg.app import command
from attnseg.errors import run
from attnseg.segmentation.model import build_model, save_segmentor
from attnseg.segmentation.predict import probabilities
from attnseg.settings import Segmentor

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TINY = {"backbone": "resnet18", "width": 8, "output_stride": 8, "loss_scales": [1.0]}
NETWORKS = {
    "deeplabv2": {"stem": "small", "rates": [1, 2], "precision": "bfloat16"},
    "deeplabv3plus": {"architecture": "deeplabv3plus"},
    "beco": {"architecture": "deeplabv3plus", "learner": "beco", "stem": "small"},
}
CLASSES = ["background", "dog", "cat", "sofa"]


def saved(path: Path, name: str, classes: list[str]) -> Path:
    """A segmentor of random weights, whose logits are of order 1 and tell pixels apart."""
    settings = Segmentor(**TINY, **NETWORKS[name])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(settings, len(classes))
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 2)
        for weights in model.parameters():
            if weights.ndim == 4:
                torch.nn.init.kaiming_normal_(weights)
    save_segmentor(path, model, settings, classes=classes, dataset="own")
    return path


def attnseg(*words: object) -> int:
    return run(lambda: command.main(list(map(str, words))))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """name -> (weights, the same as ONNX)."""
    pytest.importorskip("onnx", reason="the extra `onnx`, not in the lock")
    pytest.importorskip("onnxruntime", reason="the extra `onnx`, not in the lock")
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def get(name: str, classes: list[str] = CLASSES) -> tuple[Path, Path]:
        if (name, len(classes)) not in made:
            stem = folder / f"{name}{len(classes)}"
            weights = saved(stem.with_suffix(".safetensors"), name, classes)
            output = stem.with_suffix(".onnx")
            assert attnseg("export", weights, "--format", "onnx", "--output", output) == 0
            made[name, len(classes)] = weights, output
        return made[name, len(classes)]

    return get


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_torch_at_any_size(exported, name):
    from attnseg.app.onnx_segmentor import logits_of, opened
    from attnseg.segmentation.model import load_segmentor

    weights, file = exported(name)
    session, names = opened(file)
    assert names == CLASSES
    model, _ = load_segmentor(weights)
    for part in getattr(model, "networks", [model]):
        part.precision = "float32"
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    rng, same, pixels = np.random.default_rng(0), 0, 0
    for size in ((64, 64), (67, 91), (33, 200), (9, 7), (1, 1)):
        photo = rng.integers(0, 256, (*size, 3), np.uint8)
        with torch.inference_mode():
            values = torch.tensor(photo).permute(2, 0, 1)[None].float()
            low = model.logits((values - mean) / std)
            logits = torch.nn.functional.interpolate(low, size, mode="bilinear")[0].numpy()
        found = logits_of(session, photo)
        assert found.shape == (len(CLASSES), *size)
        assert np.abs(found - logits).max() < 1e-3 * max(1, np.abs(logits).max())
        labels = probabilities(model, photo[None], [1.0], False)[0].argmax(0)
        same, pixels = same + (found.argmax(0) == labels).sum(), pixels + labels.size
    assert same > 0.999 * pixels
    assert logits.std() > 0 and np.ptp(labels) == 0  # of one pixel


def test_the_file_says_what_it_takes_and_gives(exported):
    import onnxruntime

    weights, file = exported("deeplabv2")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (photos,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (photos.type, photos.shape) == ("tensor(uint8)", ["batch", "height", "width", 3])
    assert logits.shape[0] == "batch" and logits.shape[2:] == ["height", "width"]
    about = session.get_modelmeta().custom_metadata_map
    about = {key: json.loads(value) for key, value in about.items()}
    assert about["classes"] == CLASSES and about["dataset"] == "own"
    assert about["palette"][:2] == ["#000000", "#d55e00"] and len(about["palette"]) == 4
    assert Segmentor(**about["settings"]).width == 8
    both = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    (together,) = session.run(None, {"photos": both})
    (alone,) = session.run(None, {"photos": both[1:]})
    np.testing.assert_allclose(together[1], alone[0], atol=1e-5)


@pytest.fixture
def photos(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name, size in (("a b.png", (40, 64)), ("sub/c.JPG", (64, 40)), ("big.png", (1600, 1500))):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(tmp_path / "photos" / "a b.png").save(tmp_path / "photos" / "turned.png", exif=exif)
    return tmp_path / "photos"


@pytest.mark.parametrize("classes", [CLASSES, CLASSES[1:]])
def test_a_folder_of_photos_becomes_one_of_masks(exported, photos, tmp_path, capsys, classes):
    from attnseg.app.onnx_segmentor import logits_of, opened

    _, file = exported("deeplabv2", classes)
    output = tmp_path / "masks"
    assert attnseg("predict", photos, "--segmentor", file, "--output", output) == 0
    masks = {
        p.relative_to(output).with_suffix("").as_posix(): np.asarray(Image.open(p))
        for p in output.rglob("*.png")
    }
    sizes = {"a b": (40, 64), "big": (1600, 1500), "sub/c": (64, 40), "turned": (64, 40)}
    assert {image_id: mask.shape for image_id, mask in masks.items()} == sizes
    first = 0 if classes is CLASSES else 1
    session, _ = opened(file)
    logits = logits_of(session, np.asarray(Image.open(photos / "a b.png")))
    assert np.array_equal(masks["a b"], first + logits.argmax(0))
    assert len(np.unique(masks["a b"])) > 1
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["classes"] == CLASSES[1:]
    shares = manifest["photos"]["a b"]["shares"]
    counted = [100 * float((masks["a b"] == n).mean()) for n in range(4)]
    assert np.allclose(list(shares.values()), counted, atol=0.01)
    assert (output / "overlays" / "sub" / "c.jpg").is_file()
    assert "a b" in (output / "index.html").read_text()
    capsys.readouterr()
    (output / "sub" / "c.png").unlink()
    (photos / "cut.jpg").write_bytes((photos / "sub" / "c.JPG").read_bytes()[:400])
    assert attnseg("predict", photos, "--segmentor", file, "--output", output) == 1
    said = capsys.readouterr()
    assert "4 masks" in said.out and "3 finished before, and kept" in said.out
    assert "cut.jpg" in said.err
    exported_masks = tmp_path / "masks.json"
    assert attnseg("export", output, "--format", "coco", "--output", exported_masks) == 0
    content = json.loads(exported_masks.read_text())
    areas = sum(entry["area"] for entry in content["annotations"])
    assert areas == sum((mask > 0).sum() for mask in masks.values())


def test_mistakes_are_one_line(exported, photos, tmp_path, capsys):
    _, file = exported("deeplabv2")
    other = tmp_path / "other.onnx"
    other.write_bytes(b"no model")
    for segmentor, output, said in (
        (tmp_path / "none.onnx", "masks", "no such file"),
        (other, "masks", "not a segmentor"),
        (file, "mask.png", "name a folder"),
    ):
        words = ("predict", photos, "--segmentor", segmentor, "--output", tmp_path / output)
        assert attnseg(*words) == 1
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
        assert said in line
    words = ("predict", photos / "a b.png", "--output", tmp_path / "masks", "--segmentor")
    assert attnseg(*words, file) == 0
    assert attnseg(*words, exported("deeplabv3plus")[1]) == 1
    assert "made with another segmentor" in capsys.readouterr().err


def test_without_their_packages_one_line_names_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    weights = saved(tmp_path / "weights.safetensors", "deeplabv2", CLASSES)
    assert attnseg("export", weights, "--format", "onnx", "--output", tmp_path / "a.onnx") == 1
    assert "'.[onnx]'" in capsys.readouterr().err
    assert attnseg("predict", tmp_path, "--segmentor", "a.onnx", "--output", tmp_path / "m") == 1
    assert "pip install onnxruntime" in capsys.readouterr().err


def test_predict_imports_numpy_and_pillow_alone():
    """onnxruntime comes when the segmentor is opened; all else is Python's or this package's."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from attnseg.app import command, onnx_segmentor, predict\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - {'attnseg'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env={"PYTHONPATH": str(SCRIPTS), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stdout.strip() == "['PIL', 'numpy']"
