"""Files of tensors whose bytes depend on nothing but their content."""

import json
import struct
from pathlib import Path

import torch
from safetensors.torch import save_file


def save_tensors(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """A safetensors file, with the keys of its metadata in order: the library's order is random."""
    save_file(tensors, path, metadata)
    with open(path, "r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(metadata.items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length  # the library writes the same, in another order
        file.seek(8)
        file.write(text.ljust(length))
