"""Archives with unsafe paths, links, damage, or more than the disk has room for."""

import errno
import io
import os
import shutil
import stat
import tarfile
import zipfile

import pytest

from attnseg.errors import UserError
from attnseg.io import archives, space
from attnseg.io.archives import extract


def make_tar(path, members, mode="w:gz"):
    """`members`: name -> content, or a TarInfo."""
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def make_zip(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


GOOD = {"top/a/one.txt": b"1", "top/b/two.txt": b"22", "else/three.txt": b"333"}


@pytest.mark.parametrize("make", [make_tar, make_zip], ids=["tar", "zip"])
def test_files_are_unpacked(make, tmp_path):
    assert extract(make(tmp_path / "x", GOOD), tmp_path / "out") == 3
    for name, content in GOOD.items():
        assert (tmp_path / "out" / name).read_bytes() == content


@pytest.mark.parametrize("make", [make_tar, make_zip], ids=["tar", "zip"])
def test_one_folder_of_an_archive_can_be_taken_and_joins_what_is_there(make, tmp_path):
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "zero.txt").write_bytes(b"0")
    extract(make(tmp_path / "x", GOOD), tmp_path / "out", strip="top", only=["a/*"])
    files = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.txt"))
    assert files == ["a/one.txt", "a/zero.txt"]


OUTSIDE = ["../evil.txt", "top/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:/evil.txt"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("make", [make_tar, make_zip], ids=["tar", "zip"])
def test_a_path_out_of_the_folder_is_refused_and_nothing_is_left(make, name, tmp_path):
    archive = make(tmp_path / "x", GOOD | {name: b"evil"})
    with pytest.raises(UserError, match="leads out of the folder"):
        extract(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "x"]


@pytest.mark.parametrize(
    "member",
    [
        special("top/link", tarfile.SYMTYPE, "/etc/passwd"),
        special("top/link", tarfile.SYMTYPE, "a/one.txt"),
        special("top/link", tarfile.LNKTYPE, "top/a/one.txt"),
        special("top/dev", tarfile.CHRTYPE),
        special("top/pipe", tarfile.FIFOTYPE),
    ],
    ids=["symlink-out", "symlink", "hard-link", "device", "pipe"],
)
def test_links_and_devices_in_a_tar_are_refused(member, tmp_path):
    archive = make_tar(tmp_path / "x", GOOD | {"special": member})
    with pytest.raises(UserError, match="is a (link|device): not unpacked"):
        extract(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_link_in_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="is a link"):
        extract(tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.parametrize("make", [make_tar, make_zip], ids=["tar", "zip"])
def test_a_cut_archive_is_one_line_and_leaves_nothing(make, tmp_path):
    content = {f"{i}.bin": os.urandom(20_000) for i in range(10)}
    archive = make(tmp_path / "x", content)
    archive.write_bytes(archive.read_bytes()[:100_000])
    with pytest.raises(UserError, match="damaged or not an archive") as error:
        extract(archive, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    archive = make_tar(tmp_path / "x", {"a": b"0" * 5000})
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="unpacking x needs 5.0 kB"):
        extract(archive, tmp_path / "out")


def test_a_disk_that_fills_up_while_unpacking_is_one_line(tmp_path, monkeypatch):
    archive = make_tar(tmp_path / "x", GOOD)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(UserError, match="the disk is full"):
        extract(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_without_what_is_wanted_is_refused(tmp_path):
    with pytest.raises(UserError, match="another archive"):
        extract(make_tar(tmp_path / "x", GOOD), tmp_path / "out", strip="VOCdevkit")
