"""How well and how cheaply a network decides."""

from dataclasses import dataclass

import torch
from torch import Tensor

from firstspike.decision import PAPERS, STRICT, FirstSpike, Score
from firstspike.metrics.cost import (
    ADD_PJ,
    MULTIPLY_ADD_PJ,
    energy,
    membrane_updates,
    spikes_to_decision,
    steps_to_decision,
    synaptic_operations,
)
from firstspike.nn import Stack


@dataclass(frozen=True)
class ClassificationReport:
    """Accuracy under the strict and the papers' rule, and the mean cost of a decision.

    Attributes:
        strict: score with ties and silence counted wrong.
        papers: score with a tie that holds the label counted right.
        steps: mean step of the first output spike, from the first input step.
        spikes: mean spikes up to it, of the input and of each layer.
        synops: mean synaptic operations up to it.
        steps_by_class, spikes_by_class: the same means per label, None for one that does not occur.
        energy_pj, dense_energy_pj: per decision, and of the ordinary network of the same shape.
        updates: membrane additions per decision that no spike causes.
    """

    strict: Score
    papers: Score
    steps: float
    spikes: tuple[float, ...]
    synops: float
    updates: int
    energy_pj: float
    dense_energy_pj: float
    steps_by_class: tuple[float | None, ...]
    spikes_by_class: tuple[float | None, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the figures under the names that ``firstspike evaluate --json`` prints."""
        return {
            "accuracy": self.strict.accuracy,
            "tie_rate": self.strict.tie_rate,
            "silent_rate": self.strict.silent_rate,
            "decision_rule": self.strict.rule,
            "accuracy_papers_rule": self.papers.accuracy,
            "papers_rule": self.papers.rule,
            "count": self.strict.count,
            "steps_to_decision": self.steps,
            "spikes_to_decision": sum(self.spikes),
            "spikes_to_decision_by_layer": list(self.spikes),
            "synops": self.synops,
            "membrane_updates": self.updates,
            "energy_pj": self.energy_pj,
            "dense_energy_pj": self.dense_energy_pj,
            "energy_constants_pj": {"add": ADD_PJ, "multiply_add": MULTIPLY_ADD_PJ},
            "steps_by_class": list(self.steps_by_class),
            "spikes_by_class": list(self.spikes_by_class),
        }


@torch.no_grad()
def classification_report(
    stack: Stack, times: Tensor, labels: Tensor, num_classes: int, batch_size: int = 1000
) -> ClassificationReport:
    """Return the report of `stack` on encoded samples.

    Args:
        stack: the network; evaluated with dropout off, its mode is put back.
        times: input spike times ``(samples, in_features)`` or ``(samples, channels, y, x)``.
        labels: int64 ``(samples,)``.
        num_classes: number of output neurons.
        batch_size: samples at a time.

    Raises:
        ValueError: there are no samples.
    """
    if not len(labels):
        raise ValueError("there are no samples to report on")
    was_training = stack.training
    stack.eval()
    strict: Score | None = None
    papers: Score | None = None
    steps, spikes, operations = [], [], []
    for part, part_labels in zip(times.split(batch_size), labels.split(batch_size), strict=True):
        traced = stack.trace(part)
        strict = _add(strict, STRICT, traced[-1], part_labels, stack.out_steps)
        papers = _add(papers, PAPERS, traced[-1], part_labels, stack.out_steps)
        steps.append(steps_to_decision(stack, traced[-1]))
        spikes.append(spikes_to_decision(stack, traced))
        operations.append(synaptic_operations(stack, traced))
    stack.train(was_training)
    assert strict is not None
    assert papers is not None
    all_steps, all_spikes = torch.cat(steps), torch.cat(spikes)
    in_shape = tuple(times.shape[1:])
    cost = energy(stack, float(torch.cat(operations).mean()), in_shape)
    per_class = [labels == c for c in range(num_classes)]
    all_counts = all_spikes.sum(1)
    return ClassificationReport(
        strict=strict,
        papers=papers,
        steps=float(all_steps.mean()),
        spikes=tuple(all_spikes.mean(0).tolist()),
        synops=cost.synops,
        updates=membrane_updates(stack, in_shape),
        energy_pj=cost.spiking_pj,
        dense_energy_pj=cost.dense_pj,
        steps_by_class=tuple(_mean(all_steps[c]) for c in per_class),
        spikes_by_class=tuple(_mean(all_counts[c]) for c in per_class),
    )


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if len(values) else None


def _add(total: Score | None, rule: FirstSpike, times: Tensor, labels: Tensor, num_steps: int) -> Score:
    score = rule.score(times, labels, num_steps)
    return score if total is None else total + score
