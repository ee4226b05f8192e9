"""The number format in which networks compute: bfloat16 only where the processor has it.

A processor without bfloat16 instructions emulates them, slower than float32: a segmentor's iteration
took 0.33 s in emulated bfloat16 and 0.16 s in float32. So `auto` asks the processor.
"""

import os

import torch

PRECISIONS = ("auto", "float32", "bfloat16")
NATIVE = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # of torch.cpu.get_capabilities()


def computes_bfloat16(device: torch.device | str) -> bool:
    """Whether a device multiplies in bfloat16 itself, rather than by emulation.

    oneDNN, which computes PyTorch's convolutions on a CPU, can be held to older instructions by
    ONEDNN_MAX_CPU_ISA (AVX512_CORE, AVX2, ...); then the answer is no.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if not any(word in limit for word in ("ALL", "DEFAULT", "BF16", "FP16", "AMX", "AVX10")):
        return False
    has = torch.cpu.get_capabilities()
    return torch.device(device).type == "cpu" and any(has.get(name, False) for name in NATIVE)


def number_format(precision: str, device: torch.device | str) -> str:
    """What `precision` means on a device: "auto" is bfloat16 where that is native, else float32."""
    if precision != "auto":
        return precision
    return "bfloat16" if computes_bfloat16(device) else "float32"
