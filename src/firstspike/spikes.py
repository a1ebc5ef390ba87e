"""Spike times: the native activation of every firstspike network.

A neuron that spikes at most once is described by one number per sample, its spike time. Times are
batch first, whole numbers ``0 ... T-1`` where ``T`` is ``num_steps``, and **``T`` means silent**,
everywhere. They are stored as floating point so that gradients can flow through them.
"""

import torch
from torch import Tensor

from firstspike.support import MAX_NUM_STEPS, check_num_steps

__all__ = ["MAX_NUM_STEPS", "check_num_steps", "check_times", "raster_to_times", "times_to_raster"]


def check_times(times: Tensor, num_steps: int, *, name: str = "times") -> Tensor:
    """Return `times` unchanged after checking that they are whole numbers in ``0 ... num_steps``.

    Args:
        times: spike times in steps, any shape; ``num_steps`` means silent.
        num_steps: length of the window in steps, ``T``.
        name: how the error message calls the tensor.

    Raises:
        TypeError: `times` is not a tensor of numbers.
        ValueError: a time is NaN, not whole, negative or above ``num_steps``.
    """
    if not isinstance(times, Tensor) or times.is_complex() or times.dtype == torch.bool:
        found = times.dtype if isinstance(times, Tensor) else type(times).__name__
        raise TypeError(f"{name} must be a tensor of spike times in steps, found {found}")
    if times.numel() == 0:
        return times
    detached = times.detach()
    if detached.dtype in (torch.uint16, torch.uint32, torch.uint64):
        # Torch has no minimum of these.
        detached = detached.to(torch.int64)
    # Python numbers: a bound that a narrow integer type cannot hold would wrap around in it.
    low, high = (float(bound) for bound in torch.aminmax(detached))
    if low >= 0 and high <= num_steps and torch.equal(detached, torch.floor(detached)):
        return times
    if torch.isnan(detached).any():
        raise ValueError(f"{name} holds NaN; spike times are whole steps 0 ... {num_steps}")
    broken = detached[detached != torch.floor(detached)]
    if broken.numel():
        raise ValueError(f"{name} must be whole steps, found {float(broken[0])}")
    raise ValueError(
        f"{name} must lie in 0 ... {num_steps} (num_steps means silent), found {low if low < 0 else high}"
    )


def times_to_raster(times: Tensor, num_steps: int) -> Tensor:
    """Return the raster of `times`: 1 where and when a neuron spikes, else 0.

    Args:
        times: whole steps ``(batch, ...)`` in ``0 ... num_steps``.
        num_steps: ``T``.

    Returns:
        float32 ``(num_steps, batch, ...)``, time first. A silent neuron's column is all zero.
    """
    check_times(times, num_steps)
    steps = torch.arange(num_steps, device=times.device).reshape(-1, *([1] * times.dim()))
    return (times.unsqueeze(0) == steps).to(torch.float32)


def raster_to_times(raster: Tensor) -> Tensor:
    """Return the time of the one spike of each neuron, ``T`` where there is none.

    Args:
        raster: ``(num_steps, batch, ...)``, values 0 or 1, at most one 1 along time.

    Returns:
        float32 ``(batch, ...)``.

    Raises:
        ValueError: a value is neither 0 nor 1, or a neuron spikes more than once.
    """
    if raster.dim() < 1:
        raise ValueError("raster must have a time axis first, found a scalar")
    if not ((raster == 0) | (raster == 1)).all():
        raise ValueError("raster must hold only 0 and 1")
    spikes = raster.to(torch.float32)
    counts = spikes.sum(0)
    if (counts > 1).any():
        raise ValueError(f"raster holds a neuron with {int(counts.max())} spikes; at most one is allowed")
    num_steps = raster.shape[0]
    steps = torch.arange(num_steps, dtype=torch.float32, device=raster.device)
    first = torch.tensordot(steps, spikes, dims=([0], [0]))
    return torch.where(counts > 0, first, torch.full_like(first, num_steps))
