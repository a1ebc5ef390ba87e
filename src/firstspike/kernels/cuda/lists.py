"""Lists of spikes in the order of time, and how programs share the work on them.

Shape legend: R lists, N places in a list.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

# Elements of a tile and of a thread: a thread reads 16 bytes at a time, half a warp a row of 64 columns.
_TILE = 2048
_THREAD = 4
_WIDEST = 64
_FEWEST_ROWS = 8
# One program per multiprocessor of the largest Hopper.
_PROGRAMS = 132


class Lists(NamedTuple):
    """Each row's spikes by time and then by place, and after them its silent places.

    Attributes:
        when: step of each spike, float32 ``(R, N)``.
        which: its place in the row before sorting, int32 ``(R, N)``.
        spikes: how many each row has, int32 ``(R,)``.
    """

    when: Tensor
    which: Tensor
    spikes: Tensor


def sort_spikes(times_RN: Tensor, num_steps: int) -> Lists:
    """Return the spikes of each row in the order of time, equal times in the order of places."""
    # A sort keeps the strides of a transposed input, and the kernels read rows. Short keys sort faster.
    keys = times_RN.contiguous()
    if num_steps <= torch.iinfo(torch.int16).max:
        keys = keys.to(torch.int16)
    when, which = keys.sort(dim=-1, stable=True)
    spikes = (keys < num_steps).sum(-1, dtype=torch.int32)
    return Lists(when.to(torch.float32), which.to(torch.int32), spikes)


class Tiles(NamedTuple):
    """How a result of rows x columns is cut into tiles, and how programs share them.

    Attributes:
        rows, columns: of a tile, powers of two.
        grid: blocks of columns, and programs that share the tiles of one. Few programs that take many
            tiles keep what belongs to their columns in the cache next to them.
        options: for the launch.
    """

    rows: int
    columns: int
    grid: tuple[int, int]
    options: dict[str, Any]


def cut(rows: int, columns: int, copies: int = 1) -> Tiles:
    """Return the tiles for a result of ``rows x columns``, of which `copies` are made at once."""
    wide = min(_WIDEST, power_of_two(columns))
    blocks = -(-columns // wide)
    share = -(-rows * blocks * copies // _PROGRAMS)
    high = min(_TILE // wide, power_of_two(rows), max(_FEWEST_ROWS, power_of_two(share)))
    programs = max(1, min(-(-rows // high), _PROGRAMS // (blocks * copies)))
    return Tiles(high, wide, (blocks, programs), options_for(high * wide))


def options_for(elements: int) -> dict[str, Any]:
    """Return the launch options of a program that holds so many elements."""
    # A product and a sum must not become one rounding, in any version of Triton.
    return {"num_warps": max(1, min(16, elements // (32 * _THREAD))), "enable_fp_fusion": False}


def power_of_two(size: int) -> int:
    """Return the smallest power of two that is not below `size`."""
    return 1 << max(size - 1, 0).bit_length()
