"""Which room of the package may import which: arrows that do not run back."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "scripts" / "attnseg"
PLAIN = {
    "errors",
    "files",
    "seeds",
    "batches",
    "gpu",
    "prompts",
    "settings",
}  # modules beside the rooms
ALLOWED = {
    "core": {"errors"},
    "backbones": PLAIN | {"core"},
    "text2mask": PLAIN | {"core", "backbones", "masks", "datasets"},
    "attn2mask": PLAIN
    | {"core", "backbones", "masks", "datasets", "prompt_sets", "finetuning", "text2mask"},
    "personalised": PLAIN
    | {"core", "backbones", "masks", "datasets", "finetuning", "text2mask", "tables"},
}


def imported(path: Path) -> set[str]:
    """The rooms and modules of the package that a file imports, at its top or later."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "attnseg":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("attnseg."):
            names.add(node.module.split(".")[1])
    return names


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room):
    for path in (PACKAGE / room).glob("*.py"):
        assert imported(path) <= ALLOWED[room] | {room}, path.name


def test_the_algebra_knows_no_model():
    for path in (PACKAGE / "core").glob("*.py"):
        assert "diffusers" not in path.read_text() and "mmseg" not in path.read_text()


def test_nothing_at_paper_scale_imports_the_miniature_model():
    users = {p.parent.name for p in PACKAGE.rglob("*.py") if "mini" in imported(p)}
    assert users <= {"mini"}
