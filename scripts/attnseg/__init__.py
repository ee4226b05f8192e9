"""attnseg: segmentation from the attention of text-to-image diffusion models."""

import importlib
import os
from typing import Any

# else each program begins with notes about image processors that it does not use
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

# loaded when asked for: the CRF's workers import this package and stay free of torch
_EXPORTS = {
    "attention_maps": "attnseg.text2mask.attention",
    "load_backbone": "attnseg.backbones",
    "segment": "attnseg.text2mask.segment",
}
__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
