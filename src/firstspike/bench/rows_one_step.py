"""The row of the one-step network: what the walk over patches costs."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn import functional as F

from firstspike.bench.setting import Measured, Setting
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.settings import PatchCarry

_LAYOUT, _BATCH = "16C3-D-16C3-64G-64C3-D-64C3-128G-128C3", 64


def patches(setting: Setting) -> Measured:
    """A training step by the printed rule with 2 x 2 patches, against one patch and no carry."""
    ours = _step(PatchCarry())
    theirs = _step(replace(PatchCarry(), grid=1, carried="none"))
    note = f"{_LAYOUT} on 28 x 28, batch {_BATCH}, bfloat16, forward, backward and AdamW"
    return Measured(setting.compare(ours, theirs).scaled(1e3), note)


def _step(neuron: PatchCarry) -> Callable[[], None]:
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
