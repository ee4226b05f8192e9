"""Custom Diffusion on photos of real subjects, a few steps of a tiny random model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train_custom_diffusion
from attnseg.backbones import finetuning, load_backbone
from attnseg.personalised.personal import PROJECTIONS, personalised, read_personal

pytestmark = pytest.mark.data


def learn(folder: Path, model: Path, output: Path, *more: str) -> Path:
    options = (
        "--device cpu --threads 1 --set steps=4 batch_size=1 learning_rate=0.001 size=64 "
        "initial_word=dog regularisation_images=0 checkpoint_interval=2"
    ).split()
    arguments = ["--photos", str(folder), "--class", folder.name, "--model", str(model)]
    assert train_custom_diffusion.main([*arguments, "--output", str(output), *options, *more]) == 0
    return output


@pytest.mark.parametrize("name", ["teapot", "dog"])
def test_a_real_subject_is_learnt_and_resumed(real_data, tiny_sd, tmp_path, name, monkeypatch):
    folder = real_data / "subjects" / name
    if not folder.is_dir():
        pytest.skip(f"no photos at {folder}")
    threads = torch.get_num_threads()
    whole = learn(folder, tiny_sd, tmp_path / "whole")
    kept = torch.save

    def interrupted(*arguments) -> None:
        kept(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning.torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learn(folder, tiny_sd, tmp_path / "again")
    monkeypatch.undo()
    again = learn(folder, tiny_sd, tmp_path / "again")
    torch.set_num_threads(threads)
    first, second = (load_file(path / PROJECTIONS) for path in (whole, again))
    assert all(torch.equal(first[key], second[key]) for key in first)
    personal = read_personal(whole)
    assert personal.info["photos"] == [len(list(folder.glob("*.jpg")))]
    with personalised(load_backbone(tiny_sd, device="cpu"), personal) as backbone:
        ids = backbone.tokenizer(f"a <new1> {name}").input_ids
        assert backbone.tokenizer.convert_tokens_to_ids("<new1>") in ids
