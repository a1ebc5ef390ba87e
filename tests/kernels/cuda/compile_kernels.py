"""Compile every Triton kernel for a Hopper GPU, which needs no GPU; print each one's PTX instructions.

A program of its own, since a process that interprets kernels cannot compile them.
"""

import re
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from firstspike.kernels.cuda import forward, input_gradient, levels, levels_gradient, weight_gradient

INTS = {"which", "count", "ends", "level", "spikes"}
SIZES = {"batch", "groups", "length", "n_in", "n_level", "n_list", "n_out", "n_per_group", "num_steps"}
TILE = {"WIDE": 64, "LISTS": 32, "INPUTS": 32, "SAMPLES": 32, "SPIKES": 16}
KERNELS = [
    forward._forward,
    weight_gradient._gradient,
    input_gradient._gradient,
    levels._forward,
    levels._membrane_gradient,
    levels_gradient._sum_later,
    levels_gradient._weight_gradient,
]


def compile_kernel(kernel: Any) -> str:
    """Return the PTX of a kernel in single precision, sizes divisible by 16."""
    constants: dict[str, Any] = {}
    signature, divisible = {}, {}
    for place, name in enumerate(kernel.arg_names):
        if name in TILE:
            constants[name] = TILE[name]
            signature[name] = "constexpr"
            continue
        signature[name] = "i32" if name in SIZES else ("*i32" if name in INTS else "*fp32")
        divisible[place,] = [["tt.divisibility", 16]]
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, divisible),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": 16, "enable_fp_fusion": False},
    )
    return compiled.asm["ptx"]


if __name__ == "__main__":
    for kernel in KERNELS:
        ptx = compile_kernel(kernel)
        used = sorted(set(re.findall(r"^\s+(?:@%p\d+ )?([a-z][\w.:]*) ", ptx, re.MULTILINE)))
        print(kernel.__module__.rpartition(".")[2], kernel.__name__, *used)
