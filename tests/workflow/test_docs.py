"""The documents: links resolve, commands parse, and numbers come from a run."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnseg.app import command
from attnseg.datasets.images import read_mask
from attnseg.datasets.voc import DATASET as VOC
from attnseg.mini.world.splits import voc_scene
from attnseg.mini.world.voc_layout import write_scene
from attnseg.results import TARGETS
from tools import update_docs

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    REPOSITORY / "README.md",
    REPOSITORY / "config" / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]


def anchors(path: Path) -> set[str]:
    """GitHub's names of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_to_files_and_headings(document):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", document.read_text()):
        name, _, heading = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), target
        assert not heading or heading in anchors(path), target


def shell_blocks(text: str) -> list[list[list[str]]]:
    """The commands of each block of shell, in words."""
    blocks = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        lines = block.replace("\\\n", " ").replace("&&", "\n").splitlines()
        blocks.append([words for line in lines if (words := shlex.split(line, comments=True))])
    return blocks


def commands(*programs: str) -> list[list[str]]:
    """Those of all documents that run one of `programs`."""
    texts = [path.read_text() for path in DOCUMENTS]
    found = [words for text in texts for block in shell_blocks(text) for words in block]
    return [words for words in found if words[0] in programs]


README = (REPOSITORY / "README.md").read_text()


def test_the_environment_is_activated_before_the_first_command_that_needs_it():
    first = re.search(r"(?:^|`)(?:snakemake|python|attnseg) ", README, re.M)
    assert 0 < README.find("source .venv/bin/activate") < first.start()


@pytest.mark.parametrize("words", commands("python"), ids=lambda words: Path(words[1]).stem)
def test_programs_take_what_the_documents_give_them(words, takes, monkeypatch):
    beside = [str(REPOSITORY / folder) for folder in ("scripts/tools", "benchmarks")]
    monkeypatch.setattr(sys, "path", [*beside, *sys.path])
    _, program, *arguments = words
    assert (REPOSITORY / program).is_file()
    module = re.sub(r"^(scripts|benchmarks)/|\.py$", "", program).replace("/", ".")
    takes(importlib.import_module(module).main, arguments)


@pytest.mark.parametrize("words", commands("attnseg"), ids=lambda words: words[1])
def test_the_command_takes_what_the_documents_give_it(words, takes):
    takes(command.main, words[1:])


def test_the_documents_show_every_command():
    texts = "".join(path.read_text() for path in DOCUMENTS)
    assert all(f"attnseg {name}" in texts for name in command.COMMANDS)


def with_targets() -> list[list[str]]:
    found = [words[1:] for words in commands("snakemake") if "--profile" not in words]
    return [
        words for words in found if any(w.startswith(("results/", "resources/")) for w in words)
    ]


@pytest.mark.parametrize("arguments", with_targets(), ids=lambda words: words[0])
def test_the_targets_of_the_readme_are_planned(arguments, plan, checkout):
    (own,) = re.findall(r"```yaml\n(# own.yaml.*?)```", README, re.S)
    (checkout / "own.yaml").write_text(own.replace("/models/sd-v1-4", "assets/mini_sd"))
    jobs, _ = plan(*arguments)
    assert jobs


@pytest.mark.parametrize("block", shell_blocks(README))
def test_what_a_command_reads_of_the_mini_world_is_made_by_one_before_it(block):
    made = set()
    for words in block:
        if words[0] == "snakemake":
            made |= set(words)
            continue
        for word in words:
            if folder := re.match(r"resources/mini/(\w+)/", word):
                name = {"VOCdevkit": "voc"}.get(folder[1], folder[1])
                assert f"resources/mini/{name}.json" in made, word


def test_the_readme_s_photos_of_the_mini_world_are_segmented_as_they_are(tmp_path, monkeypatch):
    one, many = [w for w in commands("attnseg") if "assets/mini_sd" in w and "--classes" in w]
    photo = Path(one[2])
    root = tmp_path / photo.parents[1]
    for folder in ("JPEGImages", "Annotations", "SegmentationClassAug"):
        (root / folder).mkdir(parents=True)
    write_scene(root, photo.stem, voc_scene(0, "val", 0))
    (tmp_path / "assets").symlink_to(REPOSITORY / "assets")
    monkeypatch.chdir(tmp_path)
    assert photo.is_file()
    truth = read_mask(VOC.mask_path(root, photo.stem))
    for words, output in ((one, "mask.png"), (many, f"masks/{photo.stem}.png")):
        assert command.main(words[1:]) == 0
        mask = np.array(Image.open(output))
        names = words[words.index("--classes") + 1].split(",")
        numbers = [0, *(VOC.number(name) for name in names)]
        assert set(np.unique(truth)) == set(numbers)
        for number, expected in enumerate(numbers):
            ours, theirs = mask == number, truth == expected
            assert (ours & theirs).sum() > 0.6 * (ours | theirs).sum(), expected
    exports = [words for words in commands("attnseg") if words[1:3] == ["export", "masks"]]
    assert len(exports) == 3
    for words in exports:
        assert command.main(words[1:]) == 0
        assert Path(words[-1]).exists()


def test_the_readme_s_segmentor_is_exported_and_predicts(tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="the extra `onnx`, not in the lock")
    pytest.importorskip("onnxruntime", reason="the extra `onnx`, not in the lock")
    from attnseg.segmentation.model import build_model, save_segmentor
    from attnseg.settings import read_segmentor

    (export,) = [w for w in commands("attnseg") if w[1] == "export" and "onnx" in w]
    (predict,) = [w for w in commands("attnseg") if w[1] == "predict"]
    settings = read_segmentor({"backbone": "resnet18", "width": 8, "stem": "small"})
    model = build_model(settings, len(VOC.class_names))
    save_segmentor(tmp_path / export[2], model, settings, classes=VOC.class_names)
    photo = Path(predict[2].replace("*", "0"))
    (tmp_path / photo).parent.mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(tmp_path / photo)
    monkeypatch.chdir(tmp_path)
    for words in (export, predict):
        assert command.main(words[1:]) == 0
    assert Image.open(Path(predict[-1], f"{photo.stem}.png")).size == (60, 40)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_of_results_names_targets_and_is_filled(document):
    for names, content in re.findall(
        r"<!-- results (.+?) -->\n(.*?)<!-- end -->", document.read_text(), re.DOTALL
    ):
        assert set(names.split()) <= {*TARGETS, "summary"}
        assert content.strip(), f"{names}: run scripts/tools/update_docs.py after make mini-all"


def test_a_block_is_replaced_and_one_without_its_target_is_left(tmp_path, capsys):
    (tmp_path / "voc_table_b8.csv").write_text(
        "method,metric,paper,ours,status,dataset,split,n_images,model,seed,note\n"
        "Ours,40,74.5,12.3,measured,mini_voc,train,400,m,40,\n"
    )
    text = (
        "before\n<!-- results voc_table_b8 -->\nold\n<!-- end -->\n"
        "<!-- results voc_table6 -->\nkept\n<!-- end -->\nafter\n"
    )
    new = update_docs.updated(text, tmp_path)
    assert "74.5 | 12.3" in new and "old" not in new and "kept" in new
    assert new.startswith("before\n<!-- results voc_table_b8 -->\n```\n") and new.endswith(
        "after\n"
    )
    assert "has not all: voc_table6" in capsys.readouterr().err
