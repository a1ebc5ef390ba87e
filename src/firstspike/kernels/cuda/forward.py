"""First crossings: every list of input spikes walks once through the rows of its weights.

A program holds a tile of membranes, lists x outputs, in registers, and adds one row of weights per list and
spike: a coalesced read, and silent inputs cost nothing. It takes tile after tile for the same outputs, so
that their weights (784 x 64 x 4 bytes = 200 kB) stay in the multiprocessor's own cache.

Shape legend: R lists, I inputs, O outputs, G groups; list r belongs to group ``r % G``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from firstspike.kernels.cuda.lists import Lists, cut

_GROUPS = tl.constexpr(4)


@triton.jit
def _end_step(membrane, crossing, limit, now, following):
    """Look at the membranes if the step is over: until then its negative weights may be missing."""
    over = (following != now)[:, None]
    fires = over & (membrane >= limit)
    return tl.where(fires, tl.minimum(crossing, now[:, None]), crossing)


@triton.jit
def _forward(
    when,
    which,
    count,
    weight,
    threshold,
    out,
    n_list,
    n_in,
    n_out,
    groups,
    num_steps,
    LISTS: tl.constexpr,
    WIDE: tl.constexpr,
):
    columns = tl.program_id(0) * WIDE + tl.arange(0, WIDE)
    inside = (columns < n_out)[None, :]
    limit = tl.load(threshold)
    silent = num_steps.to(tl.float32)
    for tile in range(tl.program_id(1), tl.cdiv(n_list, LISTS), tl.num_programs(1)):
        lists = tile * LISTS + tl.arange(0, LISTS)
        spikes = tl.load(count + lists, mask=lists < n_list, other=0)
        time = when + lists.to(tl.int64) * n_in
        index = which + lists.to(tl.int64) * n_in
        rows = weight + ((lists % groups).to(tl.int64) * n_in * n_out)[:, None] + columns[None, :]
        now = tl.load(time, mask=spikes > 0, other=silent)
        membrane = tl.zeros((LISTS, WIDE), weight.dtype.element_ty)
        crossing = tl.full((LISTS, WIDE), silent, tl.float32)
        p = 0
        while tl.max(spikes) > p:
            for _ in tl.static_range(_GROUPS):
                # Four spikes at a time, all loads first, so that their latencies overlap.
                here0, here1, here2 = p < spikes, p + 1 < spikes, p + 2 < spikes
                here3, here4 = p + 3 < spikes, p + 4 < spikes
                at0 = tl.load(index + p, mask=here0, other=0).to(tl.int64) * n_out
                at1 = tl.load(index + p + 1, mask=here1, other=0).to(tl.int64) * n_out
                at2 = tl.load(index + p + 2, mask=here2, other=0).to(tl.int64) * n_out
                at3 = tl.load(index + p + 3, mask=here3, other=0).to(tl.int64) * n_out
                time1 = tl.load(time + p + 1, mask=here1, other=silent)
                time2 = tl.load(time + p + 2, mask=here2, other=silent)
                time3 = tl.load(time + p + 3, mask=here3, other=silent)
                time4 = tl.load(time + p + 4, mask=here4, other=silent)
                row0 = tl.load(rows + at0[:, None], mask=here0[:, None] & inside, other=0.0)
                row1 = tl.load(rows + at1[:, None], mask=here1[:, None] & inside, other=0.0)
                row2 = tl.load(rows + at2[:, None], mask=here2[:, None] & inside, other=0.0)
                row3 = tl.load(rows + at3[:, None], mask=here3[:, None] & inside, other=0.0)
                membrane += row0
                crossing = _end_step(membrane, crossing, limit, now, time1)
                membrane += row1
                crossing = _end_step(membrane, crossing, limit, time1, time2)
                membrane += row2
                crossing = _end_step(membrane, crossing, limit, time2, time3)
                membrane += row3
                crossing = _end_step(membrane, crossing, limit, time3, time4)
                now = time4
                p += 4
            # A list whose outputs here have all fired is over.
            waits = tl.max(((crossing == silent) & inside).to(tl.int32), 1)
            spikes = tl.where(waits > 0, spikes, 0)
        to = lists.to(tl.int64)[:, None] * n_out + columns[None, :]
        real = (lists < n_list)[:, None] & inside
        tl.store(out + to, crossing, mask=real)


def first_crossings(lists: Lists, rows_GIO: Tensor, threshold: float, num_steps: int) -> Tensor:
    """Return the first crossing ``V >= threshold`` of every output for every list, float32 ``(R, O)``.

    Args:
        lists: spikes ``(R, I)``; list r belongs to group ``r % G``.
        rows_GIO: weights ``(groups, inputs, outputs)``, contiguous, float32 or float64.
        threshold: in the weights' precision.
        num_steps: ``T``, the time of an output that never crosses.
    """
    n_list, n_in = lists.when.shape
    groups, _, n_out = rows_GIO.shape
    out = torch.full((n_list, n_out), float(num_steps), device=rows_GIO.device)
    if out.numel() == 0 or n_in == 0:
        return out
    tiles = cut(n_list, n_out)
    # As a tensor, since Triton hands a Python float over in single precision.
    limit = rows_GIO.new_full((1,), threshold)
    with torch.cuda.device_of(out):
        _forward[tiles.grid](
            *lists, rows_GIO, limit, out, n_list, n_in, n_out, groups, num_steps,
            LISTS=tiles.rows, WIDE=tiles.columns, **tiles.options,
        )  # fmt: skip
    return out
