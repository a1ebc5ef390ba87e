"""Deep causal networks trained over a raster (ETTFS)."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.data import ImageSet
from firstspike.decision import Membrane, Votes
from firstspike.models.raster.layers import RasterLayer
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.raster.settings import PARTS, RasterNeuron, RasterWeights
from firstspike.recipes.augmentation import Augmentation
from firstspike.recipes.base import LayerActivity, SpikeClassifier, maps
from firstspike.recipes.fields import Share
from firstspike.recipes.natural import AUGMENTATION, SOURCE, TRAINING
from firstspike.recipes.presets import Preset

ETTFS = "Che et al. 2024, arXiv 2410.23619 (ETTFS)"


@dataclass(frozen=True, kw_only=True)
class EttfsRecipe(SpikeClassifier):
    """A deep causal network trained over a raster.

    Attributes:
        code: how the first layer receives an image, see `firstspike.models.raster.network.RasterNetwork`.
        neuron, weights, decoder: what it is made of.
        label_smoothing: of the cross-entropy.
    """

    code: Literal["current", "latency"] = "current"
    neuron: RasterNeuron = field(default_factory=RasterNeuron)
    weights: RasterWeights = field(default_factory=RasterWeights)
    decoder: Votes | Membrane = field(default_factory=Votes)
    label_smoothing: Share = 0.0

    parts: ClassVar[tuple[type[Any], ...]] = PARTS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.decoder.spikes.worth(self.steps)

    def build(self, shape: tuple[int, ...], classes: int) -> RasterNetwork:
        """Return a freshly drawn network."""
        return RasterNetwork(
            self.layout,
            shape,
            classes,
            self.steps,
            neuron=self.neuron,
            weights=self.weights,
            decoder=self.decoder,
            code=self.code,
            pool_first=self.pool_first,
        )

    def batch_loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of the decoder's logits."""
        network = cast(RasterNetwork, model)
        network.dtype = self._dtype(images)
        return F.cross_entropy(network(maps(images)), labels, label_smoothing=self.label_smoothing)

    def compilable(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the layers, each with its normalisation and threshold."""
        return [module for module in model.modules() if isinstance(module, RasterLayer)]

    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the figures of the validation split; what the network was trained by chooses."""
        figures = super().judge(model, validation)
        by = "spikes" if self.decoder.spikes is self.decoder else "membrane"
        return figures | {"validation_accuracy": figures[f"validation_accuracy_{by}"]}

    def layers(self, model: torch.nn.Module, images: Tensor) -> Iterator[LayerActivity]:
        """Yield what each layer does."""
        network = cast(RasterNetwork, model)
        network.dtype = torch.float32
        traced, membranes = network.trace(maps(images)), network.membranes(maps(images))
        for layer, spikes, membrane in zip(network.layers, traced, membranes, strict=True):
            yield LayerActivity(spikes, membrane[-1], cast(RasterLayer, layer).weight)


_DIGITS = Augmentation(shift_px=1.5, rotation_deg=10, scale=0.1, shear=0.1, elastic_px=1)
_CLOTHES = Augmentation(shift_px=1, flip=True)
_NATURAL = Augmentation(shift_px=4, flip=True, cutout_px=8)
_EVENTS = Augmentation(shift_px=2, rotation_deg=10, scale=0.1)
_RECIPE = EttfsRecipe(
    layout="32C5s2-64C3-64C3-A2-128C3-128C3-F128",
    steps=4,
    neuron=RasterNeuron(width=2),
    weights=RasterWeights(norm="batch"),
    decoder=Votes(gamma=1.5, scale=10, neurons_per_class=10),
    rate=3e-3,
    epochs=14,
)
_CIFAR = replace(
    _RECIPE,
    dataset="cifar-10",
    layout="W2-128C3-E2-128C3-384C3-E2-384C3-384C3-E2-384C3-A3",
    steps=2,
    decoder=replace(_RECIPE.decoder, neurons_per_class=30),
    label_smoothing=0.1,
    pool_first=True,
    augmentation=replace(AUGMENTATION, shift_px=4),
    epochs=16,
    **TRAINING,
)
_VGG = "64C3-64C3-A2-128C3-128C3-A2-256C3-256C3-256C3-A2-512C3-512C3-512C3-A2-F512"

PRESETS = (
    Preset(
        "ettfs-mnist",
        "deep causal network on one clock of 4 steps, votes of the output spikes",
        ETTFS,
        replace(_RECIPE, dataset="mnist", augmentation=_DIGITS),
        paper={"accuracy": 0.9948},
        target={"accuracy": 0.9945, "spikes_per_hidden_neuron": 1.0},
        one_dataset=True,
    ),
    Preset(
        "ettfs-fashion-mnist",
        "the same on Fashion-MNIST",
        ETTFS,
        replace(_RECIPE, dataset="fashion-mnist", augmentation=_CLOTHES),
        paper={"accuracy": 0.929},
        target={"accuracy": 0.929, "spikes_per_hidden_neuron": 1.0},
        one_dataset=True,
    ),
    Preset(
        "ettfs-cifar10",
        "convolutional causal network on one clock of 2 steps, an evening on two cores",
        ETTFS,
        _CIFAR,
        paper={"accuracy": 0.9056},
        target={"accuracy": 0.906},
        one_dataset=True,
        note=f"not the paper's network; {SOURCE}",
    ),
    Preset(
        "ettfs-cifar10-large",
        "VGG-16 of causal neurons with average pooling",
        ETTFS,
        replace(_RECIPE, dataset="cifar-10", layout=_VGG, augmentation=_NATURAL, epochs=150),
        paper={"accuracy": 0.9056},
        target={"accuracy": 0.906},
        one_dataset=True,
        note="needs a GPU",
    ),
    Preset(
        "ettfs-cifar100",
        "the network of ettfs-cifar10 on CIFAR-100",
        ETTFS,
        replace(_CIFAR, dataset="cifar-100"),
        paper={"accuracy": 0.7027},
        one_dataset=True,
        note=f"not measured here; {SOURCE}",
    ),
    Preset(
        "ettfs-cifar100-large",
        "VGG-16 of causal neurons on CIFAR-100",
        ETTFS,
        replace(_RECIPE, dataset="cifar-100", layout=_VGG, augmentation=_NATURAL, epochs=200),
        paper={"accuracy": 0.7027},
        one_dataset=True,
        note="needs a GPU",
    ),
    Preset(
        "ettfs-n-mnist",
        "deep causal network on the first event of each pixel and polarity",
        ETTFS,
        replace(
            _RECIPE,
            dataset="n-mnist",
            layout="32C5s2-64C3s2-F128",
            code="latency",
            augmentation=_EVENTS,
            batch_size=32,
            epochs=20,
        ),
        one_dataset=True,
        note="above a linear read-out of event counts",
    ),
    Preset(
        "ettfs-dvs-gesture",
        "five convolutions on the first event of each pixel and polarity",
        ETTFS,
        replace(
            _RECIPE,
            dataset="dvs-gesture",
            layout="128C3s2-128C3-A2-128C3-A2-128C3-A2-128C3-A2-F256",
            code="latency",
            augmentation=_EVENTS,
            batch_size=16,
            epochs=100,
        ),
        paper={"accuracy": 0.9583},
        one_dataset=True,
        note="not measured here",
    ),
)
