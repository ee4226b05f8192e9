"""Extraction on a GPU: the CPU's maps, in half precision."""

import numpy as np
import pytest
import torch

from attnseg.backbones import load_backbone
from attnseg.text2mask.extract import Sample, extract
from attnseg.text2mask.options import Options

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def sharpened(model, **options):
    """The random model with attention that is not nearly uniform."""
    backbone = load_backbone(model, **options)
    for attention, *_ in backbone.blocks.values():
        attention.to_q.weight.mul_(8)
    return backbone


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 5e-3), (None, 0.1)], ids=["32", "16"])
def test_the_gpus_maps_are_the_cpus(tiny_sd, dtype, tolerance):
    rng = np.random.default_rng(0)
    samples = [
        Sample(f"p{i}", rng.integers(0, 256, (64, 64 + 16 * i, 3), np.uint8), ["dog", "cat"])
        for i in range(3)
    ]
    options = Options(noises=2, resize="none")
    expected, _ = extract(sharpened(tiny_sd, device="cpu"), samples, options)
    found, _ = extract(sharpened(tiny_sd, device="cuda", dtype=dtype), samples, options)
    for name, maps in expected.items():
        assert (maps.float() - found[name].float()).abs().max() < tolerance
