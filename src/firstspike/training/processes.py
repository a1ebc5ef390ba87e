"""Several processes that train one network, as ``torchrun`` starts them; alone, all of this is idle."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from firstspike.support import InputError


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the processes that ``torchrun`` started, if it did; see `asked_for`."""
    if asked_for() == 1 or distributed.is_initialized():
        yield
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def asked_for() -> int:
    """Return how many processes the environment says shall train together, 1 where it says nothing.

    Raises:
        InputError: what ``torchrun`` sets is there in part, or is no number.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        return 1
    missing = [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(n, "").strip()]
    if missing:
        raise InputError(
            f"WORLD_SIZE={size} is set without {', '.join(missing)}; unset it, or start the processes with "
            "torchrun"
        )
    _number("RANK", 0, size - 1)
    _number("MASTER_PORT", 0, 65_535)
    return size


def _number(name: str, low: int, high: int = 1_000_000) -> int:
    """The environment's variable `name`, which ``torchrun`` sets; `low` where it is empty."""
    text = os.environ.get(name, "").strip()
    if text and not (re.fullmatch("[0-9]{1,7}", text) and low <= int(text) <= high):
        raise InputError(
            f"{name}={text} is no integer of {low:,} ... {high:,}; unset it, or start the processes "
            "with torchrun"
        )
    return int(text or low)


def count_here() -> int:
    """Return how many processes train together on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1) if asked_for() > 1 else 1


def own_device(device: str) -> str:
    """Return the device of this process: under ``torchrun`` each has a GPU of its own."""
    return f"cuda:{_number('LOCAL_RANK', 0)}" if device == "cuda" and asked_for() > 1 else device


def count() -> int:
    """Return how many processes train together."""
    return (
        distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    )


def first() -> bool:
    """Return whether this process is the one that writes."""
    return count() == 1 or distributed.get_rank() == 0


def wait_for_all() -> None:
    """Return once every process has come here."""
    if count() > 1:
        distributed.barrier()


def share(batch: int) -> slice:
    """Return which of the samples of a batch are this process's: contiguous, sizes at most one apart."""
    parts = count()
    if parts == 1:
        return slice(0, batch)
    rank = distributed.get_rank()
    return slice(batch * rank // parts, batch * (rank + 1) // parts)


@contextmanager
def own_randomness(step: int) -> Iterator[None]:
    """Draw other random numbers than the other processes, and leave the shared course of them alone.

    So what every process draws, such as the images' changes, is what one alone would draw.

    Args:
        step: of those that begin at the same place of the shared course.
    """
    if count() == 1:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        drawn = int(torch.randint(2**62, ()))
        torch.manual_seed(drawn + step * count() + distributed.get_rank())
        yield


def sum_gradients(model: torch.nn.Module) -> None:
    """Replace every gradient by its sum over the processes."""
    if count() == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.reshape(gradient.shape))


def total(value: float) -> float:
    """Return the sum of a number over the processes."""
    if count() == 1:
        return value
    summed = torch.tensor(value, dtype=torch.float64)
    if distributed.get_backend() == "nccl":
        summed = summed.cuda()
    distributed.all_reduce(summed)
    return float(summed)
