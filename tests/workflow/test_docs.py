"""The documents: their links lead somewhere, and their numbers come from a run."""

import re
from pathlib import Path

import pytest

from attnseg.tables import TARGETS
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
