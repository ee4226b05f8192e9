"""Weights of a segmentor and checkpoints of its training on disk: whole, damaged, hostile."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_segmentor import CLASSES, TINY, interrupted

from attnseg.datasets.images import read_image
from attnseg.datasets.voc import DATASET as voc
from attnseg.errors import UserError
from attnseg.io.files import sha256
from attnseg.segmentation import checkpoints, predict
from attnseg.segmentation.model import load_segmentor, read_about, save_segmentor
from attnseg.segmentation.train import train
from attnseg.settings import TestJob, read_segmentor

pytestmark = pytest.mark.usefixtures("one_thread")


def test_weights_on_disk_need_nothing_else(tiny_weights, tiny_voc):
    model, about = load_segmentor(tiny_weights)
    assert about["dataset"] == "voc" and about["classes"] == CLASSES
    settings = read_segmentor(about["settings"])
    assert settings == read_segmentor(TINY)
    copy = tiny_weights.with_name("copy.safetensors")
    save_segmentor(copy, model, settings, classes=CLASSES)
    photo = read_image(voc.image_path(tiny_voc, "2012_000001"))
    one = predict.probabilities(model, photo[None], TestJob())
    two = predict.probabilities(load_segmentor(copy)[0], photo[None], TestJob())
    np.testing.assert_array_equal(one, two)
    assert [p.name for p in tiny_weights.parent.glob("training-*")] == []


def test_a_file_that_is_no_segmentor_is_refused_in_one_line(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(UserError, match="no such file"):
        read_about(path)
    for content in (b"", b"not safetensors at all", b"\x02" + bytes(7) + b"{}"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a segmentor of train_segmentor.py"):
            read_about(path)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_in_the_weights_is_no_other_network(tiny_weights, tmp_path):
    path = tmp_path / "weights.safetensors"
    shutil.copy(tiny_weights, path)
    load_segmentor(path)
    flip(path)
    with pytest.raises(
        UserError, match="weights.safetensors: damaged; renamed to weights.safetensors.bad"
    ):
        load_segmentor(path)
    # in the metadata
    path.write_bytes(tiny_weights.read_bytes().replace(b"aeroplane", b"aeroplanf", 1))
    with pytest.raises(UserError, match="damaged"):
        load_segmentor(path)


@pytest.fixture
def stopped(tiny_pairs, tmp_path):
    """The folder of a training that was interrupted after five iterations: checkpoints after 2 and 4."""
    settings = read_segmentor({**TINY, "checkpoint_interval": 2})
    with interrupted(5):
        train(settings, tiny_pairs, CLASSES, tmp_path / "weights.safetensors")
    (folder,) = tmp_path.glob("training-*")
    return folder


def test_the_newest_whole_checkpoint_is_resumed(stopped, capsys):
    assert {path.name for path in stopped.glob("*.sha256")} == {"iter_2.sha256", "iter_4.sha256"}
    (stopped / "last_checkpoint").write_text("")  # as a kill can leave it
    assert checkpoints.newest(stopped).name == "iter_4.pth"
    flip(stopped / "iter_4.pth")
    assert checkpoints.newest(stopped).name == "iter_2.pth"
    assert (
        "iter_4.pth: damaged; renamed to iter_4.pth.bad; an earlier one is used"
        in capsys.readouterr().err
    )
    (stopped / "iter_2.sha256").unlink()
    assert checkpoints.newest(stopped) is None
    assert "iter_2.pth: not whole" in capsys.readouterr().err


def test_a_pickle_among_the_checkpoints_is_not_run(stopped, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    path = stopped / "iter_9.pth"
    torch.save({"state_dict": Trap()}, path)
    path.with_suffix(".sha256").write_text(sha256(path))
    assert checkpoints.newest(stopped).name == "iter_4.pth"
    assert not (tmp_path / "run").exists() and not path.exists()
