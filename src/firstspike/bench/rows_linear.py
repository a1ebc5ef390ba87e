"""Rows of the fully connected network 784-400-10 against the dense ReLU network of the same size."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.bench.harness import Pairs, Skipped
from firstspike.bench.network import (
    BATCH,
    SIZES,
    STEPS,
    batches,
    causal_loss,
    dense_loss,
    dense_network,
    training_step,
)
from firstspike.bench.setting import Measured, Setting
from firstspike.export.whole import integer
from firstspike.recipes import preset
from firstspike.recipes.shallow import ShallowRecipe, TargetLoss

MANY_STEPS = 4096


def forward(setting: Setting) -> Measured:
    """Forward of one batch, both without gradients."""
    model, dense = setting.workload.stack(), dense_network()
    ours, theirs = batches(setting.workload.spikes()), batches(pixels(setting))
    with torch.no_grad():
        pairs = setting.compare(lambda: model(*next(ours)), lambda: dense(*next(theirs)))
    return Measured(pairs.scaled(1e3), f"batch {BATCH}")


def integer_forward(setting: Setting) -> Measured:
    """Forward of one batch in integers of 8 bits, without gradients."""
    model, dense = integer(setting.workload.stack()), dense_network()
    ours, theirs = batches(setting.workload.spikes()), batches(pixels(setting))
    with torch.no_grad():
        pairs = setting.compare(lambda: model(*next(ours)), lambda: dense(*next(theirs)))
    return Measured(pairs.scaled(1e3), f"batch {BATCH}, weights of 8 bits, membranes of 16")


def train(setting: Setting) -> Measured:
    """Training step of the published rule."""
    step = training_step(model := setting.workload.stack(), causal_loss(model), spikes(setting))
    pairs = setting.compare(step, dense_step(setting))
    return Measured(pairs.scaled(1e3), f"batch {BATCH}, hard mask, L1 norm, aggressive targets")


def levels(setting: Setting) -> Measured:
    """Training step that the preset takes, through cumulative spikes at a few levels."""
    recipe = cast(ShallowRecipe, preset("aggressive-ttfs-causal").recipe)
    how, loss = recipe.levels, cast(TargetLoss, recipe.loss)
    assert how is not None
    model = setting.workload.stack()
    step = training_step(model, lambda times, labels: how.loss(model, times, labels, loss), spikes(setting))
    return Measured(
        setting.compare(step, dense_step(setting)).scaled(1e3),
        f"batch {BATCH}, the loss of the preset aggressive-ttfs-causal with plain SGD",
    )


def window(setting: Setting) -> Measured:
    """Training step of the window preset's layers, with the dense network's loss on their spike times."""
    recipe = cast(ShallowRecipe, preset("aggressive-ttfs-window").recipe)
    torch.manual_seed(0)
    model = recipe.build((1, 1, SIZES[0]), SIZES[2])
    data = batches(recipe.encode(setting.workload.images), setting.workload.labels)
    step = training_step(model, lambda spikes, labels: F.cross_entropy(-model(spikes).times, labels), data)
    return Measured(
        setting.compare(step, dense_step(setting)).scaled(1e3),
        f"batch {BATCH}, layers of the preset aggressive-ttfs-window, cross-entropy on both sides",
    )


def many_steps(setting: Setting) -> Measured:
    """Training step with 4,096 steps against the one with 256, of the same spikes."""
    sides = []
    for steps in (MANY_STEPS, STEPS):
        model = setting.workload.stack(steps)
        sides.append(training_step(model, causal_loss(model), spikes(setting, steps)))
    pairs = setting.compare(sides[0], sides[1])
    batch = memory_batches(setting)[0]
    peaks = [setting.peak(batch, steps) / 2**20 for steps in (MANY_STEPS, STEPS)]
    return Measured(
        pairs.scaled(1e3),
        f"ours: T = {MANY_STEPS}, theirs: T = {STEPS}, batch {BATCH}; peak memory of the process at "
        f"batch {batch}: {peaks[0]:.1f} and {peaks[1]:.1f} MiB, ratio {peaks[0] / peaks[1]:.3f}",
    )


def memory(setting: Setting) -> Measured:
    """Bytes per neuron and sample: the slope of the peak memory between two batch sizes."""
    small, large = memory_batches(setting)
    per_neuron = [bytes_per_neuron(setting, steps) for steps in (STEPS, MANY_STEPS)]
    # The input's own times are 4 bytes each, held before the step begins.
    without = (max(per_neuron) * sum(SIZES) - 4 * SIZES[0]) / sum(SIZES[1:])
    return Measured(
        Pairs((max(per_neuron),), (8.0,)),
        f"training step, batch {large} against {small}, all {sum(SIZES)} neurons with the input's; "
        f"T = {STEPS}: {per_neuron[0]:.2f}, T = {MANY_STEPS}: {per_neuron[1]:.2f}; per hidden and "
        f"output neuron, less the input's 4 bytes each: {without:.1f}; theirs is the target",
    )


def bytes_per_neuron(setting: Setting, steps: int) -> float:
    """Return bytes per neuron, the input's among them, and sample of our training step.

    Raises:
        Skipped: this system does not tell a process's peak memory.
    """
    try:
        import resource  # noqa: F401
    except ImportError:
        raise Skipped("this system does not tell a process's peak memory; use Linux or macOS") from None
    small, large = memory_batches(setting)
    grown = setting.peak(large, steps) - setting.peak(small, steps)
    return grown / (large - small) / sum(SIZES)


def memory_batches(setting: Setting) -> tuple[int, int]:
    """Return the two batch sizes between which the peak memory is compared."""
    return (4096, 8192) if setting.quick else (4096, 16384)


def spikes(setting: Setting, steps: int = STEPS) -> Iterator[tuple[Any, ...]]:
    """Return the batches of spike times and labels."""
    return batches(setting.workload.spikes(steps), setting.workload.labels)


def pixels(setting: Setting) -> Tensor:
    """Return the images as the dense network takes them, 0 ... 1, ``(5120, 784)``."""
    return setting.workload.images.flatten(1).to(torch.float32) / 255


def dense_step(setting: Setting) -> Callable[[], None]:
    """Return the training step of the dense network on the same images."""
    dense = dense_network()
    return training_step(dense, dense_loss(dense), batches(pixels(setting), setting.workload.labels))
