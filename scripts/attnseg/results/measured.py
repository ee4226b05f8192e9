"""The files of an evaluation: metrics.json, and the counts of its images or triplets that it is made of."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attnseg.errors import UserError, readable
from attnseg.io.files import read_sealed, sealed, set_aside, sha256, write_atomically, write_json

if TYPE_CHECKING:  # descriptions of tables load no numpy
    import numpy as np

COUNTS = ("per_image.npz", "per_triplet.npz")


def write_measured(
    folder: str | os.PathLike, name: str, arrays: Mapping[str, object], metrics: dict
) -> None:
    """Write the counts as `name`, one of COUNTS, then metrics.json, each atomically.

    metrics.json has a digest of its own content, and that of the counts.
    """
    import numpy as np

    folder = Path(folder)
    with write_atomically(folder / name) as partial:
        np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]  # arrays, or lists
    digests = {name: sha256(folder / name)}
    write_json(folder / "metrics.json", sealed(metrics | {"sha256": digests}))


def read_measured(path: str | os.PathLike) -> dict:
    """Read a metrics.json.

    Raises:
        UserError: if it or the counts beside it are missing or damaged; metrics.json is renamed to *.bad then,
            so that the workflow evaluates again.
    """
    path = Path(path)
    metrics = read_sealed(path, ours=any((path.parent / name).exists() for name in COUNTS))
    with readable(path, "delete it and evaluate again"):
        digests = dict(metrics.get("sha256") or {})
    for name, digest in digests.items():
        counts = path.parent / name
        if counts.is_file() and sha256(counts) == digest:
            continue
        problem = "damaged" if counts.is_file() else "missing"
        raise UserError(f"{counts}: {problem}; {path.name} beside it is {set_aside(path)}")
    return metrics


def read_counts(folder: str | os.PathLike, name: str) -> "dict[str, np.ndarray]":
    """Read the arrays of per_image.npz or per_triplet.npz."""
    import numpy as np

    path = Path(folder) / name
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {key: file[key] for key in file.files}
        if not all(isinstance(values, np.ndarray) for values in found.values()):
            raise ValueError("it holds more than arrays")
        return found
    except FileNotFoundError:
        raise UserError(f"{path} is missing: evaluate again") from None
    except Exception as error:  # numpy raises many types for damaged archives
        raise UserError(f"{path}: damaged ({error}); evaluate again") from error
