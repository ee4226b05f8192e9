"""bfloat16 is used only if the processor supports it, and never makes finished work run again."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnseg.io.precision import computes_bfloat16, number_format

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.parametrize(
    ("instructions", "native"),
    [
        ({"avx2": True}, False),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({"neon": True, "bf16": False}, False),
    ],
)
def test_auto_follows_the_processors_instructions(monkeypatch, instructions, native):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert computes_bfloat16("cpu") is native
    assert number_format("auto", "cpu") == ("bfloat16" if native else "float32")


@pytest.mark.parametrize("limit", ["AVX2", "AVX512_CORE", "avx512_core_vnni", "SSE41"])
def test_onednns_own_limit_counts(monkeypatch, limit):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert not computes_bfloat16("cpu")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert computes_bfloat16("cpu")


def test_a_format_that_is_named_is_taken():
    assert number_format("bfloat16", "cpu") == "bfloat16"
    assert number_format("float32", "cpu") == "float32"


def test_a_segmentor_trains_and_predicts_without_bfloat16(tmp_path):
    """In a process of its own: oneDNN reads its limit once."""
    code = """
import torch
from attnseg.io.precision import number_format
from attnseg.segmentation.model import build_model
from attnseg.settings import read_segmentor

settings = read_segmentor({
    "backbone": "resnet18", "width": 8, "stem": "small", "rates": [1, 1, 1, 1], "crop": 32,
    "loss_scales": [1.0], "precision": "auto",
})
seen = set()
model = build_model(settings, 3)
model.backbone.layer1.register_forward_hook(lambda m, i, o: seen.add(o.dtype))
model.logits(torch.randn(2, 3, 32, 32))
assert number_format("auto", "cpu") == "float32" and seen == {torch.float32}, seen
"""
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(SCRIPTS),
            "HOME": str(tmp_path),
            "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        },
    )
