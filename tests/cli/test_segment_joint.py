"""`attnseg segment` with the families whose text and image attend jointly, from a folder to a mask."""

import numpy as np
import pytest
from PIL import Image

from attnseg.app import command
from attnseg.backbones.qwen_image import QwenImage
from attnseg.backbones.z_image import ZImage
from attnseg.errors import run


@pytest.mark.parametrize("family", ["sd3", "flux-dev", "qwen-image", "flux2-klein", "z-image"])
def test_a_photo_is_segmented(tiny_family, tmp_path, capsys, monkeypatch, family):
    for kind in (QwenImage, ZImage):  # the others' is in their configuration
        monkeypatch.setattr(kind, "size", (64, 64))
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    words = [
        "segment", tmp_path / "photo.png", "--classes", "dog,dining table", "--noises", 2,
        "--device", "cpu", "--no-crf", "--model", tiny_family(family), "--output", tmp_path / "mask.png",
    ]  # fmt: skip
    assert run(lambda: command.main(list(map(str, words)))) == 0, capsys.readouterr().err
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert mask.shape == (48, 64) and set(np.unique(mask)) >= {1, 2}
