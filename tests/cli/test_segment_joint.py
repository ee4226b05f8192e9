"""`attnseg segment` with the families whose text and image attend jointly, from a folder to a mask."""

import numpy as np
import pytest
from PIL import Image

from attnseg.app import command
from attnseg.backbones import load_backbone
from attnseg.backbones.qwen_image import QwenImage
from attnseg.backbones.z_image import ZImage
from attnseg.errors import run
from attnseg.text2mask.options import options_for
from attnseg.text2mask.segment import segment


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


def test_each_reading_with_and_without_propagation(tiny_family, tmp_path, capsys):
    """The mask is that of the settings, and each of the four is another."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    model, masks = load_backbone(tiny_family("flux-dev"), device="cpu"), []
    for reading in ("attention", "output"):
        for iterations in (0, 2):
            words = [
                "segment", tmp_path / "photo.png", "--classes", "dog,cat", "--noises", 1, "--no-crf",
                "--device", "cpu", "--model", tiny_family("flux-dev"), "--output", tmp_path / "mask.png",
                "--reading", reading, "--iterations", iterations,
            ]  # fmt: skip
            assert run(lambda words=words: command.main(list(map(str, words)))) == 0, (
                capsys.readouterr()
            )
            masks.append(np.asarray(Image.open(tmp_path / "mask.png")).copy())
            options = options_for(model, noises=1, reading=reading, iterations=iterations)
            labels, _ = segment(
                model, pixels, ["dog", "cat"], crf=False, options=options, name="photo"
            )
            assert np.array_equal(masks[-1], labels)
            assert options.cross_blocks == ([0, 1, 2, 3] if reading == "attention" else [1])
    assert len({mask.tobytes() for mask in masks}) == 4
