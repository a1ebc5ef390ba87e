"""Deep networks of window neurons, trained as quantised networks."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from firstspike.models.precision import Precision
from firstspike.models.window import PARTS, WindowLayer, WindowNetwork
from firstspike.recipes.augmentation import Augmentation
from firstspike.recipes.base import LayerActivity, SpikeClassifier, maps
from firstspike.recipes.fields import NotNegative, Positive, ShareBelowOne, Steps
from firstspike.recipes.natural import AUGMENTATION, SOURCE, TRAINING
from firstspike.recipes.presets import Preset
from firstspike.recipes.spike_losses import FirstSpikeLoss
from firstspike.spikes import Spikes
from firstspike.support import InputError

STANOJEVIC = "Stanojevic et al. 2024, arXiv 2306.08744 (window neuron); quantised training: our own"

# What bfloat16 tells apart.
_LEVELS = 128


@dataclass(frozen=True, kw_only=True)
class WindowRecipe(SpikeClassifier):
    """A deep network of window neurons.

    Attributes:
        in_steps, out_steps: windows of the input and of the output layer.
        clip: normalised membrane at which a hidden neuron fires at step 0.
        dropout: share of the output layer's inputs cut off during training.
        loss: of the output spikes.
        spike_penalty: weight of the mean value ``1 - t/T`` of all hidden neurons in the loss; it silences
            neurons.
    """

    in_steps: Steps = 16
    out_steps: Steps = 64
    clip: Positive = 2.0
    dropout: ShareBelowOne = 0.0
    loss: FirstSpikeLoss = field(default_factory=lambda: FirstSpikeLoss(sharpness=16.0, label_delay=4.0))
    spike_penalty: NotNegative = 0.0

    parts: ClassVar[tuple[type[Any], ...]] = PARTS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.loss.check_steps(self.out_steps)
        if self.precision == "bfloat16" and max(self.steps, self.in_steps) > _LEVELS:
            raise InputError("bfloat16 tells 128 levels apart; take precision float32 for longer windows")

    def precision_on(self, device: str) -> Precision:
        """Return the precision of a training on `device`; of long windows float32."""
        long = max(self.steps, self.in_steps) > _LEVELS
        return "float32" if long else super().precision_on(device)

    def build(self, shape: tuple[int, ...], classes: int) -> WindowNetwork:
        """Return a freshly drawn network."""
        return WindowNetwork(
            self.layout,
            shape,
            classes,
            in_steps=self.in_steps,
            steps=self.steps,
            out_steps=self.out_steps,
            clip=self.clip,
            dropout=self.dropout,
            pool_first=self.pool_first,
        )

    def batch_loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch, and the spike penalty."""
        network = cast(WindowNetwork, model)
        network.dtype = self._dtype(images)
        if not self.spike_penalty:
            return self.loss(network(maps(images)), labels)
        out, mean = network.with_mean(maps(images))
        return self.loss(out, labels) + self.spike_penalty * mean

    def compilable(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the layers, each with its normalisation and threshold."""
        return [module for module in model.modules() if isinstance(module, WindowLayer)]

    def layers(self, model: torch.nn.Module, images: Tensor) -> Iterator[LayerActivity]:
        """Yield what each layer does."""
        network = cast(WindowNetwork, model)
        network.dtype = torch.float32
        (_, *values), out = network.trace(maps(images))
        *membranes, output = network.membranes(maps(images))
        for layer, value, membrane in zip(network.layers, values, membranes, strict=True):
            times = torch.round((1 - value) * self.steps)
            yield LayerActivity(Spikes.trusted(times, self.steps), membrane, layer.weight)
        yield LayerActivity(out, output, network.output.weight)

    def without_dropout(self, model: torch.nn.Module) -> None:
        """Take dropout out of a model whose layers are looked into."""
        cast(WindowNetwork, model).dropout = 0.0


_DIGITS = Augmentation(shift_px=1.5, rotation_deg=10, scale=0.1, shear=0.1, elastic_px=1)
_CLOTHES = Augmentation(shift_px=2, flip=True)
_NATURAL = Augmentation(shift_px=4, flip=True, cutout_px=8)
_EVENTS = Augmentation(shift_px=2, rotation_deg=10, scale=0.1)
_RECIPE = WindowRecipe(
    layout="32C3-32C3-E2-64C3-64C3-E2-128C3-128C3-F128", dropout=0.2, spike_penalty=0.5, epochs=20
)
_RESNET = replace(
    _RECIPE,
    layout="64C3-64R-64R-128Rs2-128R-256Rs2-256R-512Rs2-512R-A4",
    in_steps=32,
    loss=replace(_RECIPE.loss, label_smoothing=0.1),
    augmentation=_NATURAL,
)
CIFAR = WindowRecipe(
    dataset="cifar-10",
    layout="W2-128C3-E2-128C3-384C3-E2-384C3-384C3-E2-384C3-E3",
    in_steps=64,
    out_steps=256,
    clip=3.0,
    pool_first=True,
    loss=FirstSpikeLoss(sharpness=8.0, label_delay=16.0, label_smoothing=0.2),
    augmentation=replace(AUGMENTATION, shift_px=4, cutout_px=8),
    epochs=24,
    **TRAINING,
)

PRESETS = (
    Preset(
        "window-mnist",
        "deep network of window neurons, first output spike decides",
        STANOJEVIC,
        replace(_RECIPE, dataset="mnist", augmentation=_DIGITS),
        target={"accuracy": 0.9955, "spikes_per_hidden_neuron": 0.3},
        one_dataset=True,
    ),
    Preset(
        "window-fashion-mnist",
        "the same on Fashion-MNIST",
        STANOJEVIC,
        replace(_RECIPE, dataset="fashion-mnist", augmentation=_CLOTHES),
        target={"accuracy": 0.935, "spikes_per_hidden_neuron": 0.3},
        one_dataset=True,
    ),
    Preset(
        "window-cifar10",
        "convolutional network of window neurons, an evening on two cores",
        STANOJEVIC,
        CIFAR,
        target={"accuracy": 0.94, "spikes_per_hidden_neuron": 0.3},
        one_dataset=True,
        note=SOURCE,
    ),
    Preset(
        "window-cifar10-large",
        "ResNet-18 of window neurons",
        STANOJEVIC,
        replace(_RESNET, dataset="cifar-10", epochs=150),
        target={"accuracy": 0.951},
        one_dataset=True,
        note="needs a GPU",
    ),
    Preset(
        "window-cifar100",
        "the network of window-cifar10 on CIFAR-100",
        STANOJEVIC,
        replace(CIFAR, dataset="cifar-100"),
        one_dataset=True,
        note=f"not measured here; {SOURCE}",
    ),
    Preset(
        "window-cifar100-large",
        "ResNet-18 of window neurons on CIFAR-100",
        STANOJEVIC,
        replace(_RESNET, dataset="cifar-100", epochs=200),
        one_dataset=True,
        note="needs a GPU",
    ),
    Preset(
        "window-n-mnist",
        "deep network of window neurons on the first event of each pixel and polarity",
        STANOJEVIC,
        replace(
            _RECIPE,
            dataset="n-mnist",
            layout="32C5s2-64C3s2-F128",
            augmentation=_EVENTS,
            batch_size=32,
            epochs=20,
        ),
        one_dataset=True,
        note="above a linear read-out of event counts",
    ),
    Preset(
        "window-dvs-gesture",
        "five convolutions of window neurons on the first event of each pixel and polarity",
        STANOJEVIC,
        replace(
            _RECIPE,
            dataset="dvs-gesture",
            layout="64C3s2-64C3-E2-128C3-E2-128C3-E2-128C3-E2-F256",
            augmentation=_EVENTS,
            batch_size=16,
            epochs=100,
        ),
        one_dataset=True,
        note="not measured here",
    ),
)
