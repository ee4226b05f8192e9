"""Random numbers that belong to a sample: never to its batch, its shard or the order of the work."""

import hashlib

import torch


def seed_of(*names: object) -> int:
    """A seed in [0, 2^63) that depends on the names alone."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_of(*names: object) -> torch.Generator:
    """A generator on the CPU that depends on the names alone, so that no state has to be kept."""
    return torch.Generator().manual_seed(seed_of(*names))
