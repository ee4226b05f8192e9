"""The command line: fast --help, one-line errors, readable pictures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnseg.app import command, overlay
from attnseg.errors import run

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def segment(photo, tiny_sd, tmp_path):
    """`attnseg segment` of that photo, with more or other flags: its exit status."""

    def call(*more: object, output: str = "mask.png") -> int:
        arguments = [
            "segment", photo, "--classes", "dog,cat", "--noises", "1", "--model", tiny_sd,
            "--device", "cpu", "--output", tmp_path / output, *more,
        ]  # fmt: skip
        return run(lambda: command.main(list(map(str, arguments))))

    return call


def error_of(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def help_of(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "attnseg", *words, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("words", [[], *([name] for name in command.COMMANDS)], ids=" ".join)
def test_help_is_quick_and_imports_no_network(words):
    code = (
        "import sys, time\nfrom attnseg.app import command\n"
        f"try: command.main({[*words, '--help']})\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'diffusers', 'matplotlib'} & set(sys.modules)))\n"
        "print(time.process_time())"  # not the clock: others may be using the machine
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    heavy, seconds = done.stdout.splitlines()[-2:]
    assert heavy == "[]" and float(seconds) < 1


def test_help_tells_defaults():
    text = " ".join(help_of("segment").split())
    for told in (
        "dense CRF (the extra `crf`) (default True)", "maps averaged (default 4,",
        "--instances INSTANCES with --personal, how many of the class there are (default 4)",
        "of the noise (default 0)", "where there is one (default auto)",
    ):  # fmt: skip
        assert told in text
    text = " ".join(help_of("train-subject").split())
    assert (
        "(default CompVis/stable-diffusion-v1-4)" in text
        and "settings, each with its default" in text
    )


def test_wrong_arguments_are_one_line(capsys):
    for words, said in (
        (["segmnt"], "segmnt"),
        (["segment", "photo.jpg"], "--output"),
        (["segment", "photo.jpg", "--output", "m.png", "--noises", "0"], "--noises: 0: must be 1"),
        ([], "COMMAND"),
    ):
        with pytest.raises(SystemExit) as raised:
            command.main(words)
        assert raised.value.code == 2
        assert said in error_of(capsys)


def test_mistakes_about_a_photo_are_one_line(segment, photo, tmp_path, capsys):
    assert segment(output="mask.jpg") == 1
    assert "a mask is a PNG" in error_of(capsys)
    assert segment("--overlay", tmp_path / "overlay.txt") == 1
    assert "not the name of a picture" in error_of(capsys)
    photo.rename(tmp_path / "elsewhere.png")
    assert segment() == 1
    assert "photo.png: no such photo" in error_of(capsys)
    (tmp_path / "elsewhere.png").rename(photo)
    assert segment("--seed", "-1") == 1
    assert "--seed -1" in error_of(capsys)
    assert segment("--self-block", "40") == 1
    assert "--self-block" in error_of(capsys)
    assert not list(tmp_path.glob("mask*"))


def test_without_the_extra_the_crf_is_refused_and_all_else_works(segment, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    assert segment() == 1
    line = error_of(capsys)
    assert "`crf`" in line and "--no-crf" in line
    assert segment("--no-crf") == 0
    assert capsys.readouterr().err == ""


def test_an_overlay_has_a_legend_in_the_colours_of_the_mask(segment, photo, tmp_path, capsys):
    assert segment("--overlay", tmp_path / "overlay.png", output="mask.PNG") == 0
    said = capsys.readouterr()
    assert said.err == ""  # no bars of loading
    mask = Image.open(tmp_path / "mask.PNG")
    colours = np.array(mask.getpalette()).reshape(-1, 3)
    legend = [line.split() for line in said.out.splitlines()]
    assert [words[-1] for words in legend] == ["background", "dog", "cat"]
    assert [words[1] for words in legend] == ["#" + bytes(c).hex() for c in colours[:3].tolist()]
    picture = np.array(Image.open(tmp_path / "overlay.png"))
    assert picture.shape[0] > 64 and picture.shape[1] >= 64
    for number in (1, 2):
        strip = (picture[64:] == colours[number]).all(-1)
        assert strip.sum() >= 80  # a square of it


def test_an_overlay_leaves_the_background_and_draws_edges_in_the_colour_of_the_class():
    image, labels = np.full((9, 9, 3), 100, np.uint8), np.zeros((9, 9), np.uint8)
    labels[2:7, 2:9] = 3
    shown = overlay.overlaid(image, labels)
    assert (shown[labels == 0] == 100).all()
    edge = labels == 3
    edge[3:6, 3:9] = False  # the picture's own border is none
    assert (shown[edge] == overlay.COLOURS[3]).all()
    assert (shown[4, 5] == np.round(0.45 * 100 + 0.55 * overlay.COLOURS[3])).all()


def test_a_legend_of_long_names_fits():
    names = ["the <new1> mug filled with cola", "dog", "sofa", "a rather long name of a thing"]
    names = dict(enumerate(names, 1))
    whole = np.array(overlay.with_legend(Image.new("RGB", (64, 48)), names))
    assert (whole[:48, :64] == 0).all()
    assert (whole[48:, -1] == 255).all() and (whole[-1] == 255).all()  # no name is cut off


def test_the_first_colours_differ_for_the_colour_blind():
    """Deuteranopia and protanopia as Viénot, Brettel and Mollon 1999 simulate them."""
    linear = (overlay.COLOURS[:8] / 255.0) ** 2.2
    for weights in ((0.29275, 0.70725, -0.02234), (0.11238, 0.88762, 0.00401)):
        red = linear[:, 0] * weights[0] + linear[:, 1] * weights[1]
        blue = linear[:, 2] + weights[2] * (linear[:, 0] - linear[:, 1])
        seen = np.stack([red, blue], -1).clip(0) ** (1 / 2.2) * 255
        apart = np.abs(seen[:, None] - seen[None]).max(-1) + 1e9 * np.eye(8)
        assert apart.min() > 20


def test_a_configuration_is_printed_with_every_key(capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert command.main(["config"]) == 0
    paper = json.loads(capsys.readouterr().out)
    assert command.main(["config", "config/config.yaml", "config/mini.yaml"]) == 0
    mini = json.loads(capsys.readouterr().out)
    assert paper.keys() == mini.keys() and mini["model"]["path"] == "assets/mini_sd"
    assert run(lambda: command.main(["config", "no.yaml"])) == 1
    assert "no.yaml" in error_of(capsys)


def test_who_reads_may_stop_reading():
    shell = f"set -o pipefail; {sys.executable} -m attnseg config | head -c 10"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0 and done.stderr == "" and len(done.stdout) == 10


def test_describe_prints_blocks_grids_text_and_defaults(tiny_family, capsys):
    def said(family: str) -> list[str]:
        words = ["describe", str(tiny_family(family)), "--device", "cpu"]
        assert run(lambda: command.main(words)) == 0
        return capsys.readouterr().out.splitlines()

    first, *others = said("sdxl")
    assert first == f"SDXL in {tiny_family('sdxl')}"
    assert others == [
        "images: 64 x 64 pixels, sides multiples of 16; latents 4 x 16 x 16",
        "attention blocks of such an image, in forward order:",
        "  0        1/2 of the latent, encoder, 8 x 8 cells: self, cross",
        "  1-2      1/4 of the latent, encoder, 4 x 4 cells: self, cross",
        "  3-4      1/4 of the latent, middle, 4 x 4 cells: self, cross",
        "  5-8      1/4 of the latent, decoder, 4 x 4 cells: self, cross",
        "  9-10     1/2 of the latent, decoder, 8 x 8 cells: self, cross",
        "text: 64 positions of 40 features; dog in 'a photo including dog.': 4",
        "defaults: cross blocks 1-8, self block 9, timestep 100, resize native",
    ]
    sana = said("sana")
    assert "  0-2      1/1 of the latent, 16 x 16 cells: cross" in sana
    assert sana[-1] == ("defaults: cross blocks 0-2, self block none, timestep 150, resize native")


@pytest.mark.parametrize("family", ["sd2", "sdxl", "pixart-alpha", "pixart-sigma", "sana"])
def test_a_photo_is_segmented_by_each_family(tiny_family, segment, tmp_path, family):
    assert segment("--model", tiny_family(family), "--no-crf") == 0
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert mask.shape == (64, 64) and {1, 2} <= set(np.unique(mask)) <= {0, 1, 2}


def test_segment_says_what_a_family_cannot(tiny_family, segment, tmp_path, capsys):
    sana = tiny_family("sana")
    assert segment("--model", sana, "--self-block", "1") == 1
    assert "leave out --self-block" in error_of(capsys)
    assert segment("--model", sana, "--reading", "output") == 1
    assert "reading output: it compares outputs of joint attention" in error_of(capsys)


def test_blocks_are_named_by_where_they_are(tiny_family, segment, capsys):
    model = tiny_family("sdxl")
    blocks = ["--cross-blocks", "1/4 decoder", "1", "--self-block", "1/2 decoder"]
    words = ["describe", str(model), "--device", "cpu", *blocks]
    assert run(lambda: command.main(words)) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("as asked: cross blocks 5-8, 1, self blocks 9-10, timestep")
    assert segment("--model", model, "--no-crf", *blocks) == 0
    capsys.readouterr()
    assert segment("--model", model, "--self-block", "1/2") == 0  # the encoder's as well
    assert segment("--model", model, "--self-block", "decoder") == 1
    assert "several grids (5: 1/4 decoder" in error_of(capsys)
    with pytest.raises(SystemExit):
        segment("--model", model, "--self-block", "top")
    assert "top: write a number, or a place: 1/4" in capsys.readouterr().err
