"""How well and how cheaply a network decides: one report for every classifier."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from firstspike.decision import FirstSpike, Score, largest
from firstspike.inputs import as_tensor, check_labels
from firstspike.metrics.cost import (
    ADD_PJ,
    MULTIPLY_ADD_PJ,
    SpikeCounts,
    membrane_updates,
    multiply_adds,
)
from firstspike.metrics.operations import FUNCTION_PJ, MULTIPLY_PJ, energy_pj, inputs_pj
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.operations import Operations
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.spiking_form import SpikingForm, spiking_form
from firstspike.models.window import WindowNetwork
from firstspike.nn import AvgPool2d, Stack
from firstspike.spikes import Spikes, check_spikes
from firstspike.support import check_integer

# A tie that holds the label counts as right (S4NN's and Spiking-GAN's evaluation).
PAPERS = FirstSpike(ties="label")
_MOST_CLASSES = 2**63 - 1
# Spike times of a layer that are computed at a time, 16 MiB: more are neither kept in a processor's cache
# nor in memory that the allocator uses again.
_TIMES_AT_ONCE = 2**22
# A list of more numbers is shown in part.
_LONGEST = 12
# Told how many samples are measured.
Progress = Callable[[int], None]
ONE_STEP_RULE = "highest output of the head, a membrane; no spike decision"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Accuracy and the mean cost of a decision; None is what a network has not.

    Attributes:
        accuracy: share decided rightly by `decision_rule`.
        tie_rate, silent_rate: shares without a single winner, all counted wrong.
        decision_rule: in words.
        accuracy_papers_rule: share right if a tie that holds the label counts, which `papers_rule` says.
        accuracy_membrane: share that the highest output membrane alone names, which is no spike decision.
        count: images.
        steps_to_decision: mean step, on the input's clock, after which the decision stands.
        steps_share: share of images decided after each step, from the first input step on; one that never
            is counts at the end of the output's window.
        accuracy_by_step, worst_accuracy_by_step: share decided rightly by each step, of all images and
            of the class that has least of them by then: what a deadline there would leave.
        last_step: steps until the last layer's window ends, or the phase of it in which the layer fires.
        spikes_per_hidden_neuron: mean spikes of a hidden neuron over the whole window, at most 1.
        spikes_per_neuron: of all places of a one-step network; fractions count as such.
        spikes_per_neuron_by_layer: over the whole window, of the input (if it spikes) and of each layer.
        spikes_to_decision, spikes_to_decision_by_layer: mean spikes up to it, of the input and each layer.
        synops: mean additions that these cause.
        membrane_updates: additions per image that no spike causes.
        multiply_adds: mean multiply-adds caused by numbers that are no spikes.
        neuron_operations: of a one-step network's neurons, whether or not anything spikes.
        energy_pj: of every operation.
        energy_of_inputs_pj: of what inputs cause, which is what papers count.
        dense_multiply_adds, dense_energy_pj: of the ANN of the same layout.
        dense_energy_paper_pj: the same with an addition more per multiply-add, as one paper counts.
        energy_constants_pj: energy of each operation.
        accuracy_by_class, steps_by_class, spikes_by_class: per label, None for one that does not occur.
    """

    accuracy: float
    tie_rate: float | None = None
    silent_rate: float | None = None
    decision_rule: str
    accuracy_papers_rule: float | None = None
    papers_rule: str | None = None
    accuracy_membrane: float | None = None
    count: int
    steps_to_decision: float | None = None
    steps_share: tuple[float, ...] | None = None
    accuracy_by_step: tuple[float, ...] | None = None
    worst_accuracy_by_step: tuple[float, ...] | None = None
    last_step: int | None = None
    spikes_per_hidden_neuron: float | None = None
    spikes_per_neuron: float | None = None
    spikes_per_neuron_by_layer: tuple[float, ...] | None = None
    spikes_to_decision: float | None = None
    spikes_to_decision_by_layer: tuple[float, ...] | None = None
    synops: float | None = None
    membrane_updates: int | None = None
    multiply_adds: float | None = None
    neuron_operations: dict[str, float] | None = None
    energy_pj: float | None = None
    energy_of_inputs_pj: float | None = None
    dense_multiply_adds: int | None = None
    dense_energy_pj: float | None = None
    dense_energy_paper_pj: float | None = None
    energy_constants_pj: dict[str, float] | None = None
    accuracy_by_class: tuple[float | None, ...] | None = None
    steps_by_class: tuple[float | None, ...] | None = None
    spikes_by_class: tuple[float | None, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures that there are, under the names that ``firstspike evaluate --json`` prints."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value is not None
        }

    def __str__(self) -> str:
        """Return the figures as a table, a line each."""
        return table(self.as_dict())


def table(figures: dict[str, Any]) -> str:
    """Return named figures as lines of text; those of a dictionary within as ``name / inner name``."""
    rows = list(_rows(figures))
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _rows(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in figures.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{name} / ")
        elif isinstance(value, list):
            shown = ["-" if v is None else f"{v:.5g}" for v in value]
            if len(shown) > _LONGEST:
                # All of them are in the figures, and in ``--json``.
                shown = [*shown[: _LONGEST // 2], "...", *shown[-_LONGEST // 2 :], f"({len(value)} values)"]
            rows.append((f"{prefix}{name}", ", ".join(shown)))
        else:
            rows.append((f"{prefix}{name}", f"{value:.5g}" if isinstance(value, float) else str(value)))
    return rows


def report(
    network: torch.nn.Module | SpikingForm,
    images: Any,
    labels: Any,
    *,
    encode: Callable[[Tensor], Spikes] | None = None,
    batch_size: int = 250,
    progress: Progress | None = None,
) -> Report:
    """Return how well and how cheaply a network decides on images.

    Args:
        network: a `Stack`, a `SpikingForm` or a trained network that has one, a one-step network; or any
            other module, called with the images, that returns `Spikes` ``(batch, classes)``: then cost is
            the step of the first spike alone. Measured in evaluation mode; its mode is put back.
        images: uint8 ``(samples, channels, y, x)``, or what `network` or `encode` takes.
        labels: integers ``(samples,)``.
        encode: from images to a `Stack`'s input spikes; its own `encode` by default. For a `Stack` only.
        batch_size: samples at a time at most; of a network with large maps fewer.
        progress: called after each batch with the number of samples measured so far.

    Raises:
        TypeError: labels that are no integers, or a network that returns no `Spikes`.
        ValueError: there are no samples, or labels of another number or of no class; `encode` with another
            network than a `Stack`; spikes of several windows.
    """
    if encode is not None and not isinstance(network, Stack):
        raise ValueError(
            f"encode is for a Stack, and {type(network).__name__} takes the images as they are; leave it "
            "out"
        )
    images = as_tensor(images, "images")
    # How many classes spikes tell apart is known, and looked at, when they are decided by.
    classes = network.num_classes if isinstance(network, OneStepNetwork) else _MOST_CLASSES
    labels = check_labels(labels, len(images), classes)
    if not len(labels):
        raise ValueError("there are no samples to report on")
    batch_size = check_integer("report", "batch_size", batch_size, low=1)
    samples = _Samples(images, labels, batch_size, progress)
    if isinstance(network, SpikingForm):
        return _by_spikes(network, samples)
    if isinstance(network, RasterNetwork | WindowNetwork):
        # Spike times have their fast kernels on the CPU, and are the same everywhere.
        form = spiking_form(copy.deepcopy(network).cpu().eval())
        return _by_spikes(form, samples)
    was_training = network.training
    network.eval()
    try:
        if isinstance(network, OneStepNetwork):
            return _in_one_step(network, samples)
        if isinstance(network, Stack):
            form = stack_form(network, encode, tuple((encode or network.encode)(images[:1]).shape[1:]))
            return _by_spikes(form, samples)
        return _by_output(network, samples)
    finally:
        network.train(was_training)


@dataclass(frozen=True, eq=False)
class _Samples:
    """What is measured; see `report`."""

    images: Tensor
    labels: Tensor
    batch_size: int
    progress: Progress | None

    def batches(self, most: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of at most `most` samples at a time."""
        size, done = min(self.batch_size, most or self.batch_size), 0
        for images, labels in zip(self.images.split(size), self.labels.split(size), strict=True):
            yield images, labels
            done += len(labels)
            if self.progress is not None:
                self.progress(done)


def stack_form(
    stack: Stack, encode: Callable[[Tensor], Spikes] | None, in_shape: tuple[int, ...]
) -> SpikingForm:
    """Return a stack with its encoder, its own if None, and the first spike for its decision."""
    return SpikingForm(
        encode or stack.encode, stack, FirstSpike(), in_shape, multiply_adds(stack, in_shape), 0
    )


@torch.no_grad()
def _by_spikes(form: SpikingForm, samples: _Samples) -> Report:
    stack, decoder, labels = form.stack, form.decoder, samples.labels
    sizes = [math.prod(shape) for shape in stack.shapes(form.in_shape)]
    count = len(labels)
    by_first_spike = decoder == FirstSpike()
    membrane_right, strict, papers = 0, Score.none(decoder.spikes.rule), Score.none(PAPERS.rule)
    steps, rights, fired, spikes, operations = [], [], [], [], []
    for part, part_labels in samples.batches(max(1, _TIMES_AT_ONCE // max(sizes))):
        traced, membrane = stack.read(form.encode(part))
        verdict = decoder.spikes.decide(traced[-1])
        strict += verdict.score(part_labels)
        rights.append(verdict.right(part_labels))
        if by_first_spike:
            papers += PAPERS.decide(traced[-1]).score(part_labels)
        membrane = decoder.mean_membrane(membrane)
        membrane_right += int((largest(membrane) == part_labels).sum())
        decision = verdict.steps + stack.offsets[-1]
        steps.append(decision)
        counts = SpikeCounts.of(stack, traced)
        fired.append(counts.per_layer())
        counts = counts.until(decision)
        spikes.append(counts.per_layer())
        operations.append(counts.synaptic_operations())
        classes = membrane.shape[1]
    all_steps, all_spikes, per_layer = torch.cat(steps), torch.cat(spikes), torch.cat(fired).mean(0)
    neurons = torch.tensor(sizes, dtype=torch.float32)
    hidden = [1 + depth for depth, layer in enumerate(stack) if not isinstance(layer, AvgPool2d)][:-1]
    if form.current_multiply_adds:
        # What the stack receives are the spikes of the layer that received the current.
        hidden = [0, *hidden]
    synops = float(torch.cat(operations).mean())
    updates = membrane_updates(stack, form.in_shape)
    if form.current_multiply_adds:
        updates += math.prod(form.in_shape) * stack.steps
    of_class = [labels == c for c in range(classes)]

    def shares(chosen: Tensor, among: int) -> Tensor:
        """How many of these samples have decided at each step, as shares of so many."""
        return torch.bincount(all_steps[chosen].long(), minlength=stack.last_step + 1) / among

    right = torch.cat(rights)
    shares_by_class = [shares(right & c, int(c.sum())).cumsum(0) for c in of_class if c.any()]
    return Report(
        accuracy=strict.accuracy,
        tie_rate=strict.tie_rate,
        silent_rate=strict.silent_rate,
        decision_rule=strict.rule,
        accuracy_papers_rule=papers.accuracy if by_first_spike else None,
        papers_rule=papers.rule if by_first_spike else None,
        accuracy_membrane=membrane_right / count,
        count=count,
        steps_to_decision=float(all_steps.mean()),
        steps_share=tuple(shares(torch.ones_like(right), count).tolist()),
        accuracy_by_step=tuple(shares(right, count).cumsum(0).tolist()),
        worst_accuracy_by_step=tuple(torch.stack(shares_by_class).amin(0).tolist()),
        last_step=stack.last_step,
        spikes_per_hidden_neuron=float(per_layer[hidden].sum() / neurons[hidden].sum()) if hidden else None,
        spikes_per_neuron_by_layer=tuple((per_layer / neurons).tolist()),
        spikes_to_decision=sum(all_spikes.mean(0).tolist()),
        spikes_to_decision_by_layer=tuple(all_spikes.mean(0).tolist()),
        synops=synops,
        membrane_updates=updates,
        multiply_adds=form.current_multiply_adds,
        energy_pj=(synops + updates) * ADD_PJ + form.current_multiply_adds * MULTIPLY_ADD_PJ,
        dense_energy_pj=form.multiply_adds * MULTIPLY_ADD_PJ,
        energy_constants_pj={"add": ADD_PJ, "multiply_add": MULTIPLY_ADD_PJ},
        accuracy_by_class=by_class(right, labels, classes),
        steps_by_class=by_class(all_steps, labels, classes),
        spikes_by_class=by_class(all_spikes.sum(1), labels, classes),
    )


def by_class(values: Tensor, labels: Tensor, classes: int) -> tuple[float | None, ...]:
    """Return the mean of the values ``(samples,)`` of each class, None for one that does not occur."""
    of_class = [values[labels == c] for c in range(classes)]
    return tuple(float(part.to(torch.float64).mean()) if len(part) else None for part in of_class)


@torch.no_grad()
def _by_output(network: torch.nn.Module, samples: _Samples) -> Report:
    """What the output spikes alone tell."""
    parts = [check_spikes(network(part)) for part, _ in samples.batches()]
    windows = sorted({part.steps for part in parts})
    if len(windows) > 1:
        raise ValueError(
            f"the network returns spikes of windows of {' and '.join(map(str, windows))} steps; make them "
            "one"
        )
    out = parts[0].with_times(torch.cat([part.times for part in parts]))
    verdict = FirstSpike().decide(out)
    strict, papers = (found.score(samples.labels) for found in (verdict, PAPERS.decide(out)))
    return Report(
        accuracy=strict.accuracy,
        tie_rate=strict.tie_rate,
        silent_rate=strict.silent_rate,
        decision_rule=strict.rule,
        accuracy_papers_rule=papers.accuracy,
        papers_rule=papers.rule,
        count=strict.count,
        steps_to_decision=float(out.first().mean()),
        accuracy_by_class=by_class(verdict.right(samples.labels), samples.labels, verdict.leading.shape[1]),
    )


@torch.no_grad()
def _in_one_step(network: OneStepNetwork, samples: _Samples) -> Report:
    count, device = len(samples.labels), network.head.weight.device
    total, fired, sizes, rights = Operations(), [], [], []
    for part, part_labels in samples.batches():
        spikes = []
        for layer, received, out in network.each_layer(part.to(device)):
            total += layer.operations(received, out)
            spikes.append(out.spikes)
        output = network.head(spikes[-1])
        rights.append(largest(output).cpu() == part_labels)
        total += network.head.operations(out)
        fired.append(torch.stack([layer.sum(dtype=torch.float64) for layer in spikes]).cpu())
        sizes = [layer[0].numel() for layer in spikes]
    operations, per_layer = total.times(1 / count), torch.stack(fired).sum(0) / count
    dense, right = round(operations.dense_multiply_adds), torch.cat(rights)
    return Report(
        accuracy=int(right.sum()) / count,
        decision_rule=ONE_STEP_RULE,
        count=count,
        steps_to_decision=1,
        spikes_per_neuron=float(per_layer.sum() / sum(sizes)),
        spikes_per_neuron_by_layer=tuple((per_layer / torch.tensor(sizes)).tolist()),
        spikes_to_decision=float(per_layer.sum()),
        synops=operations.additions,
        multiply_adds=operations.multiply_adds,
        neuron_operations={
            "additions": operations.neuron_additions,
            "multiplies": operations.neuron_multiplies,
            "multiply_adds": operations.neuron_multiply_adds,
            "functions": operations.neuron_functions,
        },
        energy_pj=energy_pj(operations),
        energy_of_inputs_pj=inputs_pj(operations),
        dense_multiply_adds=dense,
        dense_energy_pj=dense * MULTIPLY_ADD_PJ,
        # The paper's rows add an addition to every multiply-add, which holds one already.
        dense_energy_paper_pj=dense * (MULTIPLY_ADD_PJ + ADD_PJ),
        energy_constants_pj={
            "add": ADD_PJ,
            "multiply": MULTIPLY_PJ,
            "multiply_add": MULTIPLY_ADD_PJ,
            "function": FUNCTION_PJ,
        },
        accuracy_by_class=by_class(right, samples.labels, output.shape[1]),
    )
