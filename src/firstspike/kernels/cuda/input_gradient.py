"""Input gradients: every input spike sums its row of weights times the masked output gradients.

One program per list and block of its spikes; a tile spikes x outputs is reduced over the outputs.

Shape legend: R lists, I inputs, O outputs, G groups; list r belongs to group ``r % G``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from firstspike.kernels.cuda.lists import Lists, options_for, power_of_two

_TILE = 2048
_WIDEST = 128


@triton.jit
def _gradient(
    when,
    which,
    count,
    weight,
    crossing,
    delta,
    grad,
    n_in,
    n_out,
    groups,
    SPIKES: tl.constexpr,
    WIDE: tl.constexpr,
):
    r = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * SPIKES + tl.arange(0, SPIKES)
    here = places < tl.load(count + r)
    time = tl.load(when + r * n_in + places, mask=here, other=0.0)[:, None]
    index = tl.load(which + r * n_in + places, mask=here, other=0)
    row = ((r % groups) * n_in + index) * n_out
    total = tl.zeros((SPIKES,), delta.dtype.element_ty)
    if tl.max(here.to(tl.int32)) > 0:
        for start in range(0, n_out, WIDE):
            columns = start + tl.arange(0, WIDE)
            inside = columns < n_out
            fired = tl.load(crossing + r * n_out + columns, mask=inside, other=0.0)[None, :]
            value = tl.load(delta + r * n_out + columns, mask=inside, other=0.0)[None, :]
            seen = here[:, None] & inside[None, :]
            weights = tl.load(weight + row[:, None] + columns[None, :], mask=seen, other=0.0)
            total += tl.sum(tl.where(seen & (time <= fired), weights * value, 0.0), 1)
    tl.store(grad + r * n_in + index, total, mask=here)


def input_gradient(lists: Lists, rows_GIO: Tensor, crossing_RO: Tensor, delta_RO: Tensor) -> Tensor:
    """Return ``dL/dt_i`` ``(R, I)``: masked gradients through the weights, Spiking-GAN Eq. 15.

    Args:
        lists: spikes ``(R, I)``; list r belongs to group ``r % G``.
        rows_GIO: weights ``(groups, inputs, outputs)``, contiguous.
        crossing_RO, delta_RO: crossings and output gradients of each list.
    """
    n_list, n_in = lists.when.shape
    groups, _, n_out = rows_GIO.shape
    grad = delta_RO.new_zeros(n_list, n_in)
    if grad.numel() == 0 or n_out == 0:
        return grad
    wide = min(_WIDEST, power_of_two(n_out))
    rows = min(_TILE // wide, power_of_two(n_in))
    with torch.cuda.device_of(grad):
        _gradient[(n_list, triton.cdiv(n_in, rows))](
            *lists, rows_GIO, crossing_RO, delta_RO, grad, n_in, n_out, groups,
            SPIKES=rows, WIDE=wide, **options_for(rows * wide),
        )  # fmt: skip
    return grad
