"""Changed code leaves no old results: somebody decides, and until then nothing of other code is kept."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attnseg.settings import RefinementJob, code

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.parametrize("stage", code.STAGES.values())
def test_somebody_decided_whether_the_edited_code_changes_results(stage):
    there = code.decided().get(stage)
    if there != code.current()[stage]:
        pytest.fail(
            f"{stage}: the code or the defaults that shape its results were edited. Decide: if results "
            f"change, raise `version` of {stage} (without such a class, name in CHANGELOG.md the rule to "
            "force); then, or if they do not, run `python scripts/tools/accept_code.py "
            f"{stage}`"
        )


def test_the_files_of_families_and_data_sets_are_accepted():
    if code.decided()["known"] != code.present():
        pytest.fail(
            "backbones/ or datasets/ has other files: run `python scripts/tools/accept_code.py`"
        )


@pytest.fixture
def copied(tmp_path):
    """A copy of the programs, and what a Python expression about `attnseg.settings` is there."""
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))

    def say(expression: str) -> object:
        program = f"import json; from attnseg.settings import *; from attnseg.settings import code; print(json.dumps({expression}))"
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True,
            env={"PYTHONPATH": str(tmp_path / "scripts")},
        )  # fmt: skip
        return json.loads(done.stdout)

    return tmp_path / "scripts", say


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_edited_code_is_of_another_record_in_the_stages_that_it_shapes_and_of_no_other_identity(
    copied,
):
    scripts, say = copied
    assert say("RefinementJob().record()") == RefinementJob().identity()
    edit(scripts / "attnseg/core/crf.py", "LEAST_SCORE = 1e-5", "LEAST_SCORE = 1e-4")
    record, identity, other = say(
        "[RefinementJob().record(), RefinementJob().identity(), ExtractionJob().record()]"
    )
    assert record.pop("code")
    assert record == identity == RefinementJob().identity() and "code" not in other


def test_comments_docstrings_and_formatting_are_no_code(copied):
    scripts, say = copied
    path = scripts / "attnseg/core/crf.py"
    edit(path, "LEAST_SCORE = 1e-5", "# told\n\nLEAST_SCORE = (1e-5)")
    path.write_text(path.read_text().replace('"""', '"""Told. ', 1))
    assert "code" not in say("RefinementJob().record()")


def test_edits_of_what_is_loaded_by_name_and_of_defaults_are_seen(copied):
    scripts, say = copied
    with open(scripts / "attnseg/backbones/stable_diffusion.py", "a") as file:
        file.write("MORE = 1\n")
    edit(scripts / "attnseg/settings/attention.py", "0.95,\n", "0.9,\n")
    differing = "[s for s in code.STAGES.values() if code.current()[s] != code.decided()[s]]"
    found = say(differing)
    assert {"ExtractionJob", "Generation", "InversionJob", "RefinementJob"} <= set(found)
    assert not {"evaluate_masks", "LabellingJob", "make_reference_masks"} & set(found)


def test_a_family_and_a_data_set_that_were_added_leave_the_results_of_the_others(copied):
    scripts, say = copied
    differing = "[s for s in code.STAGES.values() if code.changed(s)]"
    for name in ("backbones/mine.py", "datasets/mine.py"):
        (scripts / "attnseg" / name).write_text("MORE = 1\n")
    edit(
        scripts / "attnseg/backbones/__init__.py",
        "FAMILIES = {",
        'FAMILIES = {"Mine": ("mine", "Mine"),',
    )
    edit(scripts / "attnseg/datasets/dataset.py", '"mug19")', '"mug19", "mine")')
    assert say(differing) == []
    with open(scripts / "attnseg/backbones/interface.py", "a") as file:
        file.write("from attnseg.backbones import mine\n")  # now the others use it
    assert "ExtractionJob" in say(differing)
    subprocess.run(
        [sys.executable, scripts / "tools/accept_code.py"],
        check=True,
        capture_output=True,
        env={"PYTHONPATH": str(scripts)},
    )
    assert say(differing) == []
    (scripts / "attnseg/datasets/mine.py").write_text("MORE = 2\n")
    assert "evaluate_masks" in say(differing)
