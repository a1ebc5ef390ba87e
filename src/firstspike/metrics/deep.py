"""How well and how cheaply a deep network decides, measured on its layers of spike times."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from firstspike.decision import STRICT
from firstspike.metrics.cost import (
    ADD_PJ,
    MULTIPLY_ADD_PJ,
    membrane_updates,
    spikes_per_layer,
    spikes_to_decision,
    steps_to_decision,
    synaptic_operations,
)
from firstspike.models.raster.readout import Verdict, by_membrane, decide
from firstspike.models.spiking_form import SpikingForm
from firstspike.nn import AvgPool2d

_RULES = {
    "exponential": "most votes of the output spikes, gamma^-t at step t; ties and silence wrong",
    "linear": "most votes of the output spikes, T - t at step t; ties and silence wrong",
    "first_spike": "class of the first output spike; ties and silence wrong",
    "membrane": "votes of the output spikes of a network trained on its membranes; ties and silence wrong",
}


@dataclass(frozen=True)
class DeepReport:
    """Accuracy by spikes and by membranes, which is no spike decision, and the mean cost of a decision.

    Attributes:
        count: images.
        accuracy: share decided rightly by spikes.
        tie_rate, silent_rate: shares without a single winner, all counted wrong.
        rule: how spikes decide.
        accuracy_membrane: share that the highest output membrane after the last step names.
        steps: mean step, on the input's clock, after which the decision stands.
        steps_share: share of images decided after each step, from the first input step on.
        last_step: steps until the last layer's window ends.
        spikes_per_neuron: mean spikes of a hidden neuron over the whole window, at most 1.
        spikes_per_neuron_by_layer: the same of the input and of each layer, the output included.
        spikes: mean spikes of the input and of each layer up to the decision.
        synops: mean additions that these cause.
        updates: additions per image that no spike causes.
        multiply_adds: of a first layer that receives a current.
        energy_pj, dense_energy_pj: per decision, and of the ANN of the same layout.
    """

    count: int
    accuracy: float
    tie_rate: float
    silent_rate: float
    rule: str
    accuracy_membrane: float
    steps: float
    steps_share: tuple[float, ...]
    last_step: int
    spikes_per_neuron: float
    spikes_per_neuron_by_layer: tuple[float, ...]
    spikes: tuple[float, ...]
    synops: float
    updates: int
    multiply_adds: int
    energy_pj: float
    dense_energy_pj: float

    def as_dict(self) -> dict[str, object]:
        """Return the figures under the names that ``firstspike evaluate --json`` prints."""
        return {
            "accuracy": self.accuracy,
            "tie_rate": self.tie_rate,
            "silent_rate": self.silent_rate,
            "decision_rule": self.rule,
            "accuracy_membrane": self.accuracy_membrane,
            "count": self.count,
            "steps_to_decision": self.steps,
            "steps_share": list(self.steps_share),
            "last_step": self.last_step,
            "spikes_per_hidden_neuron": self.spikes_per_neuron,
            "spikes_per_neuron_by_layer": list(self.spikes_per_neuron_by_layer),
            "spikes_to_decision": sum(self.spikes),
            "spikes_to_decision_by_layer": list(self.spikes),
            "synops": self.synops,
            "membrane_updates": self.updates,
            "multiply_adds": self.multiply_adds,
            "energy_pj": self.energy_pj,
            "dense_energy_pj": self.dense_energy_pj,
            "energy_constants_pj": {"add": ADD_PJ, "multiply_add": MULTIPLY_ADD_PJ},
        }


@torch.no_grad()
def deep_report(form: SpikingForm, images: Tensor, labels: Tensor, batch_size: int = 100) -> DeepReport:
    """Return the report of a network on images.

    Args:
        form: the network.
        images: uint8 ``(samples, channels, y, x)``.
        labels: int64 ``(samples,)``.
        batch_size: samples at a time.

    Raises:
        ValueError: there are no samples.
    """
    if not len(labels):
        raise ValueError("there are no samples to report on")
    stack, readout = form.stack, form.readout
    membrane_right, right, tied, silent = 0, 0, 0, 0
    steps, fired, spikes, operations = [], [], [], []
    for part, part_labels in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        traced, membrane = stack.read(form.encode(part))
        verdict = _verdict(form, traced[-1])
        if readout is not None:
            membrane = by_membrane(membrane, readout)
        membrane_right += int((membrane.argmax(1) == part_labels).sum())
        undecided = verdict.tied | verdict.silent
        right += int(((verdict.label == part_labels) & ~undecided).sum())
        tied += int((verdict.tied & ~verdict.silent).sum())
        silent += int(verdict.silent.sum())
        steps.append(verdict.steps)
        fired.append(spikes_per_layer(stack, traced))
        spikes.append(spikes_to_decision(stack, traced, verdict.steps))
        operations.append(synaptic_operations(stack, traced, decision=verdict.steps))
    count = len(labels)
    all_steps, per_layer = torch.cat(steps), torch.cat(fired).mean(0)
    sizes = torch.tensor([float(math.prod(shape)) for shape in stack.shapes(form.in_shape)])
    hidden = [1 + depth for depth, layer in enumerate(stack) if not isinstance(layer, AvgPool2d)][:-1]
    if form.current_multiply_adds:
        # What the stack receives are the spikes of the layer that received the current.
        hidden = [0, *hidden]
    synops = float(torch.cat(operations).mean())
    updates = membrane_updates(stack, form.in_shape)
    if form.current_multiply_adds:
        updates += math.prod(form.in_shape) * stack.num_steps
    return DeepReport(
        count=count,
        accuracy=right / count,
        tie_rate=tied / count,
        silent_rate=silent / count,
        rule=STRICT.description if readout is None else _RULES[readout.decoder],
        accuracy_membrane=membrane_right / count,
        steps=float(all_steps.mean()),
        steps_share=tuple(
            (torch.bincount(all_steps.long(), minlength=stack.last_step + 1) / count).tolist()
        ),
        last_step=stack.last_step,
        spikes_per_neuron=float(per_layer[hidden].sum() / sizes[hidden].sum()),
        spikes_per_neuron_by_layer=tuple((per_layer / sizes).tolist()),
        spikes=tuple(torch.cat(spikes).mean(0).tolist()),
        synops=synops,
        updates=updates,
        multiply_adds=form.current_multiply_adds,
        energy_pj=(synops + updates) * ADD_PJ + form.current_multiply_adds * MULTIPLY_ADD_PJ,
        dense_energy_pj=form.multiply_adds * MULTIPLY_ADD_PJ,
    )


def _verdict(form: SpikingForm, times: Tensor) -> Verdict:
    if form.readout is not None:
        return decide(times, form.stack.num_steps, form.readout)
    num_steps = form.stack.out_steps
    first = times.min(1)
    winners = (times == first.values.unsqueeze(1)).sum(1)
    silent = first.values >= num_steps
    return Verdict(first.indices, (winners > 1) & ~silent, silent, steps_to_decision(form.stack, times))
