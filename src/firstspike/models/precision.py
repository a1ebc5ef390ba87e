"""Which precision of activations a processor or GPU does well."""

import os
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]

# Values of oneDNN's ONEDNN_MAX_CPU_ISA that leave its bfloat16 units unused.
_WITHOUT_BFLOAT16 = {
    "SSE41",
    "AVX",
    "AVX2",
    "AVX2_VNNI",
    "AVX2_VNNI_2",
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
}


def fast_precision(device: str) -> Precision:
    """Return "bfloat16" where `device` has units for it, else "float32".

    Without such units a bfloat16 convolution takes about ten times as long as one in float32. Feature bits
    tell the same at each start, which a measurement on a busy machine does not. ``ATEN_CPU_CAPABILITY`` and
    ``ONEDNN_MAX_CPU_ISA``, which keep torch from a processor's newer units, count.

    Args:
        device: as torch names it.
    """
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    # A query that torch does not promise; without it float32 is right everywhere.
    has_units = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    used = "AVX512" in torch.backends.cpu.get_cpu_capability() and limit.upper() not in _WITHOUT_BFLOAT16
    return "bfloat16" if has_units and used else "float32"
