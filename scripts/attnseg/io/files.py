"""Files that are either complete or absent."""

import contextlib
import fcntl
import fnmatch
import functools
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attnseg.errors import UserError
from attnseg.io.runs import forced

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2", ".ppm",
)  # fmt: skip

# what temporary folders' names start and end with; a lock may be known to its own computer alone
OURS, PARTIAL = f".attnseg-{re.sub(r'[^A-Za-z0-9.-]', '-', os.uname().nodename)}-", ".partial"
# what is said of a file that was damaged
AGAIN = "so that the next run of the workflow, or of the program that made it, makes it again"


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path near `path`; rename it to `path` if the block succeeds.

    It is hidden, and in a `temporary_folder`: a library that writes beside it leaves nothing elsewhere.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path.parent) as folder:
        partial = folder / f".{path.name}"
        yield partial
        os.chmod(partial, 0o644)
        os.replace(partial, path)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new hidden folder in `parent`, locked while it is used, and remove it.

    Those of killed processes of this computer are removed first.
    """
    remove_strays(parent)
    handle = None
    while handle is None:
        folder = Path(tempfile.mkdtemp(prefix=OURS, suffix=PARTIAL, dir=parent))
        with contextlib.suppress(FileNotFoundError):  # another removed it before it was locked
            handle = os.open(folder, os.O_RDONLY)
            with contextlib.suppress(OSError):  # the file system has no locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not folder.exists():
                os.close(handle)
                handle = None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is absent; wait while another process holds it."""
    with contextlib.ExitStack() as held:
        while True:
            with contextlib.suppress(FileNotFoundError):  # another has removed it since
                folder.mkdir(parents=True, exist_ok=True)
                handle = os.open(folder, os.O_RDONLY)
                held.callback(os.close, handle)
                with contextlib.suppress(OSError):  # the file system has no locks
                    fcntl.flock(handle, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(handle), folder.stat()):
                    break
        yield


@functools.cache
def remove_strays(parent: Path) -> None:
    """Remove the temporary folders of this computer's processes that have died, once in a process."""
    for entry in os.scandir(parent):
        if not re.fullmatch(rf"{re.escape(OURS)}\w{{8}}{re.escape(PARTIAL)}", entry.name):
            continue
        with contextlib.suppress(OSError):  # another removed it
            handle = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            with contextlib.suppress(OSError):  # another uses it, or the file system has no locks
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
            os.close(handle)


def write_json(path: str | os.PathLike, content: object) -> None:
    """Write `content` as indented JSON, atomically.

    Raises:
        UserError: where a number is not finite.
    """
    try:
        text = json.dumps(content, indent=1, allow_nan=False)
    except ValueError as error:
        raise UserError(f"{path}: not written: a number in it is not finite ({error})") from None
    with write_atomically(path) as partial:
        partial.write_text(text + "\n")


def parsed(text: str | bytes) -> Any:
    """JSON content.

    Raises:
        ValueError: where it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def sealed(content: dict) -> dict:
    """JSON content with its digest."""
    return content | {"digest": _seal(content)}


def is_broken(content: dict) -> bool:
    """True if `sealed` content was changed since; what has no digest, as of earlier releases, was not."""
    return "digest" in content and content["digest"] != _seal(content)


def set_aside(path: Path) -> str:
    """Rename a damaged file, as a user may have edited it, for a later run; what to say of it."""
    return f"{renamed(path)}, {AGAIN}"


def renamed(path: Path) -> str:
    """Rename a file to *.bad, or *.bad2 and so on where there is one already; what to say of it."""
    numbers = ("", *map(str, range(2, 1000)))
    aside = next(a for n in numbers if not (a := Path(f"{path}.bad{n}")).exists())
    with contextlib.suppress(FileNotFoundError):  # another process may have done it
        os.replace(path, aside)
    return f"renamed to {aside.name}"


def read_digests(folder: Path) -> dict[str, str]:
    """What `attnseg.io.digests` wrote; {} where it is absent, as of earlier releases, or damaged."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads((folder / "digests.json").read_text())
        if isinstance(content, dict):
            return content
    return {}


def read_sealed(path: Path, ours: bool = True) -> dict:
    """JSON content that was written `sealed`; `ours`: what lies beside it shows that this package did.

    Raises:
        UserError: where it is damaged; the file is renamed to *.bad if it is ours, so that the workflow
            makes it again alone.
    """
    try:
        content = parsed(path.read_text())
        if not isinstance(content, dict) or is_broken(content):
            raise ValueError("its content was changed")
    except OSError as error:
        raise UserError(f"{path} is missing ({error.strerror}): make it first") from None
    except ValueError as error:
        advice = set_aside(path) if ours else "delete it and make it again"
        raise UserError(f"{path}: damaged ({error}); {advice}") from None
    return content


def _seal(content: dict) -> str:
    rest = {key: value for key, value in content.items() if key != "digest"}
    text = json.dumps(json.loads(json.dumps(rest)), sort_keys=True)  # keys as they are read
    return hashlib.sha256(text.encode()).hexdigest()


def files_in(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder by a pattern of their names, after `**/` at any depth. Hidden files and folders,
    which another process may be writing and removing, are left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = (
            [n for n in folders if not n.startswith(".")] if pattern.startswith("**/") else []
        )
        matching = fnmatch.filter(names, pattern.removeprefix("**/"))
        found += [Path(parent, name) for name in matching if not name.startswith(".")]
    return found


def start_folder(folder: Path, made_with: dict, patterns: Sequence[str] = ("*.png",)) -> None:
    """Remove a folder's files if they were made with other parameters, and record these; also once in a
    run that was told to make them again. In a finished folder, those that were edited or added since, or whose
    digests are lost, are set aside.

    Raises:
        UserError: if the folder has files of these patterns but no parameters.json: these may be
            the user's, and are left alone.
    """
    kept, wanted = folder / "parameters.json", parameters_hash(made_with)
    files = [path for pattern in patterns for path in files_in(folder, pattern)]
    if not kept.exists() and files:
        raise UserError(f"{folder}: holds files that this program did not make; name a new folder")
    again = forced(folder)
    try:
        record = parsed(kept.read_text()) if kept.exists() else {}
    except ValueError:
        record = {}
    if not isinstance(record, dict):  # damaged
        record = {}
    if record.get("hash") == wanted and again in (None, record.get("run")):
        return
    digests, finished = read_digests(folder), (folder / "manifest.json").exists()
    for name in (
        "manifest.json",
        "digests.json",
    ):  # first, that no new file be held against an old digest
        (folder / name).unlink(missing_ok=True)
    for path in files:
        known = digests.get(path.relative_to(folder).as_posix())
        if path.is_file() and (known is not None or finished) and sha256(path) != known:
            print(f"{path}: not as it was made here; {renamed(path)}", file=sys.stderr)
        path.unlink(missing_ok=True)
    write_json(kept, {"hash": wanted} | ({"run": again} if again else {}))


def images_in(folder: Path, below: bool = False) -> list[Path]:
    """The images of a folder, with `below` at any depth, sorted. Hidden files, an interrupted writer's,
    are none.

    Raises:
        UserError: where there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of photos")
    found = folder.rglob("[!.]*") if below else folder.glob("[!.]*")
    return sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES)


def safe_name(name: str, where: object) -> str:
    """Return a name found in data if it is safe as part of a path.

    Raises:
        UserError: if it has characters, such as a slash, that could lead out of a folder, or starts
            with anything but a letter, digit or _.
    """
    if not re.fullmatch(r"\w[\w .,+&'@#()\[\]-]*", name):
        raise UserError(f"{where}: the name {name!r} cannot be part of a file's name")
    return name


def sha256(path: str | os.PathLike) -> str:
    """The hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> list[int | str]:
    """What a file is known by: its size, its date in nanoseconds, its SHA-256."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, sha256(path)]


def is_same(path: Path, known: Sequence[int | str]) -> bool:
    """True if a file is the one with the `fingerprint`.

    It is read only where the date is another, as of a copy, or where $ATTNSEG_CHECK_PHOTOS is set.
    """
    if not path.is_file() or path.stat().st_size != known[0]:
        return False
    if path.stat().st_mtime_ns == known[1] and not os.environ.get("ATTNSEG_CHECK_PHOTOS"):
        return True
    return sha256(path) == known[2]


def parameters_hash(parameters: dict) -> str:
    """A hash of parameters, 16 hexadecimal digits, that does not depend on their order."""
    text = json.dumps(parameters, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
