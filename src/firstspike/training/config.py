"""What defines a run, as frozen dataclasses that go to and from JSON. Free of torch.

Every number of a training recipe stands in one of these; a preset is a named instance.
"""

import dataclasses
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from firstspike.models.patches.settings import PatchCarry
from firstspike.models.raster.settings import RasterNeuron, RasterWeights, Readout
from firstspike.neurons import Causal, Neuron, Phased, Window
from firstspike.rules import ExactRule, RunningMaxRule, StraightThroughRule, TemporalRule
from firstspike.support import InputError, check_num_steps
from firstspike.training.deep_config import (
    DeepWindowConfig,
    EttfsConfig,
    ImageAugmentation,
    OneStepConfig,
)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of the training images, the arguments of `firstspike.data.augment.distort`."""

    shift_px: float = 0.0
    rotation_deg: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic_px: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Bounds of initial weights."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class GanConfig:
    """A GAN of the paper's shape.

    Attributes:
        dataset: name known to `firstspike.data.load`.
        kind: "spiking" or "ann".
        digit: class to learn; None for all.
        conditional: give the label to both networks; needs ``digit`` None.
        num_steps: ``T`` of every window.
        noise_size, hidden_features: sizes of both networks.
        hidden_neuron: neuron model of the generator's hidden layer (spiking only).
        critic_neuron: of the discriminator's; None for the same.
        pixel_neuron: of the generator's output.
        verdict_neuron: of the discriminator's output.
        hidden_init, pixel_init, verdict_init: initial weights of both hidden layers, the generator's and
            the discriminator's output; None for the layer's own.
        targets: "static" or "dynamic" (the paper's) targets of the temporal least squares.
        optimizer: "adam" (betas 0.5, 0.999) or "sgd" (plain, the paper's).
        generator_rate, discriminator_rate: learning rates.
        weight_decay: the paper's ``lambda``.
        pixel_dropout: share of the discriminator's input pixels silenced during training.
        batch_size, epochs: schedule; one step of each network in turn.
        final_rate: learning rate at the end over that at the start, linear in between.
        ema: decay per step of the generator's moving average, which makes the samples; 0 for none.
    """

    dataset: str = "mnist"
    kind: Literal["spiking", "ann"] = "spiking"
    digit: int | None = None
    conditional: bool = False
    num_steps: int = 256
    noise_size: int = 100
    hidden_features: int = 400
    hidden_neuron: Neuron = field(default_factory=Window)
    pixel_neuron: Neuron = field(default_factory=Window)
    verdict_neuron: Neuron = field(default_factory=Window)
    critic_neuron: Neuron | None = None
    hidden_init: Uniform | None = None
    pixel_init: Uniform | None = None
    verdict_init: Uniform | None = None
    targets: Literal["static", "dynamic"] = "static"
    optimizer: Literal["adam", "sgd"] = "adam"
    generator_rate: float = 2e-4
    discriminator_rate: float = 2e-4
    weight_decay: float = 0.0
    pixel_dropout: float = 0.0
    batch_size: int = 64
    epochs: int = 100
    final_rate: float = 1.0
    ema: float = 0.998

    def __post_init__(self) -> None:
        if self.conditional and self.digit is not None:
            raise InputError("a conditional GAN learns all classes; leave out --digit")
        neurons = (self.hidden_neuron, self.pixel_neuron, self.verdict_neuron, self.critic_neuron)
        if any(isinstance(n, Window) and n.out_steps not in (None, self.num_steps) for n in neurons):
            raise InputError(
                f"the windows of a GAN all have num_steps = {self.num_steps}; leave out out_steps"
            )
        _check_sizes(self, "noise_size", "hidden_features", "batch_size", "epochs")


@dataclass(frozen=True, kw_only=True)
class Normal:
    """Mean and standard deviation of initial weights."""

    mean: float
    sd: float


@dataclass(frozen=True, kw_only=True)
class LevelTraining:
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

    hidden: RunningMaxRule = field(default_factory=RunningMaxRule)
    output: RunningMaxRule = field(default_factory=RunningMaxRule)
    time_scale: float = 20.0
    label_weight: float = 1.0
    label_margin: float = 0.0
    other_margin: float = 0.0
    normalise: bool = False


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """A classifier with one hidden layer, 784-400-10 in the papers.

    Attributes:
        dataset: name known to `firstspike.data.load`.
        hidden_features: size of the hidden layer.
        num_steps: ``T`` of the input window (and of all, for causal neurons).
        min_intensity: pixels darker than this (of 255) stay silent.
        hidden_neuron, output_neuron: neuron models of the two layers.
        hidden_init, output_init: initial weights; None for the layer's own.
        levels: train by fired flags at a few steps instead of the neurons' own rules; causal neurons
            with the step synapse and target-time losses only.
        loss: "membrane" (cross-entropy of the output membranes), "first_spike" (cross-entropy of the
            output times), "aggressive" (Spiking-GAN) or "relative" (S4NN) target times.
        gamma: margin in steps of the relative targets.
        sharpness: logit between step 0 and silence, for "first_spike".
        label_delay: steps by which the label's spike counts as later than it is, for "first_spike"; the
            loss is content only once the label leads by so much, which makes ties rare.
        label_smoothing: of the membrane cross-entropy.
        spike_penalty: weight of ``sum_j (1 - t_j/T)`` over the hidden layer, added to the loss; it
            silences neurons.
        input_dropout, hidden_dropout: share of a layer's inputs cut off during training.
        augmentation: random changes of the training images.
        optimizer: "adamw" or "sgd".
        rate, weight_decay, batch_size, epochs: schedule; the rate falls to 0 along a cosine,
        warmup: after rising over this share of all steps.
        ema: decay per step of the moving average of the weights, which is what is kept; 0 for none.
    """

    dataset: str = "mnist"
    hidden_features: int = 400
    num_steps: int = 8
    min_intensity: float = 0.0
    hidden_neuron: Neuron = field(default_factory=Window)
    output_neuron: Neuron = field(default_factory=Window)
    hidden_init: Normal | None = None
    output_init: Normal | None = None
    levels: LevelTraining | None = None
    loss: Literal["membrane", "first_spike", "aggressive", "relative"] = "membrane"
    gamma: float = 3.0
    sharpness: float = 12.0
    label_delay: float = 0.0
    label_smoothing: float = 0.0
    spike_penalty: float = 0.0
    input_dropout: float = 0.0
    hidden_dropout: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 128
    epochs: int = 20
    warmup: float = 0.05
    ema: float = 0.0

    def __post_init__(self) -> None:
        _check_sizes(self, "hidden_features", "batch_size", "epochs")
        if self.levels is not None:
            neurons = (self.hidden_neuron, self.output_neuron)
            if any(
                not isinstance(n, Causal) or n.synapse != "step" or n.strict or n.delay for n in neurons
            ):
                raise InputError("training by levels needs causal neurons with the plain step synapse")
            if self.input_dropout or self.hidden_dropout or self.spike_penalty:
                raise InputError("training by levels knows neither dropout nor a spike penalty")
            if self.loss not in ("aggressive", "relative"):
                raise InputError(f"training by levels needs target times, found loss {self.loss!r}")


Config = GanConfig | ClassifierConfig | EttfsConfig | DeepWindowConfig | OneStepConfig

_TYPES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        Augmentation,
        ClassifierConfig,
        DeepWindowConfig,
        EttfsConfig,
        GanConfig,
        ImageAugmentation,
        LevelTraining,
        Normal,
        OneStepConfig,
        Phased,
        RasterNeuron,
        RasterWeights,
        Readout,
        RunningMaxRule,
        Uniform,
        Causal,
        Window,
        PatchCarry,
        TemporalRule,
        ExactRule,
        StraightThroughRule,
    )
}


def to_json(value: Any) -> Any:
    """Return a configuration as plain JSON values, each dataclass with its name under "type"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    return list(value) if isinstance(value, tuple) else value


def from_json(value: Any) -> Any:
    """Return the configuration that `to_json` wrote.

    Raises:
        InputError: an unknown type, a missing or unknown field, or a value that a field refuses.
    """
    if not isinstance(value, dict):
        return value
    fields = {name: from_json(item) for name, item in value.items() if name != "type"}
    cls = _TYPES.get(str(value.get("type")))
    if cls is None:
        raise InputError(f"configuration of unknown type {value.get('type')!r}")
    expected = {f.name for f in dataclasses.fields(cls)}
    if set(fields) != expected:
        differ = ", ".join(sorted(set(fields) ^ expected))
        raise InputError(
            f"{cls.__name__} in the configuration has missing or unknown fields: {differ} "
            "(made by another version of firstspike)"
        )
    for name, kind in get_type_hints(cls).items():
        if not _fits(fields[name], kind):
            raise InputError(f"{cls.__name__} in the configuration cannot have {name} {fields[name]!r}")
    try:
        return cls(**fields)
    except (TypeError, ValueError) as error:
        raise InputError(f"{cls.__name__} in the configuration: {error}") from error


def _check_sizes(config: GanConfig | ClassifierConfig, *names: str) -> None:
    check_num_steps(config.num_steps)
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be 1 or more, found {getattr(config, name)}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value that came from JSON is of a field's type."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in get_args(kind))
    if origin is Literal:
        return value in get_args(kind)
    if origin is tuple:
        return isinstance(value, list)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)
