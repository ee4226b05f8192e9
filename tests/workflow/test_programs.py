"""Small programs of rules: reference masks, a backbone's weights."""

import functools
import hashlib
import http.server
import importlib
import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnseg.datasets.images import read_mask
from attnseg.datasets.voc import DATASET as voc
from attnseg.errors import UserError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
reference = importlib.import_module("make_reference_masks")
backbone = importlib.import_module("fetch_backbone")


@pytest.fixture
def photos(tmp_path) -> Path:
    """A data set of two photos: one with a dog and a cat, one without objects."""
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("one\ntwo\n")
    for image_id, names in {"one": ["dog", "cat"], "two": []}.items():
        Image.new("RGB", (80, 60)).save(root / "JPEGImages" / f"{image_id}.jpg")
        objects = "".join(f"<object><name>{name}</name></object>" for name in names)
        (root / f"Annotations/{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")
    return root


def masks(photos: Path, kind: str, output: Path) -> dict[str, np.ndarray]:
    arguments = ["--root", photos, "--split", "val", "--kind", kind, "--output", output]
    assert reference.main(list(map(str, arguments))) == 0
    assert len(json.loads((output / "manifest.json").read_text())["items"]) == 2
    return {name: read_mask(output / f"{name}.png") for name in ("one", "two")}


def test_all_background_is_class_zero_everywhere(photos, tmp_path):
    for mask in masks(photos, "all_background", tmp_path / "masks").values():
        assert mask.shape == (60, 80) and not mask.any()


def test_random_labels_are_the_background_and_the_image_s_classes_each_as_often(photos, tmp_path):
    found = masks(photos, "random_labels", tmp_path / "masks")
    classes = {0, 1 + voc.classes.index("cat"), 1 + voc.classes.index("dog")}
    numbers, counts = np.unique(found["one"], return_counts=True)
    assert set(numbers.tolist()) == classes
    expected = found["one"].size / 3
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert not found["two"].any()
    again = masks(photos, "random_labels", tmp_path / "again")
    assert (again["one"] == found["one"]).all()


@pytest.fixture(params=["tensors", "checkpoint"])
def weights_url(tmp_path, request):
    """(address of a .pth file on a local server, its tensors); the name tells its SHA-256.

    The tensors alone, as torchvision's files, or a checkpoint with them, as OpenMMLab's.
    """
    import torch

    folder = tmp_path / "served"
    folder.mkdir()
    tensors = {"conv1.weight": torch.arange(12.0).reshape(3, 4)}
    saved = tensors if request.param == "tensors" else {"state_dict": tensors, "meta": {}}
    torch.save(saved, folder / "weights.pth")
    digits = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()[:8]
    (folder / "weights.pth").rename(folder / f"tiny-{digits}.pth")
    (folder / "tiny-00000000.pth").write_bytes(b"something else")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/tiny-{digits}.pth", tensors
    server.shutdown()


def test_a_backbone_s_weights_become_safetensors(weights_url, tmp_path):
    from safetensors.torch import load_file

    address, tensors = weights_url
    output = tmp_path / "models" / "tiny.safetensors"
    assert backbone.main([address, "--output", str(output)]) == 0
    loaded = load_file(output)
    assert loaded.keys() == tensors.keys()
    assert (loaded["conv1.weight"] == tensors["conv1.weight"]).all()
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_weights_with_another_checksum_than_their_name_says_are_refused(weights_url, tmp_path):
    address = f"{weights_url[0].rsplit('-', 1)[0]}-00000000.pth"
    with pytest.raises(UserError, match="sha256"):
        backbone.main([address, "--output", str(tmp_path / "tiny.safetensors")])
    assert not (tmp_path / "tiny.safetensors").exists()
    with pytest.raises(UserError, match="SHA-256"):
        backbone.main(["https://host/tiny.pth", "--output", str(tmp_path / "tiny.safetensors")])
