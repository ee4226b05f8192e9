"""Import mmengine without transformers; import this before anything else of OpenMMLab.

mmengine imports transformers, and with it peft, only to register optimisers that are not used here.
That would take two of the four seconds that a job spends on imports.
"""

import sys

if "transformers" not in sys.modules:
    sys.modules["transformers"] = None  # type: ignore[assignment]  # to import it is an ImportError, which mmengine expects
    try:
        import mmengine.optim  # noqa: F401
    finally:
        del sys.modules["transformers"]
