"""The recipes of the deep networks. Free of torch."""

from dataclasses import replace
from typing import Any

from firstspike.raster.settings import RasterNeuron, RasterWeights, Readout
from firstspike.training.deep_config import (
    DeepWindowConfig,
    EttfsConfig,
    ImageAugmentation,
)

ETTFS = "Che et al. 2024, arXiv 2410.23619 (ETTFS)"
STANOJEVIC = "Stanojevic et al. 2024, arXiv 2306.08744 (window neuron); quantised training: our own"

# Letters may not be mirrored, clothes and photographs may.
_DIGITS = ImageAugmentation(shift_px=1.5, rotation_deg=10, scale=0.1, shear=0.1, elastic_px=1)
_CLOTHES = ImageAugmentation(shift_px=2, flip=True)
_LITTLE = ImageAugmentation(shift_px=1, flip=True)
_PHOTOGRAPHS = ImageAugmentation(shift_px=4, flip=True, cutout_px=8)
_EVENTS = ImageAugmentation(shift_px=2, rotation_deg=10, scale=0.1)

_ETTFS = EttfsConfig(
    layout="32C5s2-64C3-64C3-A2-128C3-128C3-F128",
    num_steps=4,
    neuron=RasterNeuron(scale=1),
    weights=RasterWeights(norm="batch"),
    readout=Readout(gamma=1.5, scale=10, neurons_per_class=10),
    rate=3e-3,
    epochs=14,
)
_WINDOW = DeepWindowConfig(
    layout="32C3-32C3-E2-64C3-64C3-E2-128C3-128C3-F128", dropout=0.2, spike_penalty=0.5, epochs=20
)
_VGG = "64C3-64C3-{0}2-128C3-128C3-{0}2-256C3-256C3-256C3-{0}2-512C3-512C3-512C3-{0}2-F512"
_RESNET = "64C3-64R-64R-128Rs2-128R-256Rs2-256R-512Rs2-512R-A4"

# Name, what it is, source, the paper's figures and our targets, recipe.
DEEP: tuple[tuple[str, str, str, dict[str, Any], EttfsConfig | DeepWindowConfig], ...] = (
    (
        "ettfs-mnist",
        "deep causal network on one clock of 4 steps, votes of the output spikes",
        ETTFS,
        {"paper": {"accuracy": 0.9948}, "target": {"accuracy": 0.9945, "spikes_per_hidden_neuron": 1.0}},
        replace(_ETTFS, dataset="mnist", augmentation=_DIGITS),
    ),
    (
        "ettfs-fashion-mnist",
        "the same on Fashion-MNIST",
        ETTFS,
        {"paper": {"accuracy": 0.929}, "target": {"accuracy": 0.929, "spikes_per_hidden_neuron": 1.0}},
        replace(_ETTFS, dataset="fashion-mnist", augmentation=_LITTLE),
    ),
    (
        "ettfs-cifar10",
        "VGG-16 of causal neurons with average pooling",
        ETTFS,
        {"paper": {"accuracy": 0.9056}, "target": {"accuracy": 0.906}, "note": "needs a GPU"},
        replace(
            _ETTFS,
            dataset="cifar-10",
            layout=_VGG.format("A"),
            augmentation=_PHOTOGRAPHS,
            epochs=150,
        ),
    ),
    (
        "ettfs-cifar100",
        "the same on CIFAR-100",
        ETTFS,
        {"paper": {"accuracy": 0.7027}, "note": "needs a GPU"},
        replace(
            _ETTFS,
            dataset="cifar-100",
            layout=_VGG.format("A"),
            augmentation=_PHOTOGRAPHS,
            epochs=200,
        ),
    ),
    (
        "ettfs-n-mnist",
        "deep causal network on the first event of each pixel and polarity",
        ETTFS,
        {"note": "above a linear read-out of event counts"},
        replace(
            _ETTFS,
            dataset="n-mnist",
            layout="32C5s2-64C3s2-F128",
            code="latency",
            augmentation=_EVENTS,
            batch_size=32,
            epochs=20,
        ),
    ),
    (
        "ettfs-dvs-gesture",
        "five convolutions on the first event of each pixel and polarity",
        ETTFS,
        {"paper": {"accuracy": 0.9583}, "note": "not measured here"},
        replace(
            _ETTFS,
            dataset="dvs-gesture",
            layout="128C3s2-128C3-A2-128C3-A2-128C3-A2-128C3-A2-F256",
            code="latency",
            augmentation=_EVENTS,
            batch_size=16,
            epochs=100,
        ),
    ),
    (
        "window-mnist",
        "deep network of window neurons, first output spike decides",
        STANOJEVIC,
        {"target": {"accuracy": 0.9955, "spikes_per_hidden_neuron": 0.3}},
        replace(_WINDOW, dataset="mnist", augmentation=_DIGITS),
    ),
    (
        "window-fashion-mnist",
        "the same on Fashion-MNIST",
        STANOJEVIC,
        {"target": {"accuracy": 0.935, "spikes_per_hidden_neuron": 0.3}},
        replace(_WINDOW, dataset="fashion-mnist", augmentation=_CLOTHES),
    ),
    (
        "window-cifar10",
        "ResNet-18 of window neurons",
        STANOJEVIC,
        {"target": {"accuracy": 0.951}, "note": "needs a GPU"},
        replace(
            _WINDOW,
            dataset="cifar-10",
            layout=_RESNET,
            in_steps=32,
            label_smoothing=0.1,
            augmentation=_PHOTOGRAPHS,
            epochs=150,
        ),
    ),
    (
        "window-cifar100",
        "the same on CIFAR-100",
        STANOJEVIC,
        {"note": "needs a GPU"},
        replace(
            _WINDOW,
            dataset="cifar-100",
            layout=_RESNET,
            in_steps=32,
            label_smoothing=0.1,
            augmentation=_PHOTOGRAPHS,
            epochs=200,
        ),
    ),
    (
        "window-n-mnist",
        "deep network of window neurons on the first event of each pixel and polarity",
        STANOJEVIC,
        {"note": "above a linear read-out of event counts"},
        replace(
            _WINDOW,
            dataset="n-mnist",
            layout="32C5s2-64C3s2-F128",
            augmentation=_EVENTS,
            batch_size=32,
            epochs=20,
        ),
    ),
    (
        "window-dvs-gesture",
        "five convolutions of window neurons on the first event of each pixel and polarity",
        STANOJEVIC,
        {"note": "not measured here"},
        replace(
            _WINDOW,
            dataset="dvs-gesture",
            layout="64C3s2-64C3-E2-128C3-E2-128C3-E2-128C3-E2-F256",
            augmentation=_EVENTS,
            batch_size=16,
            epochs=100,
        ),
    ),
)
