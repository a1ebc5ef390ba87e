"""Randomness from one seed, so that an epoch can be repeated alone."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, *parts: int | str) -> Iterator[None]:
    """Make torch's global random state a function of `seed` and `parts` inside the block.

    The state outside is put back at the end. A training loop enters it anew for each epoch, so a
    resumed run draws the same numbers as an uninterrupted one without storing a random state.
    """
    text = "/".join(str(part) for part in (seed, *parts))
    mixed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mixed)
        yield
