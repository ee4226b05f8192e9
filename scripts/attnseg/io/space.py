"""The space on a disk."""

import shutil
from pathlib import Path

from attnseg.errors import UserError


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
