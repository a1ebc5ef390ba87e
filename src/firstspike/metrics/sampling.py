"""Images from a trained generator, with the spikes that they took."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from firstspike.metrics.cost import energy, spikes_per_layer, synaptic_operations
from firstspike.models.conv_gan import ConvGenerator
from firstspike.models.gan import AnnGenerator, SpikingGenerator
from firstspike.support import InputError

Generator = SpikingGenerator | AnnGenerator | ConvGenerator

_SEED = 1


@dataclass(frozen=True)
class Samples:
    """Generated images.

    Attributes:
        images: uint8 ``(count, height, width)``, of colour ``(count, 3, height, width)``.
        labels: int64 ``(count,)``, the class asked for, -1 where unconditional.
        spikes: int64 ``(count, layers + 1)``, spikes of the noise and of each layer; empty along the
            layers for an ANN.
        synops: float32 ``(count,)``, synaptic operations of each image, 0 for an ANN.
    """

    images: Tensor
    labels: Tensor
    spikes: Tensor
    synops: Tensor


@torch.no_grad()
def sample(generator: Generator, count: int, seed: int = 0, label: int | None = None) -> Samples:
    """Return `count` samples; the noise is a function of `seed`.

    Args:
        generator: spiking or an ANN.
        count: number of images.
        seed: of the noise.
        label: class for a conditional generator; None takes all classes in turn.

    Raises:
        InputError: a label for an unconditional generator, or one that does not exist.
    """
    classes = generator.num_classes
    if label is not None and not classes:
        raise InputError("this generator takes no label; leave out --label")
    if label is not None and not 0 <= label < classes:
        raise InputError(f"--label must be 0 ... {classes - 1}, found {label}")
    source = torch.Generator().manual_seed(seed)
    noise: Any = generator.noise(count, source)
    asked = torch.arange(count) % classes if classes and label is None else torch.full((count,), label or 0)
    labels = asked if classes else None
    images, spikes, synops = [], [], []
    for start in range(0, count, 1000):
        part = slice(start, start + 1000)
        part_labels = None if labels is None else labels[part]
        if isinstance(generator, SpikingGenerator):
            traced = generator.trace(noise[part], part_labels)
            images.append(generator.images(traced[-1]))
            spikes.append(spikes_per_layer(generator.stack, traced).to(torch.int64))
            synops.append(synaptic_operations(generator.stack, traced, until_decision=False))
        else:
            images.append(generator.images(generator(noise[part], part_labels)))
            spikes.append(torch.empty((len(images[-1]), 0), dtype=torch.int64))
            synops.append(torch.zeros(len(images[-1])))
    return Samples(
        torch.cat(images),
        torch.full((count,), -1) if labels is None else labels,
        torch.cat(spikes),
        torch.cat(synops),
    )


@torch.no_grad()
def generation_cost(generator: Generator, samples: Samples) -> dict[str, Any]:
    """Return spikes, steps and energy per image of `samples` by `generator`; empty for an ANN."""
    if not isinstance(generator, SpikingGenerator):
        return {}
    stack = generator.stack
    spikes = samples.spikes.to(torch.float32)
    neurons = torch.tensor([float(math.prod(shape)) for shape in stack.shapes(generator.in_shape)])
    per_neuron = spikes / neurons
    cost = energy(stack, float(samples.synops.mean()), generator.in_shape)
    return {
        "spikes_per_image": float(spikes.sum(1).mean()),
        "spikes_per_neuron": float(spikes.sum(1).mean() / neurons.sum()),
        "spikes_per_image_by_layer": spikes.mean(0).tolist(),
        "active_share_max": float(per_neuron.max()),
        "stepped_agreement": stepped_agreement(generator),
        "steps_per_image": stack.last_step,
        "synops": cost.synops,
        "membrane_updates": cost.updates,
        "energy_pj": cost.spiking_pj,
        "dense_energy_pj": cost.dense_pj,
    }


def stepped_agreement(generator: SpikingGenerator, count: int = 4) -> float:
    """Return the share of spike times that a step-by-step simulation of `count` images gives too.

    `Neuron.simulate` fires a neuron once and then holds it, step by step, in float64. The rest, if any, are
    membranes within rounding of a step's boundary.
    """
    source = torch.Generator().manual_seed(_SEED)
    labels = torch.arange(count) % generator.num_classes if generator.num_classes else None
    traced = generator.trace(generator.noise(count, source), labels)
    exact = copy.deepcopy(generator.stack).double()
    equal = total = 0
    for layer, sources, outputs in zip(exact, exact.sources, traced[1:], strict=True):
        equal += int((layer.simulate(*(traced[s] for s in sources)).times == outputs.times).sum())
        total += outputs.times.numel()
    return equal / total
