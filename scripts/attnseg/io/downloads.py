"""Resumable, verified downloads."""

import contextlib
import datetime
import errno
import fcntl
import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from attnseg.errors import TemporaryError, UserError
from attnseg.io.files import parsed, write_json
from attnseg.io.files import sha256 as sha256_of
from attnseg.io.space import check_space, size

BLOCK = 1 << 20
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
