"""The membranes watched at a few steps: the operations of `firstspike.kernels.cpu.levels`.

Forward, every sample's list of spikes falls into segments, one up to each level and one for the rest; a
tile of samples walks through them together and writes the running maximum at the end of each.

Shape legend: B batch, I inputs, O outputs, K levels, P parts of the batch.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from firstspike.kernels.cuda.levels_gradient import weights_of_membranes
from firstspike.kernels.cuda.lists import cut, options_for, sort_spikes

_BLOCK = 512


@triton.jit
def _forward(
    when,
    which,
    count,
    ends,
    weight,
    threshold,
    out,
    peak,
    batch,
    n_in,
    n_out,
    num_steps,
    n_level,
    SAMPLES: tl.constexpr,
    WIDE: tl.constexpr,
):
    columns = tl.program_id(0) * WIDE + tl.arange(0, WIDE)
    silent = num_steps.to(tl.float32)
    for tile in range(tl.program_id(1), tl.cdiv(batch, SAMPLES), tl.num_programs(1)):
        samples = (tile * SAMPLES + tl.arange(0, SAMPLES)).to(tl.int64)
        real = samples < batch
        inside = real[:, None] & (columns < n_out)[None, :]
        to = samples[:, None] * n_out + columns[None, :]
        limit = tl.load(threshold + to, mask=inside, other=float("inf"))
        spikes = tl.load(count + samples, mask=real, other=0)
        place = samples * n_in
        now = tl.load(when + place, mask=spikes > 0, other=silent)
        membrane = tl.zeros((SAMPLES, WIDE), tl.float32)
        highest = tl.full((SAMPLES, WIDE), float("-inf"), tl.float32)
        crossing = tl.full((SAMPLES, WIDE), silent, tl.float32)
        p = tl.zeros((SAMPLES,), tl.int32)
        for k in range(0, n_level + 1):
            end = tl.load(ends + samples * (n_level + 1) + k, mask=real, other=0)
            for _ in range(0, tl.max(end - p)):
                here = p < end
                row = tl.load(which + place + p, mask=here, other=0).to(tl.int64) * n_out
                seen = here[:, None] & inside
                membrane += tl.load(weight + row[:, None] + columns[None, :], mask=seen, other=0.0)
                p += here.to(tl.int32)
                following = tl.load(when + place + p, mask=p < spikes, other=silent)
                over = (here & (following != now))[:, None]
                fires = over & (membrane >= limit) & (crossing == silent)
                crossing = tl.where(fires, now[:, None], crossing)
                now = tl.where(here, following, now)
            if k < n_level:
                highest = tl.maximum(highest, membrane)
                level = (samples * n_level + k)[:, None] * n_out + columns[None, :]
                tl.store(peak + level, highest, mask=inside)
        tl.store(out + to, crossing, mask=inside)


@triton.jit
def _membrane_gradient(grad, peak, threshold, width, n_out, n_level, WIDE: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    inside = columns < n_out
    limit = tl.load(threshold + b * n_out + columns, mask=inside, other=0.0)
    inverse = 1 / tl.load(width)
    handed = tl.zeros((WIDE,), tl.float32)
    for back in range(0, n_level):
        k = n_level - 1 - back
        at = (b * n_level + k) * n_out + columns
        here = tl.load(peak + at, mask=inside, other=0.0)
        before = tl.load(peak + tl.where(k > 0, at - n_out, at), mask=inside, other=0.0)
        far = 1 + tl.abs(here - limit) * inverse
        value = tl.load(grad + at, mask=inside, other=0.0) / (far * far) + handed
        held = tl.where(k > 0, here == before, False)
        tl.store(grad + at, tl.where(held, 0.0, value), mask=inside)
        handed = tl.where(held, value, 0.0)


def forward(
    times_BI: Tensor, rows_IO: Tensor, threshold_BO: Tensor, levels_K: Tensor, num_steps: int
) -> tuple[Tensor, Tensor]:
    """Return first crossings ``(batch, out)`` and running maxima ``(batch, levels, out)``.

    Args:
        times_BI: integer steps, float32.
        rows_IO: weights, float32 ``(in_features, out_features)``.
        threshold_BO: float32, one threshold per sample and neuron.
        levels_K: ascending steps below `num_steps`, on any device.
        num_steps: ``T``; a neuron that never crosses has the time ``T``.
    """
    (batch, n_in), n_out, n_level = times_BI.shape, rows_IO.shape[1], len(levels_K)
    out = torch.full((batch, n_out), float(num_steps), device=times_BI.device)
    peak = rows_IO.new_zeros(batch, n_level, n_out)
    if out.numel() == 0 or n_in == 0:
        return out, peak
    lists = sort_spikes(times_BI, num_steps)
    # Spikes up to and including each level, and all of them.
    last = torch.cat([levels_K.to(lists.when), lists.when.new_full((1,), num_steps - 1)])
    ends = torch.searchsorted(lists.when, last.expand(batch, -1).contiguous(), right=True, out_int32=True)
    tiles = cut(batch, n_out)
    with torch.cuda.device_of(out):
        _forward[tiles.grid](
            *lists, ends, rows_IO.contiguous(), threshold_BO.contiguous(), out, peak,
            batch, n_in, n_out, num_steps, n_level, SAMPLES=tiles.rows, WIDE=tiles.columns, **tiles.options,
        )  # fmt: skip
    return out, peak


def membrane_gradient(grad_BKO: Tensor, peak_BKO: Tensor, threshold_BO: Tensor, width: float) -> Tensor:
    """Return the gradient of the membranes at the levels, from that of the cumulative spikes.

    Each is multiplied by ``1 / (1 + |M - theta| / width)^2`` and handed to the level at which the
    running maximum was reached.

    Args:
        grad_BKO: of the cumulative spikes ``(batch, levels, out)``, float32.
        peak_BKO, threshold_BO: of `forward`.
        width: of the surrogate.
    """
    batch, n_level, n_out = grad_BKO.shape
    grad = grad_BKO.clone(memory_format=torch.contiguous_format)
    if not grad.numel():
        return grad
    with torch.cuda.device_of(grad):
        _membrane_gradient[(batch, triton.cdiv(n_out, _BLOCK))](
            grad, peak_BKO.contiguous(), threshold_BO.contiguous(), grad.new_full((1,), width),
            n_out, n_level, WIDE=_BLOCK, **options_for(_BLOCK),
        )  # fmt: skip
    return grad


def weight_gradient(
    times_BI: Tensor,
    grad_BKO: Tensor,
    peak_BKO: Tensor,
    threshold_BO: Tensor,
    width: float,
    levels_K: Tensor,
    num_steps: int,
) -> Tensor:
    """Return ``dL/dw`` ``(in_features, out_features)``.

    Args:
        times_BI, levels_K, num_steps: as for `forward`.
        grad_BKO, peak_BKO, threshold_BO, width: as for `membrane_gradient`.
    """
    membrane = membrane_gradient(grad_BKO, peak_BKO, threshold_BO, width)
    return weights_of_membranes(times_BI, membrane, levels_K, num_steps)
