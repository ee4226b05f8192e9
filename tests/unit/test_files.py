"""Folders of results and names from data."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from attnseg.errors import UserError
from attnseg.io import files
from attnseg.io.archives import extract
from attnseg.io.files import safe_name, start_folder, write_atomically, write_json


def test_what_other_parameters_made_goes_and_what_the_same_made_stays(tmp_path):
    start_folder(tmp_path, {"a": 1})
    for name in ("1.png", "notes.txt"):
        (tmp_path / name).touch()
    start_folder(tmp_path, {"a": 1})
    assert (tmp_path / "1.png").exists()
    start_folder(tmp_path, {"a": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "parameters.json"]


@pytest.mark.parametrize("content", ["[]", "5", "null", "{"])
def test_a_record_that_is_no_mapping_is_of_other_parameters(tmp_path, content):
    start_folder(tmp_path, {"a": 1})
    (tmp_path / "1.png").touch()
    (tmp_path / "parameters.json").write_text(content)
    start_folder(tmp_path, {"a": 1})
    assert not (tmp_path / "1.png").exists()


def test_damaged_json_that_another_process_removed_is_named_as_damaged(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    path.write_text("{")
    monkeypatch.setattr(files.json, "loads", lambda _: path.unlink() or [])
    with pytest.raises(UserError, match="damaged"):
        files.read_sealed(path)


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


WRITER = """
import sys, time
from attnseg.io.files import write_atomically
with write_atomically(sys.argv[1]) as partial:
    partial.write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""
UNPACKER = """
import sys, time
from attnseg.io import archives
archives.check_space = lambda *_: (print("begun", flush=True), time.sleep(60))
archives.extract(*sys.argv[1:])
"""


@pytest.fixture
def begin():
    """Starts a Python program with arguments, in the midst of which it now is."""
    running = []

    def call(program: str, *arguments: object) -> subprocess.Popen:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        scripts = str(Path(files.__file__).parents[2])
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": scripts}
        )
        running.append(process)
        assert process.stdout.readline() == "begun\n"
        return process

    yield call
    for process in running:
        process.kill()
        process.wait()


def test_what_killed_processes_were_writing_goes_and_what_others_are_writing_stays(tmp_path, begin):
    archive = tmp_path / "photos.tar"
    subprocess.run(
        ["tar", "cf", archive, "-C", Path(__file__).parent, Path(__file__).name], check=True
    )
    folder = tmp_path / "work"
    killed = [begin(WRITER, folder / "1.png"), begin(UNPACKER, archive, folder)]
    for process in killed:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(list(folder.iterdir())) == 2
    begin(WRITER, folder / "2.png")
    (folder / ".mine.partial").mkdir()
    other = (
        folder / f".attnseg-another-host-abcd1234{files.PARTIAL}"
    )  # whose locks are not seen here
    other.mkdir()
    files.remove_strays.cache_clear()
    write_json(folder / "manifest.json", {})
    assert (folder / ".mine.partial").is_dir() and other.is_dir()
    (left,) = folder.glob(f"{files.OURS}*{files.PARTIAL}")
    assert [path.name for path in left.iterdir()] == [".2.png"]
    assert files.images_in(folder, below=True) == []
    files.remove_strays.cache_clear()
    extract(archive, folder)
    assert (folder / Path(__file__).name).is_file() and (left / ".2.png").is_file()


def test_what_a_library_renames_over_or_leaves_beside_the_temporary_file_is_guarded(tmp_path):
    with write_atomically(tmp_path / "a.safetensors") as partial:  # as safetensors writes
        for name in (".tmpA", ".tmpB"):
            (partial.parent / name).write_text(name)
        (partial.parent / ".tmpA").rename(partial)
        files.remove_strays.cache_clear()
        write_json(tmp_path / "b.json", {})  # another writer, which removes strays
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.json"]
    assert (tmp_path / "a.safetensors").read_text() == ".tmpA"


def test_a_photo_is_known_by_size_and_date_and_by_its_digest_where_the_date_differs_or_on_request(
    tmp_path, monkeypatch
):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"pixels")
    known = files.fingerprint(photo)
    date = (photo.stat().st_atime_ns, photo.stat().st_mtime_ns)
    os.utime(photo)  # as of a copy
    assert files.is_same(photo, known)
    photo.write_bytes(b"pixelt")
    assert not files.is_same(photo, known)
    os.utime(photo, ns=date)  # a bit that fell over on the disk
    assert files.is_same(photo, known)
    monkeypatch.setenv("ATTNSEG_CHECK_PHOTOS", "1")
    assert not files.is_same(photo, known)
    photo.write_bytes(b"more pixels")
    os.utime(photo, ns=date)
    monkeypatch.delenv("ATTNSEG_CHECK_PHOTOS")
    assert not files.is_same(photo, known)
    photo.unlink()
    assert not files.is_same(photo, known)
