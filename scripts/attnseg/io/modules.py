"""A Python file that the user's configuration names."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from attnseg.errors import UserError


def load_module(path: Path, prefix: str, wrong: str) -> ModuleType:
    """The module of the file `path`, known to Python as `prefix` and the file's stem.

    Raises:
        UserError: if there is no such Python file: the message `wrong`.
    """
    name = f"{prefix}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(wrong)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
