"""The direction of imports between the rooms of the package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "scripts" / "attnseg"
FACTS = {"errors", "settings", "datasets", "config", "evaluations"}
LIBRARY = FACTS | {"core", "io", "backbones"}
ALLOWED = {
    "core": {"errors"},
    "io": {"errors"},
    "settings": {"errors"},
    "datasets": {"errors", "core", "io"},
    "config": {"errors", "settings", "datasets"},
    "backbones": {"errors", "core", "io"},
    "jobs": FACTS,
    "text2mask": LIBRARY,
    "attn2mask": LIBRARY | {"text2mask"},
    "segmentation": LIBRARY,
    "personalised": LIBRARY | {"text2mask", "segmentation"},
    "results": FACTS | {"core", "io", "jobs"},
    "app": LIBRARY | {"text2mask", "attn2mask", "personalised", "results", "segmentation", "mini"},
    "mini": LIBRARY | {"text2mask", "attn2mask", "segmentation", "personalised"},
}
BESIDE = {"__init__", "__main__", "errors", "evaluations"}  # modules in no room


def imported(path: Path) -> set[str]:
    """The rooms and modules of the package that a file imports, at its top or later."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            return
        if isinstance(node, ast.ImportFrom) and node.module == "attnseg":
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("attnseg."):
            names.add(node.module.split(".")[1])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return names


def test_every_file_is_in_a_room():
    assert {path.stem for path in PACKAGE.glob("*.py")} == BESIDE
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and list(path.rglob("*.py"))}
    assert rooms == set(ALLOWED)


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room):
    for path in (PACKAGE / room).rglob("*.py"):
        assert imported(path) <= ALLOWED[room] | {room}, path.relative_to(PACKAGE)


def test_only_the_programs_of_the_mini_scale_know_its_world():
    programs = PACKAGE.parent.glob("*.py")
    knowing = {path.stem for path in programs if "mini" in imported(path)}
    assert knowing == {
        "build_mini_prompts", "build_mini_world", "train_backbone", "train_mini_diffusion",
    }  # fmt: skip


def test_the_algebra_knows_no_model():
    for path in (PACKAGE / "core").glob("*.py"):
        assert "diffusers" not in path.read_text() and "mmseg" not in path.read_text()


def test_facts_load_neither_numpy_nor_torch():
    """They are what the Snakefile imports while it is parsed."""
    code = (
        "import sys; import attnseg.config.reading, attnseg.evaluations, attnseg.results, attnseg.io.runs\n"
        "from attnseg import datasets\n"
        "import attnseg.jobs; from attnseg.results import claims, targets\n"
        "for name in datasets.SHIPPED: datasets.load(name)\n"
        "print(sorted({'numpy', 'torch', 'PIL', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env={"PYTHONPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
