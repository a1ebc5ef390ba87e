"""What defines a run of a deep network, as frozen dataclasses. Free of torch."""

import math
from dataclasses import dataclass, field
from typing import Literal

from firstspike.models.layout import PARTS, parse_layout
from firstspike.models.patches.settings import PatchCarry, one_step_parts
from firstspike.models.raster.settings import RasterNeuron, RasterWeights, Readout
from firstspike.support import InputError, check_num_steps


@dataclass(frozen=True, kw_only=True)
class ImageAugmentation:
    """Random changes of training images: `firstspike.data.augment`'s, a mirror image, a black square."""

    shift_px: float = 0.0
    rotation_deg: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic_px: float = 0.0
    flip: bool = False
    cutout_px: int = 0


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig:
    """What the networks with a layout have in common.

    Attributes:
        dataset: name known to `firstspike.data.load`.
        label_smoothing: of the cross-entropy.
        augmentation: random changes of the training images.
        precision: of activations during training; weights, validation and tests are float32.
        rate, weight_decay, batch_size, epochs: the optimiser's; the rate falls to 0 along a cosine,
        warmup: after rising over this share of all steps.
        ema: decay per step of the moving average of the weights, which is what is kept; 0 for none.
    """

    dataset: str = "mnist"
    label_smoothing: float = 0.0
    augmentation: ImageAugmentation = field(default_factory=ImageAugmentation)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    rate: float = 2e-3
    weight_decay: float = 0.01
    batch_size: int = 128
    epochs: int = 20
    warmup: float = 0.05
    ema: float = 0.0

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be float32 or bfloat16, found {self.precision!r}")
        for name in ("batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class DeepConfig(SupervisedConfig):
    """What the deep networks of spike times have in common; they train by AdamW.

    Attributes:
        layout: the hidden layers, see `firstspike.models.layout.parse_layout`.
        num_steps: ``T`` of every layer.
    """

    layout: str = "32C5s2-64C3-A2-128C3-F128"
    num_steps: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_num_steps(self.num_steps)
        parse_layout(self.layout, PARTS)


@dataclass(frozen=True, kw_only=True)
class EttfsConfig(DeepConfig):
    """A deep causal network trained over a raster (ETTFS).

    Attributes:
        code: how the first layer receives an image, see `firstspike.models.raster.network.RasterNetwork`.
        neuron, weights, readout: what it is made of.
    """

    code: Literal["current", "latency"] = "current"
    neuron: RasterNeuron = field(default_factory=RasterNeuron)
    weights: RasterWeights = field(default_factory=RasterWeights)
    readout: Readout = field(default_factory=Readout)


@dataclass(frozen=True, kw_only=True)
class DeepWindowConfig(DeepConfig):
    """A deep network of window neurons.

    Attributes:
        in_steps, out_steps: windows of the input and of the output layer.
        clip: normalised membrane at which a hidden neuron fires at step 0.
        dropout: share of the output layer's inputs cut off during training.
        sharpness: logit between an output spike at step 0 and silence.
        label_delay: output steps by which the label's spike counts as later than it is; the loss is
            content only once the label leads by so much, which makes ties rare.
        spike_penalty: weight of the mean value ``1 - t/T`` of all hidden neurons in the loss; it silences
            neurons.
    """

    in_steps: int = 16
    out_steps: int = 64
    clip: float = 2.0
    dropout: float = 0.0
    sharpness: float = 16.0
    label_delay: float = 4.0
    spike_penalty: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_num_steps(self.in_steps)
        check_num_steps(self.out_steps)
        if self.precision == "bfloat16" and max(self.num_steps, self.in_steps) > 128:
            raise InputError("bfloat16 tells 128 levels apart; take precision float32 for longer windows")
        if not self.clip > 0:
            raise ValueError(f"clip must be above 0, found {self.clip}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), found {self.dropout}")


@dataclass(frozen=True, kw_only=True)
class OneStepConfig(SupervisedConfig):
    """A network that walks over patches of the map in one time step.

    Attributes:
        layout: the hidden layers, see `firstspike.models.layout.parse_layout`.
        neuron: what is carried from patch to patch and from layer to layer.
        head_size: the head receives the mean spikes of so many parts of the map along each axis.
        dropout: share of the head's inputs cut off during training.
        mixup: parameter of the beta distribution from which the shares of mixed images are drawn; 0 for
            none.
        optimizer: "adamw", or "sgd" with momentum.
        momentum: of "sgd"; "adamw" has its own.
        clip_norm: largest norm of all gradients together; 0 for no bound.
    """

    layout: str = "32C3-D-32C3-64G-64C3-D-64C3"
    neuron: PatchCarry = field(default_factory=PatchCarry)
    head_size: int = 1
    dropout: float = 0.0
    mixup: float = 0.0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_step_parts(self.layout)
        if self.optimizer not in ("adamw", "sgd"):
            raise ValueError(f"optimizer must be adamw or sgd, found {self.optimizer!r}")
        for name in ("dropout", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), found {getattr(self, name)}")
        if self.head_size < 1:
            raise ValueError(f"head_size must be 1 or more, found {self.head_size}")
        for name in ("mixup", "clip_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, found {getattr(self, name)}")
