"""Digests of the many files of a folder, so that one that was lost or changed is seen and made again alone.

They stand in digests.json, which no rule declares: it is still there when a job goes on.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from attnseg.errors import UserError
from attnseg.io.files import AGAIN, files_in, read_digests, renamed, set_aside, sha256, write_json


def write_digests(folder: Path, digests: dict[str, str]) -> None:
    """`digests`: {a file's path below the folder: its SHA-256}."""
    write_json(folder / "digests.json", digests)


def problem_with(path: Path, digest: str | None) -> str | None:
    """What is wrong with a picture; without a digest, by the checksums that PNG files have inside."""
    if not path.is_file():
        return "missing"
    if digest is not None:
        return None if sha256(path) == digest else "damaged"
    try:
        with Image.open(path) as image:
            image.verify()
    except Exception:  # Pillow raises many types
        return "damaged"
    return None


def remove_damaged(folder: Path) -> None:
    """Set aside the pictures of a folder that a job goes on with, where they are damaged or edited."""
    digests = read_digests(folder)
    for path in files_in(folder, "**/*.png"):
        problem = problem_with(path, digests.get(path.relative_to(folder).as_posix()))
        if problem:
            print(f"{path}: {problem} or edited; {renamed(path)}", file=sys.stderr)


def check_files(folder: Path, names: Iterable[str]) -> None:
    """Check pictures of a folder that this package made; one of somebody else's is not.

    Raises:
        UserError: that names the first that is missing or damaged. The damaged ones are renamed to
            *.bad, as a user may have corrected them, and the folder's manifest is removed, so that the workflow makes them again alone.
    """
    if not (folder / "parameters.json").is_file():
        return
    digests = read_digests(folder)
    found = {name: problem_with(folder / name, digests.get(name)) for name in names}
    wrong = {name: problem for name, problem in found.items() if problem}
    if not wrong:
        return
    (folder / "manifest.json").unlink(missing_ok=True)
    for name in wrong:
        if (folder / name).is_file():
            set_aside(folder / name)
    name, problem = next(iter(wrong.items()))
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    raise UserError(
        f"{folder / name} is {problem}{more}; damaged ones are renamed to *.bad, and the manifest is "
        f"removed, {AGAIN}"
    )
