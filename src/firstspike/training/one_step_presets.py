"""The recipes of the one-step networks. Free of torch."""

from dataclasses import replace
from typing import Any

from firstspike.onestep.settings import WindowCarry
from firstspike.training.deep_config import ImageAugmentation, OneStepConfig

YAO = "Yao et al. 2023, arXiv 2401.10843 (one-step SNN)"

_CNN = "48-F48-48-P96-96-F96-96-P192-(192-F192-192)x3-384-F384-384"
_LSTM = "L48-M48-L48-P96-L96-M96-L96-P192-(L192-M96)x3-L384-M384-L384"

# Not the printed rule: each layer adds what the one before left, in one window.
_PAST_LAYERS = WindowCarry(grid=1, projection="linear", carried="layer", alpha=1, surrogate="arctan")
_SMALL = OneStepConfig(
    layout="16-F16-16-P64-64-F64-64-P128-128", neuron=_PAST_LAYERS, head_size=7, rate=3e-3, epochs=20
)
_PAPER = OneStepConfig(
    layout=_CNN,
    augmentation=ImageAugmentation(shift_px=4, flip=True),
    dropout=0.1,
    mixup=0.1,
    label_smoothing=0.1,
    optimizer="sgd",
    rate=0.05,
    weight_decay=2e-5,
    clip_norm=20.0,
    warmup=0.02,
    epochs=300,
)

# Name, what it is, source, the paper's figures and our targets, recipe.
ONE_STEP: tuple[tuple[str, str, str, dict[str, Any], OneStepConfig], ...] = (
    (
        "onestep-mnist",
        "small network in one time step; not the printed rule: one window, previous layer's membrane",
        YAO,
        {"target": {"accuracy": 0.993}, "note": "not in the paper"},
        replace(
            _SMALL,
            dataset="mnist",
            augmentation=ImageAugmentation(shift_px=1.5, rotation_deg=10, scale=0.1, shear=0.1),
            epochs=10,
        ),
    ),
    (
        "onestep-fashion-mnist",
        "the same on Fashion-MNIST",
        YAO,
        {"target": {"accuracy": 0.92}, "note": "not in the paper"},
        replace(_SMALL, dataset="fashion-mnist", augmentation=ImageAugmentation(shift_px=1, flip=True)),
    ),
    (
        "onestep-cifar10",
        "12 convolutions in one time step",
        YAO,
        {"paper": {"accuracy": 0.9307}, "target": {"accuracy": 0.931}, "note": "needs a GPU"},
        replace(_PAPER, dataset="cifar-10"),
    ),
    (
        "onestep-lstm-cifar10",
        "the paper's LSTM layout in one time step",
        YAO,
        {"paper": {"accuracy": 0.9268}, "target": {"accuracy": 0.927}, "note": "needs a GPU"},
        replace(_PAPER, dataset="cifar-10", layout=_LSTM),
    ),
    (
        "onestep-cifar100",
        "12 convolutions in one time step",
        YAO,
        {"paper": {"accuracy": 0.7241}, "note": "needs a GPU"},
        replace(_PAPER, dataset="cifar-100"),
    ),
    (
        "onestep-lstm-cifar100",
        "the paper's LSTM layout in one time step",
        YAO,
        {"paper": {"accuracy": 0.7231}, "note": "needs a GPU"},
        replace(_PAPER, dataset="cifar-100", layout=_LSTM),
    ),
    (
        "onestep-tiny-imagenet",
        "12 convolutions in one time step",
        YAO,
        {"paper": {"accuracy": 0.5791}, "note": "needs a GPU"},
        replace(_PAPER, dataset="tiny-imagenet", epochs=250),
    ),
    (
        "onestep-lstm-tiny-imagenet",
        "the paper's LSTM layout in one time step",
        YAO,
        {"paper": {"accuracy": 0.5755}, "note": "needs a GPU"},
        replace(_PAPER, dataset="tiny-imagenet", layout=_LSTM, epochs=250),
    ),
)
