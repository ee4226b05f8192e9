"""Archives unpacked only within their folder."""

import errno
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO, cast

from attnseg.errors import UserError
from attnseg.io.files import temporary_folder
from attnseg.io.space import check_space

BLOCK = 1 << 20
# RuntimeError: an encrypted zip; ValueError: a name with a zero byte, or in no encoding
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    RuntimeError,
    struct.error,
    ValueError,
    OverflowError,
)
# A bomb is unpacked to more than this, and than so many times the archive's size. Photos hardly grow,
# annotations less than tenfold.
BOMB_BYTES, BOMB_TIMES = 10**9, 100


def extract(
    archive: Path, folder: Path, *, strip: str = "", only: tuple[str, ...] | list[str] = ()
) -> int:
    """Unpack a tar or zip archive into `folder`; return the number of files.

    Files are moved into place, replacing existing ones, only once all are unpacked. The whole
    archive is refused if a wanted entry is a link or a device, if any entry leads out of the
    folder, or if it is a bomb.

    Args:
        strip: the folder in the archive to unpack; other entries are skipped.
        only: patterns (``cls/*``, matching across /) of the files to unpack, below `strip`.
    """
    archive, folder = Path(archive), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder) as partial:
        reader = _read_zip if _is_zip(archive) else _read_tar
        count = unpacked = 0
        try:
            for member, kind, length, copy in reader(archive):
                target = _target(archive, member, kind, strip, only)
                if target is None:
                    continue
                if kind == "folder":
                    (partial / target).mkdir(parents=True, exist_ok=True)
                    continue
                unpacked += length
                if unpacked > max(BOMB_BYTES, BOMB_TIMES * archive.stat().st_size):
                    raise UserError(
                        f"{archive}: unpacks to over {BOMB_TIMES} times its size: not unpacked; do not use "
                        "this archive"
                    )
                check_space(folder, length, f"unpacking {archive.name}")
                (partial / target).parent.mkdir(parents=True, exist_ok=True)
                with open(partial / target, "wb") as content:
                    copy(content)
                count += 1
            if not count:
                wanted = f" below {strip}" if strip else ""
                raise UserError(f"{archive}: no matching file{wanted}; is it another archive?")
            for file in sorted(partial.rglob("*")):
                place = folder / file.relative_to(partial)
                if file.is_dir():
                    place.mkdir(parents=True, exist_ok=True)
                else:
                    os.replace(file, place)
            return count
        except DAMAGED as error:
            raise UserError(
                f"{archive}: damaged or not an archive ({error}); download it again"
            ) from None
        except PermissionError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"{folder}: the disk is full; free some space and run again"
                ) from None
            # a name that is too long, or is a file's and a folder's
            raise UserError(
                f"{archive}: cannot be unpacked in {folder} ({error.strerror}); download it again"
            ) from None


def _target(
    archive: Path, member: str, kind: str, strip: str, only: tuple[str, ...] | list[str]
) -> PurePosixPath | None:
    """A member's path below the folder, None if it is not wanted."""
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise UserError(
            f"{archive}: {member!r} leads out of the folder: not unpacked; do not use this archive"
        )
    try:
        path = path.relative_to(strip) if strip else path
    except ValueError:
        return None
    if only and not any(fnmatch(str(path), pattern) for pattern in only):
        return None
    if kind not in ("file", "folder"):
        raise UserError(f"{archive}: {member!r} is a {kind}: not unpacked; do not use this archive")
    return path


def _is_zip(archive: Path) -> bool:
    if not archive.is_file():
        raise UserError(f"{archive}: no such file; name an existing archive")
    return zipfile.is_zipfile(archive)


def _read_tar(archive: Path) -> Iterator[tuple[str, str, int, Callable]]:
    """Yield each member's name, kind, size and a function that copies its content to a file."""
    with tarfile.open(archive, "r|*") as tar:  # a stream: one pass over a compressed archive
        for member in tar:
            if member.isdir():
                kind = "folder"
            elif member.issym() or member.islnk():
                kind = "link"
            else:
                kind = "file" if member.isreg() else "device"

            def copy(file: IO[bytes], member: tarfile.TarInfo = member) -> None:
                # None for what is no file, and that is not copied
                shutil.copyfileobj(cast(IO[bytes], tar.extractfile(member)), file, BLOCK)

            yield member.name, kind, member.size, copy


def _read_zip(archive: Path) -> Iterator[tuple[str, str, int, Callable]]:
    """Yield the members of a zip archive, as `_read_tar` does."""
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            mode = member.external_attr >> 16
            kind = "folder" if member.is_dir() else "file"
            if stat.S_ISLNK(mode):
                kind = "link"
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "device"

            def copy(file: IO[bytes], member: zipfile.ZipInfo = member) -> None:
                with content.open(member) as source:
                    shutil.copyfileobj(source, file, BLOCK)

            yield member.orig_filename, kind, member.file_size, copy
