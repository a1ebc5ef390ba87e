"""Classifiers with one hidden layer, 784-400-10 in the papers (Aggressive TTFS, S4NN)."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor

from firstspike.codes import encode_latency
from firstspike.data import Dataset, ImageSet, dataset
from firstspike.losses import aggressive_targets, relative_targets, temporal_least_squares
from firstspike.metrics.report import Progress, Report, report, stack_form
from firstspike.models.spiking_form import SpikingForm
from firstspike.neurons import Causal, Events, Neuron, Ramp, Window
from firstspike.neurons.causal import Bias
from firstspike.neurons.levels import RunningMax, fire_at_levels
from firstspike.nn import Layer, Linear, Stack
from firstspike.recipes.augmentation import Augmentation
from firstspike.recipes.base import Classifier, LayerActivity
from firstspike.recipes.fields import Checked, Count, NotNegative, Positive, Range, ShareBelowOne, Steps
from firstspike.recipes.presets import Preset
from firstspike.recipes.spike_losses import FirstSpikeLoss, SpikeLoss
from firstspike.spikes import Spikes
from firstspike.support import InputError

SPIKING_GAN = "Kotariya & Ganguly 2021, arXiv 2106.15420 (Spiking-GAN)"
S4NN = "Kheradpisheh & Masquelier 2020, arXiv 1910.09495 (S4NN)"
RAMP = "Mostafa 2016, arXiv 1606.08165 (exact gradients of spike times); ramp synapse: our own"
YIN_YANG = "Kriener, Göltz & Petrovici 2022, arXiv 2102.08211 (Yin-Yang)"


@dataclass(frozen=True, kw_only=True)
class TargetLoss(SpikeLoss):
    """Temporal least squares towards target times; a subclass gives the targets."""

    @abstractmethod
    def targets(self, out: Spikes, labels: Tensor) -> Tensor:
        """Return the target times ``(batch, classes)`` for output spikes of the same shape."""

    def __call__(self, out: Spikes, labels: Tensor) -> Tensor:
        """Return the mean loss."""
        return temporal_least_squares(out, self.targets(out.detach(), labels))


@dataclass(frozen=True, kw_only=True)
class AggressiveTargets(TargetLoss):
    """Spiking-GAN's targets, see `firstspike.losses.aggressive_targets`."""

    def targets(self, out: Spikes, labels: Tensor) -> Tensor:
        """Return the first output spike for the label, silence for the others."""
        return aggressive_targets(out, labels)


@dataclass(frozen=True, kw_only=True)
class RelativeTargets(TargetLoss):
    """S4NN's targets, see `firstspike.losses.relative_targets`.

    Attributes:
        gamma: margin in steps.
    """

    gamma: Positive = 3.0

    def check_steps(self, steps: int) -> None:
        """Raise InputError for a margin longer than the window."""
        if self.gamma > steps:
            raise InputError(
                f"RelativeTargets.gamma must be at most the output's {steps} steps, found {self.gamma:g}"
            )

    def targets(self, out: Spikes, labels: Tensor) -> Tensor:
        """Return the first output spike for the label, `gamma` steps more for those near it."""
        return relative_targets(out, labels, self.gamma)


@dataclass(frozen=True, kw_only=True)
class Normal(Checked):
    """Mean and standard deviation of initial weights."""

    mean: float
    sd: NotNegative


@dataclass(frozen=True, kw_only=True)
class LevelTraining(Checked):
    """Training of causal neurons by the running maximum of their membranes.

    The error of an output is taken on the warped clock ``u(t) = log(1 + t/s) / log(1 + T/s)``, on which
    the early steps, where almost everything happens, are wide.

    Attributes:
        hidden, output: surrogate of each layer.
        time_scale: ``s`` in steps.
        label_weight: factor on the label's error.
        label_margin, other_margin: during training the label's output has the threshold
            ``theta (1 + label_margin)``, every other ``theta (1 - other_margin)``.
        normalise: divide each sample's output error by its L2 norm.
    """

    hidden: RunningMax = field(default_factory=RunningMax)
    output: RunningMax = field(default_factory=RunningMax)
    time_scale: Positive = 20.0
    label_weight: NotNegative = 1.0
    label_margin: NotNegative = 0.0
    other_margin: ShareBelowOne = 0.0
    normalise: bool = False

    def loss(self, model: Stack, spikes: Spikes, labels: Tensor, wanted: TargetLoss) -> Tensor:
        """Return a scalar with the gradient of the temporal least squares on the warped clock.

        Written with cumulative spikes ``F``, an output's warped time is ``u = sum_k mu_k (1 - F[k])`` with
        the clock's increments ``mu``; the loss is ``error * u`` with the error ``u(t) - u(target)`` held
        fixed, so ``dL/dF[k] = -error mu_k``. Its value is no distance; only its gradient is used.

        Args:
            model: two causal layers.
            spikes: of the input, ``(batch, in_features)``.
            labels: int64 ``(batch,)``.
            wanted: the outputs' target times.
        """
        hidden, output = (layer.synapses for layer in model)
        hidden_threshold, output_threshold = _threshold(model[0]), _threshold(model[1])
        margins = torch.full((len(spikes), len(output.weight)), 1 - self.other_margin)
        margins.scatter_(1, labels.unsqueeze(1), 1 + self.label_margin)
        thresholds = margins * output_threshold

        with torch.no_grad():
            received = model[0](spikes)
            _, fired = fire_at_levels(None, received, output.weight, thresholds, self.output, output.bias)
            error = self._error(fired, wanted.targets(fired, labels), labels)
            # Most samples of a trained network have none, and cost no more than their spikes.
            wrong = error.any(1)

        even = torch.full((int(wrong.sum()), len(hidden.weight)), hidden_threshold)
        cumulative, fired = fire_at_levels(
            None, spikes[wrong], hidden.weight, even, self.hidden, hidden.bias
        )
        cumulative, _ = fire_at_levels(
            cumulative, fired, output.weight, thresholds[wrong], self.output, output.bias
        )
        ends = torch.tensor([*self.output.levels, model.steps], dtype=error.dtype)
        increments = warped(ends, model.steps, self.time_scale).diff()
        soft = ((1 - cumulative) * increments.reshape(1, -1, 1)).sum(1)
        return (error[wrong] * soft).sum() / len(labels)

    def _error(self, out: Spikes, targets: Tensor, labels: Tensor) -> Tensor:
        """The outputs' distance to their targets on the warped clock, ``(batch, classes)``."""
        error = warped(out.times, out.steps, self.time_scale) - warped(targets, out.steps, self.time_scale)
        error = error * torch.ones_like(error).scatter_(1, labels.unsqueeze(1), self.label_weight)
        if self.normalise:
            size = torch.linalg.vector_norm(error, dim=1, keepdim=True)
            error = error / size.clamp_min(torch.finfo(error.dtype).tiny)
        return error


def _threshold(layer: Layer) -> float:
    return cast(Events, layer.neuron.events()).threshold


def warped(times: Tensor, steps: int, scale: float) -> Tensor:
    """Return `times` on a logarithmic clock that runs from 0 at step 0 to 1 at ``T``."""
    return torch.log1p(times / scale) / math.log1p(steps / scale)


@dataclass(frozen=True, kw_only=True)
class ShallowRecipe(Classifier):
    """A classifier with one hidden layer.

    Attributes:
        hidden_features: size of the hidden layer.
        steps: ``T`` of the input window (and of all, for causal neurons).
        min_intensity: pixels darker than this (of 255) stay silent.
        hidden_neuron, output_neuron: neuron models of the two layers.
        hidden_init, output_init: initial weights; None for the layer's own.
        current_init: initial constant currents of the hidden and the output layer, summed over the window,
            for causal neurons with the bias "current"; None for layers without. The learning rate is that
            of the sum.
        levels: train by cumulative spikes at a few steps instead of the neurons' own rules; causal neurons
            with the step synapse and target times only.
        loss: of the output spikes.
        spike_penalty: weight of ``sum_j (1 - t_j/T)`` over the hidden layer, added to the loss; it
            silences neurons.
        optimizer: "adamw", or "sgd" without momentum.
    """

    hidden_features: Count = 400
    steps: Steps = 8
    min_intensity: Annotated[float, Range(0, 255)] = 0.0
    hidden_neuron: Neuron = field(default_factory=Window)
    output_neuron: Neuron = field(default_factory=Window)
    hidden_init: Normal | None = None
    output_init: Normal | None = None
    current_init: tuple[Normal, Normal] | None = None
    levels: LevelTraining | None = None
    loss: SpikeLoss = field(default_factory=FirstSpikeLoss)
    spike_penalty: NotNegative = 0.0
    optimizer: Literal["adamw", "sgd"] = "adamw"

    has_layers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        neurons = self.hidden_neuron, self.output_neuron
        steps = self.steps
        for neuron in neurons:
            neuron.check_steps(steps)
            steps = neuron.out_steps(steps)
        self.loss.check_steps(steps)
        if self.current_init is not None and not all(neuron.bias_is_current for neuron in neurons):
            raise InputError('current_init is for causal neurons with bias="current"; leave it None')
        if self.levels is None:
            return
        for neuron in neurons:
            events = neuron.events()
            bias: Bias = "current" if neuron.bias_is_current else "start"
            if events is None or neuron != Causal(threshold=events.threshold, bias=bias):
                raise InputError(
                    "training by levels needs plain Causal neurons, without strict, delay or norm; found "
                    f"{neuron}"
                )
        last = max(rule.levels[-1] for rule in (self.levels.hidden, self.levels.output))
        if last >= self.steps:
            raise InputError(
                f"training by levels looks at step {last}, beyond the window of {self.steps} steps; give "
                "more steps or smaller levels"
            )
        if self.spike_penalty:
            raise InputError("training by levels knows no spike_penalty; leave it 0")
        if not isinstance(self.loss, TargetLoss):
            raise InputError(f"training by levels needs target times, found loss {self.loss!r}")

    def on(self, data: str | Dataset) -> Self:
        """Return the recipe for another data set; of plain numbers none is cut off."""
        recipe = super().on(data)
        return replace(recipe, min_intensity=0.0) if dataset(data).is_table else recipe

    def build(self, shape: tuple[int, ...], classes: int) -> Stack:
        """Return a freshly drawn network."""
        bias = None if self.current_init is None else True
        hidden = Linear(math.prod(shape), self.hidden_features, self.hidden_neuron, bias=bias)
        output = Linear(self.hidden_features, classes, self.output_neuron, bias=bias)
        for part, init in ((hidden, self.hidden_init), (output, self.output_init)):
            if init is not None:
                torch.nn.init.normal_(part.weight, init.mean, init.sd)
        for part, init in zip((hidden, output), self.current_init or (), strict=False):
            torch.nn.init.normal_(cast(Tensor, part.bias), init.mean / self.steps, init.sd / self.steps)
        return Stack(hidden, output, steps=self.steps)

    def encode(self, images: Tensor) -> Spikes:
        """Return images ``(batch, ..., height, width)`` as input spikes ``(batch, pixels)``."""
        return encode_latency(images.flatten(1), self.steps, min_intensity=self.min_intensity / 255)

    def optimizers(self, model: torch.nn.Module) -> dict[str, torch.optim.Optimizer]:
        """Return the one optimiser, under which every parameter decays."""
        parameters: Any = model.parameters()
        decay = self.weight_decay
        if self.current_init is not None:
            currents = [layer.bias for layer in cast(Stack, model)]
            parameters = [
                {"params": [layer.weight for layer in cast(Stack, model)]},
                {"params": currents, "rate_scale": 1 / self.steps},
            ]
        if self.optimizer == "sgd":
            return {"optimizer": torch.optim.SGD(parameters, self.rate, weight_decay=decay)}
        return {"optimizer": torch.optim.AdamW(parameters, self.rate, weight_decay=decay, fused=True)}

    def batch_loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch, and the spike penalty."""
        stack, spikes = cast(Stack, model), self.encode(images)
        if self.levels is not None:
            return self.levels.loss(stack, spikes, labels, cast(TargetLoss, self.loss))
        _, hidden, output = stack.trace(spikes)
        loss = self.loss(output, labels)
        if self.spike_penalty:
            loss = loss + self.spike_penalty * hidden.values.sum(1).mean()
        return loss

    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the figures of the validation split; the strict accuracy chooses."""
        found = self.report(model, validation)
        return {
            "validation_accuracy": found.accuracy,
            "validation_accuracy_papers_rule": found.accuracy_papers_rule,
            "validation_tie_rate": found.tie_rate,
            "validation_silent_rate": found.silent_rate,
            "steps_to_decision": found.steps_to_decision,
            "spikes_to_decision": found.spikes_to_decision,
        }

    def layers(self, model: torch.nn.Module, images: Tensor) -> Iterator[LayerActivity]:
        """Yield what both layers do."""
        stack = cast(Stack, model)
        traced = stack.trace(self.encode(images))
        for layer, sources, spikes in zip(stack, stack.sources, traced[1:], strict=True):
            membrane = layer.membrane(*(traced[source] for source in sources))
            yield LayerActivity(spikes, membrane, layer.weight)

    def report(
        self,
        model: torch.nn.Module,
        test: ImageSet,
        data_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> Report:
        """Return accuracy and cost on images."""
        return report(model, test.images, test.labels, encode=self.encode, progress=progress)

    def exported(self, model: torch.nn.Module) -> SpikingForm:
        """Return the network with the encoder."""
        stack = cast(Stack, model)
        return stack_form(stack, self.encode, stack.shapes()[0])


_WINDOW = ShallowRecipe(
    steps=6,
    min_intensity=128,
    hidden_neuron=Window(low=0.0, high=2.0, steps=8),
    output_neuron=Window.output(steps=32),
    loss=FirstSpikeLoss(label_delay=3),
    spike_penalty=2e-3,
    augmentation=Augmentation(shift_px=1.5, rotation_deg=8, scale=0.1, shear=0.1, elastic_px=1),
    rate=2e-3,
    epochs=40,
)
_WINDOW_ON_DIGITS = {
    "hidden_features": 200,
    "min_intensity": 0.0,
    "augmentation": Augmentation(shift_px=0.3, rotation_deg=8, scale=0.05),
    "batch_size": 32,
}
_LEVELS = LevelTraining(output=RunningMax(width=1.5), label_weight=4, label_margin=0.5, other_margin=0.5)
_AGGRESSIVE = ShallowRecipe(
    steps=256,
    hidden_neuron=Causal(),
    output_neuron=Causal(),
    hidden_init=Normal(mean=0.01, sd=0.05),
    output_init=Normal(mean=0.02, sd=0.1),
    levels=_LEVELS,
    loss=AggressiveTargets(),
    augmentation=Augmentation(shift_px=1),
    rate=3e-3,
    weight_decay=0.02,
    batch_size=100,
    epochs=30,
    warmup=1 / 30,
    ema=0.999,
)
_RELATIVE = replace(
    _AGGRESSIVE,
    loss=RelativeTargets(gamma=15),
    levels=replace(_LEVELS, label_weight=1, label_margin=0.6, other_margin=0.4, normalise=True),
)
_CAUSAL_ON_DIGITS = {
    "hidden_features": 200,
    "hidden_init": Normal(mean=0.05, sd=0.15),
    "augmentation": Augmentation(),
    "batch_size": 16,
}
_RAMP_NEURON = Ramp(threshold=256, min_slope=0.3)
# Without it a class whose output neuron falls silent stays so.
_PULLED = replace(_RAMP_NEURON, silent_slope=2.0)
_RAMP = ShallowRecipe(
    steps=256,
    min_intensity=64,
    hidden_neuron=_RAMP_NEURON,
    output_neuron=_PULLED,
    hidden_init=Normal(mean=0.03, sd=0.1),
    output_init=Normal(mean=0.02, sd=0.05),
    loss=FirstSpikeLoss(sharpness=20, label_delay=4),
    augmentation=Augmentation(shift_px=1.5, rotation_deg=8, scale=0.1, shear=0.1),
    rate=6e-3,
    weight_decay=0.0,
    epochs=25,
    ema=0.999,
)
_RAMP_ON_DIGITS = {
    "hidden_features": 200,
    "min_intensity": 0.0,
    "augmentation": Augmentation(),
    "batch_size": 32,
}
_YIN_YANG_WINDOW = ShallowRecipe(
    dataset="yin-yang",
    hidden_features=120,
    steps=256,
    hidden_neuron=Window(low=0.0, high=2.0, input_low=-1.0, input_high=1.0),
    output_neuron=Window.output(),
    hidden_init=Normal(mean=0.0, sd=0.9),
    loss=FirstSpikeLoss(sharpness=40, label_delay=4),
    augmentation=Augmentation(),
    rate=1e-2,
    weight_decay=0.0,
    batch_size=50,
    epochs=100,
    ema=0.99,
)
_YIN_YANG_LEVELS = RunningMax(levels=tuple(round(k * 127 / 31) for k in range(32)), width=0.4)
_YIN_YANG_CAUSAL = replace(
    _YIN_YANG_WINDOW,
    steps=128,
    hidden_neuron=Causal(bias="current"),
    output_neuron=Causal(threshold=4.0, bias="current"),
    hidden_init=Normal(mean=0.5, sd=1.0),
    output_init=Normal(mean=0.0, sd=0.2),
    current_init=(Normal(mean=1.0, sd=0.5), Normal(mean=4.0, sd=0.0)),
    levels=LevelTraining(
        hidden=_YIN_YANG_LEVELS,
        output=replace(_YIN_YANG_LEVELS, width=4.0),
        time_scale=1e5,
        label_margin=0.2,
        other_margin=0.2,
        normalise=True,
    ),
    loss=RelativeTargets(gamma=10),
    rate=2e-2,
    batch_size=200,
    epochs=120,
    ema=0.98,
)
_YIN_YANG_RAMP_NEURON = replace(_RAMP_NEURON, silent_slope=1.0)
_YIN_YANG_RAMP = replace(
    _YIN_YANG_WINDOW,
    hidden_neuron=_YIN_YANG_RAMP_NEURON,
    output_neuron=_YIN_YANG_RAMP_NEURON,
    hidden_init=Normal(mean=1.0, sd=1.0),
    output_init=Normal(mean=0.1, sd=0.3),
    loss=FirstSpikeLoss(sharpness=50, label_delay=4),
    epochs=60,
)

PRESETS = (
    Preset(
        "aggressive-ttfs-window",
        "classifier of window neurons, 784-400-10 on MNIST, first spike decides",
        SPIKING_GAN,
        _WINDOW,
        target={"accuracy": 0.985, "steps_to_decision": 24, "spikes_to_decision": 150},
        on_digits=_WINDOW_ON_DIGITS,
    ),
    Preset(
        "aggressive-ttfs-window-1000",
        "the same with 1,000 hidden neurons on MNIST",
        SPIKING_GAN,
        replace(_WINDOW, hidden_features=1000),
        on_digits=_WINDOW_ON_DIGITS,
        note="at or above 784-400-10",
    ),
    Preset(
        "aggressive-ttfs-causal",
        "classifier of causal neurons on one clock, aggressive loss, 784-400-10 on MNIST",
        SPIKING_GAN,
        _AGGRESSIVE,
        paper={"accuracy_papers_rule": 0.967, "steps_to_decision": 59.7, "spikes_to_decision": 194},
        target={
            "accuracy": 0.97,
            "accuracy_papers_rule": 0.967,
            "steps_to_decision": 59.7,
            "spikes_to_decision": 194,
        },
        on_digits=_CAUSAL_ON_DIGITS,
    ),
    Preset(
        "aggressive-ttfs-causal-1000",
        "the same with 1,000 hidden neurons on MNIST",
        SPIKING_GAN,
        replace(_AGGRESSIVE, hidden_features=1000),
        paper={"accuracy_papers_rule": 0.976},
        target={"accuracy_papers_rule": 0.976},
        on_digits=_CAUSAL_ON_DIGITS,
    ),
    Preset(
        "s4nn-causal",
        "classifier of causal neurons on one clock, S4NN's relative loss, 784-400-10 on MNIST",
        S4NN,
        _RELATIVE,
        paper={"accuracy_papers_rule": 0.974, "steps_to_decision": 89.7, "spikes_to_decision": 218.3},
        target={"accuracy_papers_rule": 0.974},
        on_digits=_CAUSAL_ON_DIGITS,
    ),
    Preset(
        "s4nn-causal-1000",
        "the same with 1,000 hidden neurons on MNIST",
        S4NN,
        replace(_RELATIVE, hidden_features=1000),
        on_digits=_CAUSAL_ON_DIGITS,
        note="at or above 784-400-10",
    ),
    Preset(
        "ramp-mnist",
        "classifier of ramp neurons on one clock, exact gradients, 784-400-10 on MNIST",
        RAMP,
        _RAMP,
        target={"accuracy": 0.98},
        on_digits=_RAMP_ON_DIGITS,
    ),
    Preset(
        "yin-yang-window",
        "Yin-Yang by window neurons, 5-120-3, first spike decides",
        YIN_YANG,
        _YIN_YANG_WINDOW,
        target={"accuracy": 0.98},
        one_dataset=True,
    ),
    Preset(
        "yin-yang-ramp",
        "Yin-Yang by ramp neurons on one clock, 5-120-3",
        YIN_YANG,
        _YIN_YANG_RAMP,
        target={"accuracy": 0.98},
        one_dataset=True,
    ),
    Preset(
        "yin-yang-causal",
        "Yin-Yang by causal neurons with a constant current, 5-120-3",
        YIN_YANG,
        _YIN_YANG_CAUSAL,
        target={"accuracy": 0.98},
        one_dataset=True,
    ),
)
