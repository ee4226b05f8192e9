"""Names that a shell, a page or a terminal would take for something else: none of them does."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import evaluate_masks
import extract_attention
import refine_masks
import verify_shards
from attnseg.app import sheet
from attnseg.app.folders import make_masks, pictures, read, write_entry
from attnseg.config import reading as configuration
from attnseg.datasets.images import PALETTE, read_mask, write_mask
from attnseg.errors import UserError, one_line, run
from attnseg.jobs import flags
from attnseg.settings import Segmentor, read_settings

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
MINI = REPOSITORY / "config" / "mini.yaml"
TRAP = "$(touch ran)`touch ran`"
# of photos: what a file system takes
NAMES = [
    "it's \"quoted\"", "; touch ran", "$(touch ran)", "`touch ran`", "a && touch ran", "| touch ran", "> ran",
    "two\nlines", "tab\there", "\u202egnp.exe\u202c", "\u2067right\u2069", "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>"[:7], "&lt;b&gt;", "-rf", "--output", "*?[a-z]", "{input}", "%s%n", "\\", "~", "é ñ 猫",
]  # fmt: skip


def outside_quotes(command: str) -> str:
    """What of a command stands in no single quotes: the shell interprets it."""
    return re.sub(r"'[^']*'", "", command.replace("'\"'\"'", ""))


@pytest.fixture
def counted(record_property):
    return lambda count=1: record_property("hostile", count)


# -- the shell


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """The commands of a dry run of the mini scale under a configuration of one's own, and what it says."""
    for name in ("Snakefile", "workflow", "config", "scripts", "envs", "profiles", "assets"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)

    def call(own: dict, *targets: str) -> tuple[list[str], str]:
        Path("own.yaml").write_text(yaml.safe_dump(own, allow_unicode=True))
        command = [
            SNAKEMAKE, *targets, "-n", "-p", "--cores", "1", "--configfile", "config/mini.yaml", "own.yaml",
        ]  # fmt: skip
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        said = done.stdout + done.stderr
        # all of them end with the redirection to their log
        return re.findall(
            r"(?:^|Shell command: )((?:python|printf|/)[^\0]*? 2>(?:&1|>? \S+))$", said, re.M
        ), said

    return call


def hostile_configuration(data: Path) -> dict:
    """Every folder, address, word and title of the mini scale that a user may choose, with a trap in it."""
    mini = yaml.safe_load(MINI.read_text())

    def folder(name: str) -> str:
        return f'{data}/{name}\'s "{TRAP}"; touch ran #\u202e'

    sets = {}
    for name, entry in mini["datasets"].items():
        sets[name] = {"root": folder(name), "name": f"{name}'s {TRAP} <b>", "source": "folder"}
        sets[name]["splits"] = entry.get("splits", {})
    own = {
        "classes": [f"dog; {TRAP}", 'it\'s a "cat"\n', "<script>"],
        "labels": "all",
        "root": folder("own"),
    }
    words = {"synonyms": {"<script>": f"kitten {TRAP}"}, "background_words": [f"grass {TRAP}"]}
    for there in (folder("masks") + "/voc/train", folder("more")):
        Path(there).mkdir(parents=True)
        Image.new("L", (8, 8)).save(f"{there}/a.png")
    splits = {"train": {"images": 2, "truth": False}, "val": {"images": 2}}
    sets["own"] = {"source": "folder", "splits": splits, "prompt": f"{{}} {TRAP}", **own, **words}
    return {
        "datasets": sets,
        "methods": {"theirs": {"label": f"{TRAP} <b>", "masks": folder("masks") + "/{dataset}/{split}", "fills": {"voc_table1": ["Initial"]}}},
        "predictions": {"more": {"segmentor": next(iter(mini["segmentors"])), "photos": folder("more")}},
        "inversions": {"null": {"images": {"train": 2}}},
        "personalised": {"token": "<$(touch`ran`)>"},
    }  # fmt: skip


@pytest.mark.slow
def test_no_command_of_the_workflow_holds_a_name_as_it_is(plan, tmp_path, counted):
    targets = [
        "results/mini/voc_table1.csv", "results/mini/more.png", "results/mini/attn2mask_voc_table1.csv",
        "results/mini/mug19_table7.csv", "work/mini/masks/own/train/base/crf/manifest.json",
        "work/mini/masks/own/train/null/crf/manifest.json", "work/mini/evaluation/masks/voc/train/theirs/given/metrics.json",
    ]  # fmt: skip
    own = hostile_configuration(tmp_path / "data")
    commands, said = plan(own, *targets)
    assert "Job stats" in said, said[-3000:]
    held = [command for command in commands if "touch" in command]
    assert len(commands) > 40 and len(held) > 20
    programs = {word for command in held for word in re.findall(r"scripts/(\w+)\.py", command)}
    assert {
        "extract_attention",
        "refine_synthetic",
        "evaluate_instances",
        "evaluate_masks",
        "predict_photos",
    } <= programs
    for command in held:
        assert "touch" not in outside_quotes(command), command
        assert re.fullmatch(r"[\w\s@%+=:,./<>&|{}\[\]-]*", outside_quotes(command)), command
    counted(len(held))
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", NAMES)
def test_flags_reach_a_program_as_they_are(name, tmp_path, monkeypatch, counted):
    monkeypatch.chdir(tmp_path)
    command = f"{sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "
    given = {"root": name, "words": [name, "b"], "dataset": {"key": name}}
    done = subprocess.run(
        ["bash", "-euc", command + flags(**given)], capture_output=True, text=True
    )
    compact = json.dumps({"key": name}, separators=(",", ":"))
    assert json.loads(done.stdout) == ["--root", name, "--words", name, "b", "--dataset", compact]
    assert not list(tmp_path.iterdir())
    counted()


@pytest.mark.parametrize(
    "own",
    [
        {"paths": {"work": "work; touch ran"}},
        {"paths": {"results": "my results"}},
        {"paths": {"resources": "$(touch ran)"}},
        {"paths": {"work": "-rf"}},
        {"paths": {"work": "a\nb"}},
        {"paths": {"work": "~/work"}},
        {"personalised": {"token": "<{input}>"}},
        {"variants": {"a;b": {}}},
        {"variants": {"a\n": {}}},
        {"variants": {"{x}": {}}},
        {"predictions": {"../x": {"segmentor": "deeplabv2_voc", "photos": "x"}}},
        {"model": {"path": "{input}", "revision": None}},
        {"segmentors": {"deeplabv2_voc": {"pretrained": "https://x.org/a-0;touch ran.pth"}}},
        {
            "segmentors": {
                "deeplabv2_voc": {"pretrained": "https://x.org/$(touch ran)-01234567.pth"}
            }
        },
        {
            "datasets": {
                "generated": {"root": "x", "classes": ["a"], "splits": {"train": {"images": 1}}}
            }
        },
    ],
)
def test_a_name_that_commands_or_paths_hold_is_refused_with_its_line(own, tmp_path, counted):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(own))
    with pytest.raises(UserError) as error:
        configuration.read_config(REPOSITORY / "config" / "config.yaml", path)
    assert re.search(r"own\.yaml:\d+: `", str(error.value)), error.value
    counted()


def test_weights_that_ship_keep_their_addresses():
    address = "https://download.openmmlab.com/pretrain/third_party/resnet50_v1c-2cccc1ad.pth"
    for place in (address, "/my weights/$x.pth", None, "<work>/backbones/resnet18_32.safetensors"):
        told = {"pretrained": place, "frozen_norm": False}
        assert read_settings(Segmentor, told).pretrained == place


# -- the terminal and the page


def test_a_message_is_one_line_that_no_name_steers(capsys, counted):
    for name in [*NAMES, "\x1b[2Jcleared", "\r\rover", "\x85", "x" * 9999]:

        def fail(name: str = name) -> int:
            raise UserError(f"{name}: damaged; replace it")

        assert run(fail) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and said.isprintable() is False and said[:-1].isprintable()
        assert len(said) < 3000 and said.startswith("error: ")
        counted()
    assert one_line("é 猫: it's fine") == "é 猫: it's fine"


class Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.handlers += [name for name, _ in attributes if name.startswith("on")]
        bad = [
            value
            for name, value in attributes
            if name in ("href", "src") and (value or "").startswith("javascript")
        ]
        assert not bad

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in NAMES:
        pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
        words = PngInfo()
        words.add_text("Description", "<script>alert(1)</script>")
        Image.fromarray(pixels).save(folder / f"{name.replace('/', '')}.png", pnginfo=words)
    return folder


def test_a_folder_of_such_photos_and_its_page(photos, tmp_path, counted):
    output = tmp_path / "masks"
    found, problems = pictures([str(photos)], output)
    assert len(found) == len(NAMES) and not problems
    classes = ["<b>dog</b>", 'it\'s a "cat"\u202e']
    made_with = {"model": "m", "classes": classes}

    def make(todo: dict[str, Path]) -> Iterator[tuple[str, dict]]:
        for image_id, image in read(todo, True):
            labels = np.ones(image.shape[:2], np.uint8)
            numbers = dict(enumerate(classes, 1))
            yield image_id, write_entry(output, image_id, image, labels, labels, numbers)

    assert (
        make_masks(output, made_with, found, dict.fromkeys(found, classes), problems, False, make)
        == 0
    )
    assert len(list(output.glob("*.png"))) == len(NAMES)
    page = Page((output / "index.html").read_text())
    assert page.tags <= {
        "html",
        "meta",
        "title",
        "style",
        "h1",
        "p",
        "span",
        "main",
        "figure",
        "a",
        "img",
        "figcaption",
        "br",
    }
    assert not page.handlers and "<img src=x onerror=alert(1)>" in "".join(page.text)
    record = json.loads((output / "manifest.json").read_text())
    assert {Path(entry["photo"]).stem for entry in record["photos"].values()} == set(NAMES)
    small = Image.open(next(iter(photos.iterdir())))
    assert sheet.SIDE >= small.width
    counted(len(NAMES))


# -- from photo to metrics


def test_such_photos_and_classes_through_the_programs(
    photos, tiny_sd, tmp_path, monkeypatch, counted
):
    monkeypatch.chdir(tmp_path)
    names = [name for name in NAMES if not name.startswith("{")]  # braces: of patterns
    (photos / "{input}.png").unlink()
    classes = ["<script>", "it's; a `cat`"]
    facts = {
        "key": "own",
        "classes": classes,
        "labels": "all",
        "photos": "photos/{id}.png",
        "masks": "truth/{id}.png",
    }
    for name in names:
        write_mask(tmp_path / "truth" / f"{name}.png", np.ones((32, 32), np.uint8), PALETTE)
    shards, masks = tmp_path / "attention", tmp_path / "masks"
    where = ["--dataset", json.dumps(facts), "--root", str(tmp_path), "--split", "train"]
    told = [
        "--model",
        str(tiny_sd),
        "--device",
        "cpu",
        "--set",
        "resize=none",
        "noises=1",
        f"shard_size={len(names)}",
    ]
    shard = str(shards / "shard-00000.safetensors")
    assert (
        run(lambda: extract_attention.main([*where, *told, "--shard", "0", "--output", shard])) == 0
    )
    assert (
        run(
            lambda: verify_shards.main(
                [shard, "--images", str(len(names)), "--output", str(shards / "manifest.json")]
            )
        )
        == 0
    )
    refining = [
        *where,
        "--attention",
        str(shards),
        "--output",
        str(masks),
        "--processes",
        "1",
        "--settings",
        '{"crf": null}',
    ]
    assert run(lambda: refine_masks.main(refining)) == 0
    assert {path.stem for path in masks.glob("*.png")} == set(names)
    assert read_mask(masks / "two\nlines.png").shape == (32, 32)
    scoring = [*where, "--masks", str(masks), "--output", str(tmp_path / "metrics")]
    assert run(lambda: evaluate_masks.main(scoring)) == 0
    metrics = json.loads((tmp_path / "metrics/metrics.json").read_text())
    assert metrics["classes"] == ["background", *classes] and metrics["n_images"] == len(names)
    assert not (tmp_path / "ran").exists()
    counted(len(names))
