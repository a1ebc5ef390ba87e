"""Weight gradients: every input collects the output gradients of the samples in which it spiked.

The forward walk turned round. A program holds a tile of gradients, inputs x outputs, in registers, and
walks through the samples in which each input spiked. Samples are split into parts, so that the times and
gradients of one part (256 x 64 x 8 bytes = 131 kB) stay in the multiprocessor's own cache; the parts are
summed at the end, in order.

Shape legend: R samples, I inputs, O outputs, G groups, P parts; input i belongs to group ``i // (I / G)``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from firstspike.kernels.cuda.lists import Lists, cut, sort_spikes

_PART = 256
_MOST_PARTS = 64


@triton.jit
def _masked(delta, crossing, at, time, seen):
    """Return what an input at `time` sees of the gradients `at` of its samples."""
    fired = tl.load(crossing + at, mask=seen, other=0.0)
    value = tl.load(delta + at, mask=seen, other=0.0)
    return tl.where(time[:, None] <= fired, value, 0.0)


@triton.jit
def _gradient(
    when,
    which,
    count,
    crossing,
    delta,
    grad,
    n_in,
    n_per_group,
    length,
    n_out,
    groups,
    INPUTS: tl.constexpr,
    WIDE: tl.constexpr,
):
    columns = tl.program_id(0) * WIDE + tl.arange(0, WIDE)
    inside = (columns < n_out)[None, :]
    part = tl.program_id(2).to(tl.int64)
    stride = groups * n_out
    for tile in range(tl.program_id(1), tl.cdiv(n_in, INPUTS), tl.num_programs(1)):
        inputs = tile * INPUTS + tl.arange(0, INPUTS)
        spikes = tl.load(count + part * n_in + inputs, mask=inputs < n_in, other=0)
        time = when + (part * n_in + inputs) * length
        index = which + (part * n_in + inputs) * length
        start = ((part * length * groups + inputs // n_per_group) * n_out)[:, None] + columns[None, :]
        total = tl.zeros((INPUTS, WIDE), delta.dtype.element_ty)
        longest = tl.max(spikes)
        p = 0
        while p < longest:
            # Two spikes at a time, all loads first, so that their latencies overlap.
            here0, here1 = p < spikes, p + 1 < spikes
            at0 = tl.load(index + p, mask=here0, other=0).to(tl.int64) * stride
            at1 = tl.load(index + p + 1, mask=here1, other=0).to(tl.int64) * stride
            time0 = tl.load(time + p, mask=here0, other=0.0)
            time1 = tl.load(time + p + 1, mask=here1, other=0.0)
            seen0, seen1 = here0[:, None] & inside, here1[:, None] & inside
            part0 = _masked(delta, crossing, start + at0[:, None], time0, seen0)
            part1 = _masked(delta, crossing, start + at1[:, None], time1, seen1)
            total -= part0
            total -= part1
            p += 2
        to = (part * n_in + inputs)[:, None] * n_out + columns[None, :]
        tl.store(grad + to, total, mask=(inputs < n_in)[:, None] & inside)


def lists_by_input(times_RI: Tensor, num_steps: int) -> tuple[Lists, int, int]:
    """Return the samples in which each input spiked, the number of parts, and samples per part.

    The lists' rows are ``(parts x inputs)``; `which` counts from the first sample of the part.
    """
    n_sample, n_in = times_RI.shape
    length = max(_PART, -(-n_sample // _MOST_PARTS))
    length = min(length, n_sample)
    parts = -(-n_sample // length)
    missing = parts * length - n_sample
    filled = torch.nn.functional.pad(times_RI, (0, 0, 0, missing), value=float(num_steps))
    by_input = filled.reshape(parts, length, n_in).transpose(1, 2).reshape(parts * n_in, length)
    return sort_spikes(by_input, num_steps), parts, length


def weight_gradient(times_RI: Tensor, crossing_RGO: Tensor, delta_RGO: Tensor, num_steps: int) -> Tensor:
    """Return ``dL/dw`` ``(I, O)``: minus the sum of masked gradients, Spiking-GAN Eq. 14.

    Args:
        times_RI: integer steps; the inputs of all groups, group by group.
        crossing_RGO, delta_RGO: crossings and output gradients ``(samples, groups, outputs)``.
        num_steps: ``T``; an input at ``T`` is silent and adds nothing.
    """
    n_sample, n_in = times_RI.shape
    groups, n_out = delta_RGO.shape[1:]
    if n_sample == 0 or n_in == 0 or n_out == 0:
        return delta_RGO.new_zeros(n_in, n_out)
    lists, parts, length = lists_by_input(times_RI, num_steps)
    grad = delta_RGO.new_empty(parts, n_in, n_out)
    tiles = cut(n_in, n_out, parts)
    with torch.cuda.device_of(grad):
        _gradient[(*tiles.grid, parts)](
            *lists, crossing_RGO, delta_RGO, grad, n_in, n_in // groups, length, n_out, groups,
            INPUTS=tiles.rows, WIDE=tiles.columns, **tiles.options,
        )  # fmt: skip
    return grad[0] if parts == 1 else grad.sum(0)
