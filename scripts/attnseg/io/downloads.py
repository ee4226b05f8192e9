"""Resumable, verified downloads, and archives unpacked only within their folder."""

import contextlib
import datetime
import errno
import fcntl
import gzip
import hashlib
import http.client
import lzma
import os
import shutil
import stat
import struct
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO, cast

from tqdm import tqdm

from attnseg.errors import TemporaryError, UserError
from attnseg.io.files import parsed, temporary_folder, write_json
from attnseg.io.files import sha256 as sha256_of

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
RETRIED = {408, 425, 429, 500, 502, 503, 504}  # transient HTTP statuses


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    lock: Path | None = None,
    retries: int = 5,
    wait: float = 2.0,
    timeout: float = 60.0,
) -> Path:
    """Download `url` to `path`, which exists only once it is complete and verified.

    Partial downloads are kept as ``<name>.part`` and resumed, also by a later run. A file with a
    wrong checksum is moved to ``<name>.bad``.

    Args:
        sha256, md5: hexadecimal checksums, or their first digits; both are checked.
        lock: a JSON file of checksums. Without `sha256` and `md5` the first download writes its
            SHA-256 there, and every later one of the same address must agree.
        retries: successive attempts without new data after which to give up.
        wait: seconds before the second attempt, doubled with each further one.
        timeout: seconds to wait for the server.

    Raises:
        UserError: if the file is not found, the server does not respond, the disk is full or a
            checksum differs.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with contextlib.nullcontext() if path.exists() else _alone(part):
        checked = path
        if not path.exists():  # nor has another process fetched it meanwhile
            _fetch(url, part, retries, wait, timeout)
            checked = part
        verify(
            checked,
            url,
            sha256=sha256,
            md5=md5,
            lock=lock,
            aside=path.with_name(path.name + ".bad"),
        )
        if checked is part:
            os.replace(part, path)
            _tag_file(part).unlink(missing_ok=True)
    return path


def verify(
    file: Path,
    origin: str,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    lock: Path | None = None,
    aside: Path | None = None,
) -> None:
    """Raise a `UserError` if the checksums of `file` differ from those given or in `lock`.

    A wrong file is moved to `aside`, if given. `origin` is its address: its key in `lock`.
    """
    locked = read_lock(lock) if lock is not None and not (sha256 or md5) else None
    if locked is not None:
        sha256 = locked.get(origin, {}).get("sha256")
    for name, expected in (("sha256", sha256), ("md5", md5)):
        if expected is None:
            continue
        with open(file, "rb") as content:
            found = hashlib.file_digest(content, name).hexdigest()
        if found.startswith(expected.lower()):
            continue
        kept = file
        if aside is not None:
            os.replace(file, aside)
            _tag_file(file).unlink(missing_ok=True)
            kept = aside
        source = f" in {lock}" if locked is not None else ""
        raise UserError(
            f"{origin}: {name} is {found}, expected {expected}{source}; the file is kept as {kept}: "
            "download it again, and if it still differs, do not use it"
        )
    if lock is not None and locked is not None and sha256 is None:
        entry = {
            "sha256": sha256_of(file),
            "bytes": file.stat().st_size,
            "first_seen": datetime.date.today().isoformat(),
        }
        with open(f"{lock}.lock", "w") as beside:  # other downloads share the file
            fcntl.flock(beside, fcntl.LOCK_EX)
            write_json(lock, read_lock(lock) | {origin: entry})


def read_lock(lock: Path) -> dict:
    """Checksums of first downloads, by address: {sha256, bytes, first_seen}."""
    try:
        locked = parsed(Path(lock).read_text())
        if not all(isinstance(entry, dict) for entry in locked.values()):
            raise ValueError("an entry is no mapping")
        return locked
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{lock}: invalid JSON ({error}); repair or remove it") from None


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise a `UserError` if the disk of `folder` has fewer than `needed` bytes free."""
    folder = Path(folder)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {what} needs {size(needed)} and {size(free)} are free; free some space, or "
            "set the data set's root to another disk"
        )


def size(count: float) -> str:
    """Bytes for a person: ``1.9 GB``."""
    power = 0
    while count >= 1000 and power < 4:
        count, power = count / 1000, power + 1
    unit = ("bytes", "kB", "MB", "GB", "TB")[power]
    return f"{count:.0f} {unit}" if count >= 100 or not power else f"{count:.1f} {unit}"


# -- one file from the network


def _fetch(url: str, part: Path, retries: int, wait: float, timeout: float) -> None:
    """Complete `part`, a partial download of `url`."""
    failures = 0
    while True:
        before = _length(part)
        try:
            if _fetch_once(url, part, timeout):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.reason}"
            if error.code not in RETRIED:
                raise UserError(f"{url}: {reason}; see whether it has moved") from None
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"{part}: the disk is full; what has arrived is kept: free some space and run again"
                ) from None
            if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
                raise UserError(f"{part}: {error.strerror}; choose a writable folder") from None
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        except ValueError as error:
            raise UserError(f"{url}: not a valid address ({error})") from None
        failures = 0 if _length(part) > before else failures + 1
        if failures >= retries:
            raise TemporaryError(
                f"{url}: {reason}, {retries} times in a row; {size(_length(part))} are kept in {part}: "
                f"run again to continue, or put {part.name.removesuffix('.part')} beside it by hand"
            )
        pause = wait * 2 ** max(failures - 1, 0)
        print(f"{url}: {reason}; retrying in {pause:.0f} s", file=sys.stderr, flush=True)
        time.sleep(pause)


def _fetch_once(url: str, part: Path, timeout: float) -> bool:
    """Request the missing bytes; True if `part` is now complete."""
    start = _length(part)
    request = urllib.request.Request(url, headers={"User-Agent": "attnseg"})
    tag = _read_tag(part)
    if start:
        request.add_header("Range", f"bytes={start}-")
        if tag:  # if the file has changed since, the server sends all of it
            request.add_header("If-Range", tag)
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if total == str(start):
            return True
        part.unlink()  # longer than the file: of another version
        return False
    with response:
        given = response.headers.get("Content-Range", "")
        resumed = response.status == 206 and given.startswith(f"bytes {start}-")
        if response.status == 206 and not resumed:
            raise OSError(f"requested bytes from {start}, got {given!r}")
        start = start if resumed else 0
        length = response.headers.get("Content-Length")
        missing = int(length) if length is not None and length.isdigit() else None
        if missing is not None:
            check_space(part.parent, missing, f"downloading {Path(url).name}")
        new_tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        if not new_tag.startswith("W/"):  # weak tags do not guarantee identical bytes
            _tag_file(part).write_text(new_tag)
        with (
            open(part, "ab" if resumed else "wb", buffering=0) as file,
            _progress(Path(url).name, start, None if missing is None else start + missing) as bar,
        ):
            received = 0
            while block := response.read(BLOCK):
                file.write(block)
                received += len(block)
                bar(len(block))
    return missing is None or received == missing


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Hold the lock of a partial download, so that two processes do not write one file; wait for it."""
    while True:
        with open(part, "ab") as file:
            with contextlib.suppress(OSError):  # the file system has no locks
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    print(
                        f"{part}: another process downloads it: waiting",
                        file=sys.stderr,
                        flush=True,
                    )
                    fcntl.flock(file, fcntl.LOCK_EX)
            if not part.exists() or not os.path.samestat(os.fstat(file.fileno()), part.stat()):
                continue  # another has finished it
            try:
                yield
            finally:
                if part.is_file() and not _length(part):
                    part.unlink()
            return


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def _read_tag(part: Path) -> str:
    return _tag_file(part).read_text() if _tag_file(part).is_file() else ""


@contextlib.contextmanager
def _progress(name: str, start: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show progress: a bar on a terminal, a line every 10 per cent in a log."""
    if sys.stderr.isatty():
        with tqdm(
            desc=name, initial=start, total=total, unit="B", unit_scale=True, leave=False
        ) as bar:
            yield bar.update
        return
    done, tenths = start, 10 * start // total if total else 0

    def update(count: int) -> None:
        nonlocal done, tenths
        done += count
        if total and 10 * done // total > tenths:
            tenths = 10 * done // total
            print(f"{name}: {10 * tenths} % of {size(total)}", file=sys.stderr, flush=True)

    yield update


# -- archives


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
