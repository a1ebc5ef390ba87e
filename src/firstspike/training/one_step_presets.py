"""The recipes of the one-step networks. Free of torch."""

from dataclasses import replace

from firstspike.models.patches.settings import PatchCarry
from firstspike.training.deep_config import ImageAugmentation, OneStepConfig

YAO = "Yao et al. 2023, arXiv 2401.10843 (one-step SNN)"

_CNN = "48C3-D-48C3-96G-96C3-D-96C3-192G-(192C3-D-192C3)x3-384C3-D-384C3"
_LSTM = "48L3-48B-48L3-96G-96L3-96B-96L3-192G-(192L3-96B)x3-384L3-384B-384L3"

# Not the printed rule: each layer adds what the one before left, in one patch.
_PAST_LAYERS = PatchCarry(grid=1, projection="linear", carried="layer", alpha=1, surrogate="arctan")
_SMALL = OneStepConfig(
    layout="16C3-D-16C3-64G-64C3-D-64C3-128G-128C3",
    neuron=_PAST_LAYERS,
    head_size=7,
    rate=3e-3,
    epochs=20,
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

# Name, what it is, source, expected figures, recipe.
ONE_STEP: tuple[tuple[str, str, str, str, OneStepConfig], ...] = (
    (
        "onestep-mnist",
        "small network in one time step; not the printed rule: one patch, previous layer's membrane",
        YAO,
        "99.4 % by membranes, 0.28 spikes per neuron (not in the paper)",
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
        "92.5 % by membranes, 0.32 spikes per neuron (not in the paper)",
        replace(_SMALL, dataset="fashion-mnist", augmentation=ImageAugmentation(shift_px=1, flip=True)),
    ),
    (
        "onestep-cifar10",
        "12 convolutions in one time step",
        YAO,
        "paper: 93.07 %; needs a GPU",
        replace(_PAPER, dataset="cifar-10"),
    ),
    (
        "onestep-lstm-cifar10",
        "the paper's LSTM layout in one time step",
        YAO,
        "paper: 92.68 %; needs a GPU",
        replace(_PAPER, dataset="cifar-10", layout=_LSTM),
    ),
    (
        "onestep-cifar100",
        "12 convolutions in one time step",
        YAO,
        "paper: 72.41 %; needs a GPU",
        replace(_PAPER, dataset="cifar-100"),
    ),
    (
        "onestep-lstm-cifar100",
        "the paper's LSTM layout in one time step",
        YAO,
        "paper: 72.31 %; needs a GPU",
        replace(_PAPER, dataset="cifar-100", layout=_LSTM),
    ),
    (
        "onestep-tiny-imagenet",
        "12 convolutions in one time step",
        YAO,
        "paper: 57.91 %; needs a GPU",
        replace(_PAPER, dataset="tiny-imagenet", epochs=250),
    ),
    (
        "onestep-lstm-tiny-imagenet",
        "the paper's LSTM layout in one time step",
        YAO,
        "paper: 57.55 %; needs a GPU",
        replace(_PAPER, dataset="tiny-imagenet", layout=_LSTM, epochs=250),
    ),
)
