"""Import mmengine without transformers, and quietly; import this before anything else of OpenMMLab.

mmengine imports transformers, and with it peft, only to register optimisers that are not used here.
That would take two of the four seconds that a job spends on imports. Where no logger is named, it prints
messages of any level: mmseg's for debugging, "Could not import OneDL", twice in every job.
"""

import logging
import sys

if "transformers" not in sys.modules:
    sys.modules["transformers"] = None  # type: ignore[assignment]  # to import it is an ImportError, which mmengine expects
    try:
        import mmengine.optim  # noqa: F401
    finally:
        del sys.modules["transformers"]

import mmengine.logging

_print_log = mmengine.logging.print_log


def print_log(
    msg: object, logger: logging.Logger | str | None = None, level: int = logging.INFO
) -> None:
    """mmengine's, without messages for debugging where there is no logger to filter them."""
    if logger is not None or level > logging.DEBUG:
        _print_log(msg, logger, level)


mmengine.logging.print_log = print_log
