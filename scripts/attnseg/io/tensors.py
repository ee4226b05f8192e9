"""Files of tensors: safetensors whose bytes depend on nothing but their content, and checkpoints."""

import hashlib
import io
import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from attnseg.io.files import renamed, write_atomically


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


def digest_of(state: Mapping[str, torch.Tensor], about: Mapping) -> str:
    """SHA-256 of weights and metadata, so that a flipped bit is no other network."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype} {tuple(state[name].shape)}".encode())
        digest.update(state[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_checkpoint(state: dict, path: Path) -> None:
    """Write tensors and plain values, after the SHA-256 of the rest: torch reads flipped bits as they are."""
    content = io.BytesIO()
    torch.save(state, content)
    with write_atomically(path) as partial, open(partial, "wb") as file:
        file.write(hashlib.sha256(content.getbuffer()).hexdigest().encode())
        file.write(content.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """What `write_checkpoint` wrote, or an earlier release without a digest; tensors are on the CPU.

    None without a file, and where it is damaged: that is said, and the file renamed.
    """
    if not path.exists():
        return None
    content = path.read_bytes()
    try:
        if not content.startswith(b"PK"):  # a zip, of an earlier release
            digest, content = content[:64], content[64:]
            if hashlib.sha256(content).hexdigest().encode() != digest:
                raise ValueError("its content was changed")
        return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except MemoryError:
        raise
    except Exception as error:  # pickle, zip and torch raise many types
        said = (
            f"{path}: damaged ({type(error).__name__}); {renamed(path)}, the training starts again"
        )
        print(said, file=sys.stderr, flush=True)
        return None
