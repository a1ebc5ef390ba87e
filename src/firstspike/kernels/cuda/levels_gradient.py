"""Weight gradients of membranes watched at levels: a spike collects all levels at or after it.

First the membrane gradients are summed from the last level backwards. Then every input walks through the
samples in which it spiked, and adds the sum at the first level that is not before its spike.

Shape legend: B batch, I inputs, O outputs, K levels, P parts of the batch.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from firstspike.kernels.cuda.lists import cut, options_for
from firstspike.kernels.cuda.weight_gradient import lists_by_input

_UNROLL = tl.constexpr(4)
_BLOCK = 512


@triton.jit
def _sum_later(grad, later, n_out, n_level, WIDE: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    inside = columns < n_out
    total = tl.zeros((WIDE,), tl.float32)
    for back in range(0, n_level):
        at = (b * n_level + n_level - 1 - back) * n_out + columns
        total += tl.load(grad + at, mask=inside, other=0.0)
        tl.store(later + at, total, mask=inside)


@triton.jit
def _weight_gradient(
    level,
    which,
    count,
    later,
    grad,
    n_in,
    length,
    n_out,
    n_level,
    INPUTS: tl.constexpr,
    WIDE: tl.constexpr,
):
    columns = tl.program_id(0) * WIDE + tl.arange(0, WIDE)
    inside = columns < n_out
    part = tl.program_id(2).to(tl.int64)
    for tile in range(tl.program_id(1), tl.cdiv(n_in, INPUTS), tl.num_programs(1)):
        inputs = tile * INPUTS + tl.arange(0, INPUTS)
        spikes = tl.load(count + part * n_in + inputs, mask=inputs < n_in, other=0)
        place = (part * n_in + inputs) * length
        total = tl.zeros((INPUTS, WIDE), tl.float32)
        longest = tl.max(spikes)
        p = 0
        while p < longest:
            for _ in tl.static_range(_UNROLL):
                here = p < spikes
                k = tl.load(level + place + p, mask=here, other=0)
                sample = part * length + tl.load(which + place + p, mask=here, other=0)
                at = ((sample * n_level + k) * n_out)[:, None] + columns[None, :]
                total += tl.load(later + at, mask=here[:, None] & inside[None, :], other=0.0)
                p += 1
        to = (part * n_in + inputs)[:, None] * n_out + columns[None, :]
        tl.store(grad + to, total, mask=(inputs < n_in)[:, None] & inside[None, :])


def weights_of_membranes(times_BI: Tensor, grad_BKO: Tensor, levels_K: Tensor, num_steps: int) -> Tensor:
    """Return ``dL/dw`` ``(in_features, out_features)``.

    Args:
        times_BI: integer steps, float32.
        grad_BKO: gradient of the membranes at the levels, float32.
        levels_K: ascending steps below `num_steps`, on any device.
        num_steps: ``T``.
    """
    (batch, n_in), (n_level, n_out) = times_BI.shape, grad_BKO.shape[1:]
    if grad_BKO.numel() == 0 or n_in == 0:
        return grad_BKO.new_zeros(n_in, n_out)
    grad_BKO = grad_BKO.contiguous()
    later = torch.empty_like(grad_BKO)
    # A spike after the last level is seen by none, as if it were silent.
    lists, parts, length = lists_by_input(times_BI, int(levels_K[-1]) + 1)
    level = torch.searchsorted(levels_K.to(lists.when), lists.when, out_int32=True)
    grad = grad_BKO.new_empty(parts, n_in, n_out)
    tiles = cut(n_in, n_out, parts)
    with torch.cuda.device_of(grad):
        _sum_later[(batch, triton.cdiv(n_out, _BLOCK))](
            grad_BKO, later, n_out, n_level, WIDE=_BLOCK, **options_for(_BLOCK)
        )
        _weight_gradient[(*tiles.grid, parts)](
            level, lists.which, lists.spikes, later, grad, n_in, length, n_out, n_level,
            INPUTS=tiles.rows, WIDE=tiles.columns, **tiles.options,
        )  # fmt: skip
    return grad[0] if parts == 1 else grad.sum(0)
