"""How well a one-step network decides, and every operation that it takes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.metrics.cost import ADD_PJ, MULTIPLY_ADD_PJ
from firstspike.onestep.network import (
    Connection,
    NormalisedLSTM,
    OneStepNetwork,
    Passed,
    Perceptron,
    SpikingLayer,
    WindowLSTM,
    spiking_layers,
)
from firstspike.onestep.settings import WindowCarry

# 45 nm, 0.9 V: M. Horowitz, "Computing's energy problem", ISSCC 2014.
MULTIPLY_PJ = 3.7
# A sine, exponential or the like as an odd polynomial of degree 9 in five multiply-adds; our own figure.
FUNCTION_PJ = 5 * MULTIPLY_ADD_PJ

RULE = "highest output of the head, a membrane; no spike decision"


@dataclass(frozen=True)
class Operations:
    """Mean operations per image.

    Attributes:
        additions: caused by spikes at their targets.
        multiply_adds: where a layer hears numbers, not spikes: the image, an LSTM's states, fractional
            spikes, rates at the head.
        carry_additions, carry_multiplies, carry_multiply_adds, carry_functions: of the membranes on their
            way through windows and layers, whether or not anything spikes. A function is a sine, a cosine
            or one of the exponential's family.
    """

    additions: float = 0.0
    multiply_adds: float = 0.0
    carry_additions: float = 0.0
    carry_multiplies: float = 0.0
    carry_multiply_adds: float = 0.0
    carry_functions: float = 0.0

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(*(a + b for a, b in zip(self._values(), other._values(), strict=True)))

    def over(self, count: int) -> "Operations":
        """Return the mean of a sum over so many images."""
        return Operations(*(value / count for value in self._values()))

    @property
    def paper_pj(self) -> float:
        """Energy as papers count it: the carry is free."""
        return self.additions * ADD_PJ + self.multiply_adds * MULTIPLY_ADD_PJ

    @property
    def energy_pj(self) -> float:
        """Energy of every operation."""
        return (
            self.paper_pj
            + self.carry_additions * ADD_PJ
            + self.carry_multiplies * MULTIPLY_PJ
            + self.carry_multiply_adds * MULTIPLY_ADD_PJ
            + self.carry_functions * FUNCTION_PJ
        )

    def _values(self) -> tuple[float, ...]:
        return (
            self.additions,
            self.multiply_adds,
            self.carry_additions,
            self.carry_multiplies,
            self.carry_multiply_adds,
            self.carry_functions,
        )


@dataclass(frozen=True)
class OneStepReport:
    """Accuracy and the mean cost of a decision.

    Attributes:
        count: images.
        accuracy: share decided rightly by the head's membranes.
        spikes: mean spikes per image.
        spikes_per_neuron: of all places of all layers; fractions count as such.
        spikes_per_neuron_by_layer: the same of each layer.
        operations: per image.
        dense_multiply_adds: of the ordinary network of the same layout.
    """

    count: int
    accuracy: float
    spikes: float
    spikes_per_neuron: float
    spikes_per_neuron_by_layer: tuple[float, ...]
    operations: Operations
    dense_multiply_adds: int

    def as_dict(self) -> dict[str, Any]:
        """Return the figures under the names that ``firstspike evaluate --json`` prints."""
        operations = self.operations
        return {
            "accuracy": self.accuracy,
            "decision_rule": RULE,
            "count": self.count,
            "steps_to_decision": 1,
            "spikes_to_decision": self.spikes,
            "spikes_per_neuron": self.spikes_per_neuron,
            "spikes_per_neuron_by_layer": list(self.spikes_per_neuron_by_layer),
            "synops": operations.additions,
            "multiply_adds": operations.multiply_adds,
            "carry": {
                "additions": operations.carry_additions,
                "multiplies": operations.carry_multiplies,
                "multiply_adds": operations.carry_multiply_adds,
                "functions": operations.carry_functions,
            },
            "energy_pj": operations.energy_pj,
            "energy_without_carry_pj": operations.paper_pj,
            "dense_multiply_adds": self.dense_multiply_adds,
            "dense_energy_pj": self.dense_multiply_adds * MULTIPLY_ADD_PJ,
            # The paper's rows add an addition to every multiply-add, which holds one already.
            "dense_energy_paper_pj": self.dense_multiply_adds * (MULTIPLY_ADD_PJ + ADD_PJ),
            "energy_constants_pj": {
                "add": ADD_PJ,
                "multiply": MULTIPLY_PJ,
                "multiply_add": MULTIPLY_ADD_PJ,
                "function": FUNCTION_PJ,
            },
        }


@torch.no_grad()
def one_step_report(
    network: OneStepNetwork, images: Tensor, labels: Tensor, batch_size: int = 250
) -> OneStepReport:
    """Return the report of a network on images; it is put into evaluation mode.

    Args:
        network: on any device.
        images: uint8 ``(samples, channels, y, x)``.
        labels: int64 ``(samples,)``.
        batch_size: samples at a time.

    Raises:
        ValueError: there are no samples.
    """
    if not len(labels):
        raise ValueError("there are no samples to report on")
    network.eval()
    device = network.head.weight.device
    layers = spiking_layers(network)
    counter = _Counter(network)
    fired = torch.zeros(len(layers), dtype=torch.float64)
    right = 0
    try:
        for part, part_labels in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            logits = network(part.to(device))
            right += int((logits.argmax(1).cpu() == part_labels).sum())
            fired += torch.tensor(counter.spikes, dtype=torch.float64)
    finally:
        counter.remove()
    count = len(labels)
    sizes = torch.tensor([float(size) for size in counter.sizes], dtype=torch.float64)
    return OneStepReport(
        count=count,
        accuracy=right / count,
        spikes=float(fired.sum()) / count,
        spikes_per_neuron=float(fired.sum() / count / sizes.sum()),
        spikes_per_neuron_by_layer=tuple((fired / count / sizes).tolist()),
        operations=counter.total.over(count),
        dense_multiply_adds=counter.dense,
    )


class _Counter:
    """Watches a network's layers and adds up their operations.

    Attributes:
        total: sum over all images seen.
        dense: multiply-adds of the ordinary network, per image.
        spikes, sizes: spikes of the last batch and number of places, layer by layer.
    """

    def __init__(self, network: OneStepNetwork) -> None:
        self.total, self.dense = Operations(), 0
        layers = spiking_layers(network)
        self.spikes, self.sizes = [0.0] * len(layers), [0] * len(layers)
        self._places = {id(layer): k for k, layer in enumerate(layers)}
        self._seen: dict[int, int] = {}
        watch: dict[type, Callable[..., None]] = {
            Connection: self._connection,
            WindowLSTM: self._lstm,
            NormalisedLSTM: self._normalisation,
            SpikingLayer: self._neurons,
            Perceptron: self._neurons,
            torch.nn.Linear: self._head,
        }
        self._hooks = [
            module.register_forward_hook(watch[type(module)])
            for module in network.modules()
            if type(module) in watch
        ]

    def remove(self) -> None:
        """Stop watching."""
        for hook in self._hooks:
            hook.remove()

    def _connection(self, module: Connection, inputs: tuple[Tensor], out: Tensor) -> None:
        self._dense(module, out[0].numel() * module.weight[0].numel())
        self._heard(inputs[0], len(module.weight), module.weight.shape[-1])
        # The shift that normalisation leaves.
        self.total += Operations(carry_additions=out.numel())

    def _lstm(self, module: WindowLSTM, inputs: tuple[Tensor], out: Tensor) -> None:
        maps, (width, channels) = inputs[0], module.recurrent_weight.shape
        places, windows = math.prod(module.grid.sides), len(module.grid.corners)
        recurrent = places * (windows - 1) * width * channels
        area = math.prod(module.grid.shape)
        self._dense(module, area * width * module.weight[0].numel() + recurrent)
        self._heard(maps, width, module.weight.shape[-1])
        visits = len(maps) * places * windows * channels
        self.total += Operations(
            multiply_adds=float(len(maps) * recurrent),
            carry_additions=float(len(maps) * area * width),
            carry_multiplies=2.0 * visits,
            carry_multiply_adds=float(visits),
            carry_functions=5.0 * visits,
        )

    def _normalisation(self, module: NormalisedLSTM, inputs: tuple[Tensor], out: Tensor) -> None:
        self.total += Operations(carry_multiply_adds=out.numel())

    def _neurons(self, module: SpikingLayer | Perceptron, inputs: tuple[Passed], out: Passed) -> None:
        place = self._places[id(module)]
        self.spikes[place] = float(out.spikes.sum(dtype=torch.float64))
        self.sizes[place] = out.spikes[0].numel()
        (heard,) = inputs
        additions = 0.0
        if isinstance(module, Perceptron) or module.shortcut:
            additions = float(heard.spikes.sum(dtype=torch.float64))
        grid = module.grid
        places = out.spikes.shape[0] * out.spikes.shape[1]
        visits = places * math.prod(grid.sides) * len(grid.corners)
        merged = visits - out.spikes.numel()
        before = heard.left is not None and heard.left.shape == out.spikes.shape
        per_visit = carry_operations(module.neuron, before=before, windows=len(grid.corners) > 1)
        self.total += Operations(additions=additions, carry_additions=float(merged))
        self.total += Operations(*(visits * value for value in per_visit._values()))

    def _head(self, module: torch.nn.Linear, inputs: tuple[Tensor], out: Tensor) -> None:
        # Adding up spikes to rates, then numbers times weights.
        self._dense(module, module.weight.numel())
        self.total += Operations(
            additions=self.spikes[-1], multiply_adds=float(len(out) * module.weight.numel())
        )

    def _dense(self, module: torch.nn.Module, count: int) -> None:
        if id(module) not in self._seen:
            self._seen[id(module)] = count
            self.dense += count

    def _heard(self, maps: Tensor, targets: int, kernel: int) -> None:
        """What the inputs of a convolution cause at its outputs."""
        reach = F.conv2d(
            torch.ones(1, 1, *maps.shape[2:], device=maps.device),
            torch.ones(1, 1, kernel, kernel, device=maps.device),
            padding=kernel // 2,
        )[0, 0]
        active = maps != 0
        events = float((active.sum(1).sum(0) * reach).sum(dtype=torch.float64)) * targets
        if bool((maps[active] == 1).all()):
            self.total += Operations(additions=events)
        else:
            self.total += Operations(multiply_adds=events)


def carry_operations(neuron: WindowCarry, *, before: bool, windows: bool) -> Operations:
    """Return the operations of one neuron in one window, apart from its inputs'.

    Args:
        neuron: what is carried.
        before: the previous layer has membranes of the same shape.
        windows: there are several windows.
    """
    window = windows and neuron.carried in ("both", "window")
    layer = before and neuron.carried in ("both", "layer")
    if not (window or layer):
        return Operations()
    # The reset of what is left, and the projection's weight and sum with the current.
    common = Operations(carry_additions=1, carry_multiply_adds=1)
    if neuron.projection in ("sine_window", "sine_layer"):
        if not (window if neuron.projection == "sine_window" else layer):
            # The sine of nothing is nothing.
            return Operations()
        both = window and layer
        return common + Operations(carry_multiplies=3 if both else 1, carry_functions=2 if both else 1)
    total = Operations(carry_additions=1.0 if window and layer else 0.0)
    functions = 1.0 if neuron.projection in ("sigmoid", "tanh") else 0.0
    return common + total + Operations(carry_functions=functions)
