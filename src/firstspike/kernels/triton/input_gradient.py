"""Input gradients: every input spike sums its row of weights times the masked output gradients.

One program per list and block of its spikes; a tile spikes x outputs is reduced over the outputs.

Shape legend: R lists, I inputs, O outputs, G groups; list r belongs to group ``r % G``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from firstspike.kernels.triton.lists import Lists, options_for, power_of_two, powers

_TILE = 2048
_WIDEST = 128


@triton.jit
def _gradient(  # type: ignore[no-untyped-def]
    when,
    which,
    count,
    weight,
    crossing,
    delta,
    power,
    grad,
    n_in,
    n_out,
    groups,
    hard: tl.constexpr,
    SPIKES: tl.constexpr,
    WIDE: tl.constexpr,
):
    r = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * SPIKES + tl.arange(0, SPIKES)
    # Under a soft mask a silent input counts as one at T, so that it can learn to fire.
    here = places < (tl.load(count + r) if hard else n_in)
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
            heard = here[:, None] & inside[None, :]
            weights = tl.load(weight + row[:, None] + columns[None, :], mask=heard, other=0.0)
            if hard:
                total += tl.sum(tl.where(heard & (time <= fired), weights * value, 0.0), 1)
            else:
                late = tl.maximum(time - fired, 0.0).to(tl.int32)
                mask = tl.load(power + late, mask=heard, other=0.0)
                total += tl.sum(weights * (value * mask), 1)
    tl.store(grad + r * n_in + index, total, mask=here)


def input_gradient(
    lists: Lists, weight_GIO: Tensor, crossing_RO: Tensor, delta_RO: Tensor, num_steps: int, decay: float
) -> Tensor:
    """Return ``dL/dt_i`` ``(R, I)``: masked gradients through the weights, Spiking-GAN Eq. 15.

    Args:
        lists: spikes ``(R, I)``; list r belongs to group ``r % G``.
        weight_GIO: ``(groups, inputs, outputs)``, contiguous.
        crossing_RO, delta_RO: crossings and output gradients of each list.
        num_steps: ``T``.
        decay: mask per step of lateness: 0 hard, between 0 and 1 soft.
    """
    n_list, n_in = lists.when.shape
    groups, _, n_out = weight_GIO.shape
    grad = delta_RO.new_zeros(n_list, n_in)
    if grad.numel() == 0 or n_out == 0:
        return grad
    wide = min(_WIDEST, power_of_two(n_out))
    rows = min(_TILE // wide, power_of_two(n_in))
    with torch.cuda.device_of(grad):
        _gradient[(n_list, triton.cdiv(n_in, rows))](
            *lists, weight_GIO, crossing_RO, delta_RO, powers(decay, num_steps, delta_RO), grad,
            n_in, n_out, groups, decay == 0,
            SPIKES=rows, WIDE=wide, **options_for(rows * wide),
        )  # fmt: skip
    return grad
