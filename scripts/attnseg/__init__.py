"""attnseg: segmentation from the attention of text-to-image diffusion models."""

import importlib
import os
from typing import Any

# transformers would otherwise warn at every start about image processors that are not used
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

# loaded lazily: the CRF's workers import this package and must not import torch
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
