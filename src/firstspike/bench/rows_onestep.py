"""The row of the one-step network: what the walk over windows costs."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn import functional as F

from firstspike.bench.setting import Measured, Setting
from firstspike.onestep.network import OneStepNetwork
from firstspike.onestep.settings import WindowCarry

_LAYOUT, _BATCH = "16-F16-16-P64-64-F64-64-P128-128", 64


def windows(setting: Setting) -> Measured:
    """A training step by the printed rule with 2 x 2 windows, against one window and no carry."""
    ours = _step(WindowCarry())
    theirs = _step(replace(WindowCarry(), grid=1, carried="none"))
    note = f"{_LAYOUT} on 28 x 28, batch {_BATCH}, bfloat16, forward, backward and AdamW; no windows beside"
    return Measured(setting.compare(ours, theirs).scaled(1e3), note)


def _step(neuron: WindowCarry) -> Callable[[], None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = OneStepNetwork(_LAYOUT, (1, 28, 28), 10, neuron, head_size=7)
        images = torch.randint(0, 256, (_BATCH, 1, 28, 28)).to(torch.uint8)
    network.dtype = torch.bfloat16
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    labels = torch.arange(_BATCH) % 10

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step
