"""How well a one-step network decides, and every operation that it takes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from firstspike.metrics.cost import ADD_PJ, MULTIPLY_ADD_PJ
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.operations import Operations

# 45 nm, 0.9 V: M. Horowitz, "Computing's energy problem", ISSCC 2014.
MULTIPLY_PJ = 3.7
# A sine, exponential or the like as an odd polynomial of degree 9 in five multiply-adds; our own figure.
FUNCTION_PJ = 5 * MULTIPLY_ADD_PJ

RULE = "highest output of the head, a membrane; no spike decision"


def inputs_pj(operations: Operations) -> float:
    """Return the energy of what inputs cause, which is what papers count."""
    return operations.additions * ADD_PJ + operations.multiply_adds * MULTIPLY_ADD_PJ


def energy_pj(operations: Operations) -> float:
    """Return the energy of every operation."""
    return (
        inputs_pj(operations)
        + operations.neuron_additions * ADD_PJ
        + operations.neuron_multiplies * MULTIPLY_PJ
        + operations.neuron_multiply_adds * MULTIPLY_ADD_PJ
        + operations.neuron_functions * FUNCTION_PJ
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
        operations: mean per image.
    """

    count: int
    accuracy: float
    spikes: float
    spikes_per_neuron: float
    spikes_per_neuron_by_layer: tuple[float, ...]
    operations: Operations

    def as_dict(self) -> dict[str, Any]:
        """Return the figures under the names that ``firstspike evaluate --json`` prints."""
        operations = self.operations
        dense = round(operations.dense_multiply_adds)
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
            "neuron_operations": {
                "additions": operations.neuron_additions,
                "multiplies": operations.neuron_multiplies,
                "multiply_adds": operations.neuron_multiply_adds,
                "functions": operations.neuron_functions,
            },
            "energy_pj": energy_pj(operations),
            "energy_of_inputs_pj": inputs_pj(operations),
            "dense_multiply_adds": dense,
            "dense_energy_pj": dense * MULTIPLY_ADD_PJ,
            # The paper's rows add an addition to every multiply-add, which holds one already.
            "dense_energy_paper_pj": dense * (MULTIPLY_ADD_PJ + ADD_PJ),
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
        images: ``(samples, channels, y, x)``.
        labels: int64 ``(samples,)``.
        batch_size: samples at a time.

    Raises:
        ValueError: there are no samples.
    """
    if not len(labels):
        raise ValueError("there are no samples to report on")
    network.eval()
    device = network.head.weight.device
    total = Operations()
    fired: list[Tensor] = []
    sizes: list[int] = []
    right = 0
    for part, part_labels in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        spikes = []
        for layer, received, out in network.each_layer(part.to(device)):
            total += layer.operations(received, out)
            spikes.append(out.spikes)
        right += int((network.head(spikes[-1]).argmax(1).cpu() == part_labels).sum())
        total += network.head.operations(out)
        fired.append(torch.stack([layer.sum(dtype=torch.float64) for layer in spikes]).cpu())
        sizes = [layer[0].numel() for layer in spikes]
    count = len(labels)
    per_layer = torch.stack(fired).sum(0) / count
    return OneStepReport(
        count=count,
        accuracy=right / count,
        spikes=float(per_layer.sum()),
        spikes_per_neuron=float(per_layer.sum() / sum(sizes)),
        spikes_per_neuron_by_layer=tuple((per_layer / torch.tensor(sizes)).tolist()),
        operations=total.times(1 / count),
    )
