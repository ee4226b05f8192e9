"""Number format for computation: bfloat16 only where the processor supports it.

Emulated bfloat16 is slower than float32: a segmentor's iteration took 0.33 s, against 0.16 s.
"""

import os

import torch

NATIVE = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # of torch.cpu.get_capabilities()


def computes_bfloat16(device: torch.device | str) -> bool:
    """True if a device computes in bfloat16 natively.

    False if ONEDNN_MAX_CPU_ISA (AVX512_CORE, AVX2, ...) limits oneDNN, PyTorch's library for
    convolutions on CPUs, to older instructions.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if not any(word in limit for word in ("ALL", "DEFAULT", "BF16", "FP16", "AMX", "AVX10")):
        return False
    has = torch.cpu.get_capabilities()
    return torch.device(device).type == "cpu" and any(has.get(name, False) for name in NATIVE)


def number_format(precision: str, device: torch.device | str) -> str:
    """Resolve "auto" on a device: bfloat16 where that is native, else float32."""
    if precision != "auto":
        return precision
    return "bfloat16" if computes_bfloat16(device) else "float32"
