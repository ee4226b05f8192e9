"""Folders of results and names from data."""

import pytest

from attnseg.errors import UserError
from attnseg.io.files import safe_name, start_folder


def test_what_other_parameters_made_goes_and_what_the_same_made_stays(tmp_path):
    start_folder(tmp_path, {"a": 1})
    for name in ("1.png", "manifest.json", "notes.txt"):
        (tmp_path / name).touch()
    start_folder(tmp_path, {"a": 1})
    assert (tmp_path / "1.png").exists() and (tmp_path / "manifest.json").exists()
    start_folder(tmp_path, {"a": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "parameters.json"]


def test_files_of_somebody_else_are_left_alone(tmp_path):
    (tmp_path / "holiday.png").touch()
    with pytest.raises(UserError, match="name a new folder"):
        start_folder(tmp_path, {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.png"]


@pytest.mark.parametrize("name", ["2007_000032", "mug 1", "a.b", "x+y-z"])
def test_plain_names_pass(name):
    assert safe_name(name, "list.txt") == name


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", "", ".hidden", "a\nb"])
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(UserError, match="list.txt: the name"):
        safe_name(name, "list.txt")
