"""Random numbers per sample, independent of its batch, its shard and the order of the work."""

import hashlib

import torch


def seed_of(*names: object) -> int:
    """A seed in [0, 2^63) that depends only on the names."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_of(*names: object) -> torch.Generator:
    """A CPU generator seeded by the names, so that resuming needs no saved generator state."""
    return torch.Generator().manual_seed(seed_of(*names))
