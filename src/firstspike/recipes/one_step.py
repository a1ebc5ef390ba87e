"""Networks that walk over patches in one time step."""

from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.data import ImageSet
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.settings import PatchCarry, one_step_parts
from firstspike.recipes.augmentation import Augmentation
from firstspike.recipes.base import DeepClassifier, maps
from firstspike.recipes.fields import Count, NotNegative, Share, ShareBelowOne
from firstspike.recipes.natural import AUGMENTATION, SOURCE, TRAINING
from firstspike.recipes.optimizers import Sgd
from firstspike.recipes.presets import Preset

YAO = "Yao et al. 2023, arXiv 2401.10843 (one-step SNN)"


def mix(images: Tensor, labels: Tensor, mixup: float, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return each image blended with another one of the batch, and the labels' shares.

    One share for the batch, drawn from ``Beta(mixup, mixup)`` (Zhang et al. 2018, arXiv 1710.09412).

    Args:
        images: uint8 or floating point ``(batch, ...)``.
        labels: int64 ``(batch,)``.
        mixup: above 0; 0 mixes nothing.
        num_classes: number of labels.

    Returns:
        images of the same type and float32 ``(batch, num_classes)``.
    """
    shares = F.one_hot(labels, num_classes).to(torch.float32)
    if not mixup:
        return images, shares
    share = float(torch.distributions.Beta(mixup, mixup).sample())
    other = torch.randperm(len(images), device="cpu").to(images.device)
    blended = images.to(torch.float32).lerp(images[other].to(torch.float32), 1 - share)
    if not images.is_floating_point():
        blended.round_()
    return blended.to(images.dtype), shares.lerp(shares[other], 1 - share)


@dataclass(frozen=True, kw_only=True)
class OneStepRecipe(DeepClassifier):
    """A network that walks over patches in one time step.

    Attributes:
        layout: the hidden layers, see `firstspike.models.layout.parse_layout`.
        neuron: what is carried from patch to patch and from layer to layer.
        head_size: the head receives the mean spikes of so many parts of the map along each axis.
        dropout: share of the head's inputs cut off during training.
        mixup: parameter of the beta distribution from which the shares of mixed images are drawn; 0 for
            none.
        label_smoothing: of the cross-entropy.
        clip_norm: largest norm of all gradients together; 0 for no bound.
    """

    layout: str = "32C3-D-32C3-64G-64C3-D-64C3"
    neuron: PatchCarry = field(default_factory=PatchCarry)
    head_size: Count = 1
    dropout: ShareBelowOne = 0.0
    mixup: NotNegative = 0.0
    label_smoothing: Share = 0.0
    clip_norm: NotNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_step_parts(self.layout)

    def build(self, shape: tuple[int, ...], classes: int) -> OneStepNetwork:
        """Return a freshly drawn network."""
        channels, height, width = shape
        return OneStepNetwork(
            self.layout,
            (channels, height, width),
            classes,
            self.neuron,
            head_size=self.head_size,
            dropout=self.dropout,
        )

    def optimizers(self, model: torch.nn.Module) -> dict[str, torch.optim.Optimizer]:
        """Return the optimiser, which bounds the gradients' norm first."""
        optimizers = super().optimizers(model)
        if self.clip_norm:

            def bound(*_: object) -> None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), self.clip_norm)

            optimizers["optimizer"].register_step_pre_hook(bound)
        return optimizers

    def batch_loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of the logits, of mixed images if the recipe says so."""
        network = cast(OneStepNetwork, model)
        network.dtype = self._dtype(images)
        images, shares = mix(images, labels, self.mixup, network.num_classes)
        return F.cross_entropy(network(maps(images)), shares, label_smoothing=self.label_smoothing)

    def compilable(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the blocks, each with its normalisation and its walk."""
        return list(cast(OneStepNetwork, model).blocks)

    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the figures of the validation split."""
        found = self.report(model, validation)
        return {"validation_accuracy": found.accuracy, "spikes_per_neuron": found.spikes_per_neuron}


_CNN = "48C3-D-48C3-96G-96C3-D-96C3-192G-(192C3-D-192C3)x3-384C3-D-384C3"
_LSTM = "48L3-48B-48L3-96G-96L3-96B-96L3-192G-(192L3-96B)x3-384L3-384B-384L3"

# Not the printed rule: each layer adds what the one before left, in one patch.
_PAST_LAYERS = PatchCarry(grid=1, projection="linear", carried="layer", alpha=1, surrogate="arctan")
_SMALL = OneStepRecipe(
    layout="16C3-D-16C3-64G-64C3-D-64C3-128G-128C3", neuron=_PAST_LAYERS, head_size=7, rate=3e-3, epochs=20
)
_PAPER = OneStepRecipe(
    layout=_CNN,
    augmentation=Augmentation(shift_px=4, flip=True),
    dropout=0.1,
    mixup=0.1,
    label_smoothing=0.1,
    optimizer=Sgd(),
    rate=0.05,
    weight_decay=2e-5,
    clip_norm=20.0,
    warmup=0.02,
    epochs=300,
)
_CIFAR = OneStepRecipe(
    dataset="cifar-10",
    layout="64C3-64C3-E2-64C3-256C3-E2-256C3-256C3-E2-256C3",
    neuron=PatchCarry(width=2.0),
    label_smoothing=0.2,
    augmentation=AUGMENTATION,
    epochs=16,
    **TRAINING,
)
_PAPER_LSTM = replace(_PAPER, layout=_LSTM)

PRESETS = (
    Preset(
        "onestep-mnist",
        "small network in one time step; not the printed rule: one patch, previous layer's membrane",
        YAO,
        replace(
            _SMALL,
            dataset="mnist",
            augmentation=Augmentation(shift_px=1.5, rotation_deg=10, scale=0.1, shear=0.1),
            epochs=10,
        ),
        target={"accuracy": 0.993},
        one_dataset=True,
        note="not in the paper",
    ),
    Preset(
        "onestep-fashion-mnist",
        "the same on Fashion-MNIST",
        YAO,
        replace(_SMALL, dataset="fashion-mnist", augmentation=Augmentation(shift_px=1, flip=True)),
        target={"accuracy": 0.92},
        one_dataset=True,
        note="not in the paper",
    ),
    Preset(
        "onestep-cifar10",
        "six convolutions in one time step, an evening on two cores",
        YAO,
        _CIFAR,
        paper={"accuracy": 0.9307},
        target={"accuracy": 0.905},
        one_dataset=True,
        note=f"not the paper's network; {SOURCE}",
    ),
    Preset(
        "onestep-cifar100",
        "the network of onestep-cifar10 on CIFAR-100",
        YAO,
        replace(_CIFAR, dataset="cifar-100"),
        paper={"accuracy": 0.7241},
        one_dataset=True,
        note=f"not measured here; {SOURCE}",
    ),
    Preset(
        "onestep-cifar10-large",
        "12 convolutions in one time step",
        YAO,
        replace(_PAPER, dataset="cifar-10"),
        paper={"accuracy": 0.9307},
        target={"accuracy": 0.931},
        one_dataset=True,
        note="needs a GPU",
    ),
    Preset(
        "onestep-lstm-cifar10-large",
        "the paper's LSTM layout in one time step",
        YAO,
        replace(_PAPER_LSTM, dataset="cifar-10"),
        paper={"accuracy": 0.9268},
        target={"accuracy": 0.927},
        one_dataset=True,
        note="needs a GPU",
    ),
    Preset(
        "onestep-cifar100-large",
        "12 convolutions in one time step",
        YAO,
        replace(_PAPER, dataset="cifar-100"),
        paper={"accuracy": 0.7241},
        one_dataset=True,
        note="needs a GPU",
    ),
    Preset(
        "onestep-lstm-cifar100-large",
        "the paper's LSTM layout in one time step",
        YAO,
        replace(_PAPER_LSTM, dataset="cifar-100"),
        paper={"accuracy": 0.7231},
        one_dataset=True,
        note="needs a GPU",
    ),
    Preset(
        "onestep-tiny-imagenet",
        "12 convolutions in one time step",
        YAO,
        replace(_PAPER, dataset="tiny-imagenet", epochs=250),
        paper={"accuracy": 0.5791},
        one_dataset=True,
        note="needs a GPU",
    ),
    Preset(
        "onestep-lstm-tiny-imagenet",
        "the paper's LSTM layout in one time step",
        YAO,
        replace(_PAPER_LSTM, dataset="tiny-imagenet", epochs=250),
        paper={"accuracy": 0.5755},
        one_dataset=True,
        note="needs a GPU",
    ),
)
