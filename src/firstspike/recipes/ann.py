"""The ANNs that deep networks of window neurons are measured against: the same layers without spikes."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.data import ImageSet
from firstspike.decision import largest
from firstspike.metrics.cost import MULTIPLY_ADD_PJ
from firstspike.metrics.report import Progress, Report, by_class
from firstspike.models.layout import Full, parse_layout
from firstspike.models.window import PARTS, AnnNetwork, WindowLayer
from firstspike.recipes.base import DeepClassifier, maps
from firstspike.recipes.fields import Positive, Range, Share, ShareBelowOne, Steps
from firstspike.recipes.natural import SOURCE, TRAINING
from firstspike.recipes.presets import Preset
from firstspike.recipes.window import CIFAR

_BATCH = 250


@dataclass(frozen=True, kw_only=True)
class AnnRecipe(DeepClassifier):
    """The ANN of the layers of a network of window neurons.

    Attributes:
        layout: the hidden layers, see `firstspike.models.layout.parse_layout`.
        pool_first, in_steps, clip, levels: see `firstspike.models.window.NormedNetwork`.
        dropout: share of the output layer's inputs cut off during training.
        sharpness: what the output's membranes are multiplied by in the cross-entropy.
        label_smoothing: of the cross-entropy.
    """

    layout: str = "32C3-32C3-E2-64C3-64C3-E2-128C3-128C3-F128"
    pool_first: bool = False
    in_steps: Steps = 64
    levels: Annotated[int, Range(0, 128)] = 0
    clip: Positive = 2.0
    dropout: ShareBelowOne = 0.0
    sharpness: Positive = 8.0
    label_smoothing: Share = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_layout(self.layout, PARTS)

    def build(self, shape: tuple[int, ...], classes: int) -> AnnNetwork:
        """Return a freshly drawn network."""
        return AnnNetwork(
            self.layout,
            shape,
            classes,
            in_steps=self.in_steps,
            levels=self.levels,
            clip=self.clip,
            dropout=self.dropout,
            pool_first=self.pool_first,
        )

    def batch_loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        network = cast(AnnNetwork, model)
        network.dtype = self._dtype(images)
        logits = self.sharpness * network(maps(images))
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def compilable(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the layers, each with its normalisation."""
        return [module for module in model.modules() if isinstance(module, WindowLayer)]

    def report(
        self,
        model: torch.nn.Module,
        test: ImageSet,
        data_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> Report:
        """Return the accuracy, and the cost in multiply-adds."""
        network = cast(AnnNetwork, model).eval()
        network.dtype = torch.float32
        images = maps(test.images)
        found: list[Tensor] = []
        for part in images.split(_BATCH):
            with torch.no_grad():
                found.append(largest(network(part)))
            if progress is not None:
                progress(_BATCH * (len(found) - 1) + len(part))
        right = torch.cat(found) == test.labels
        shapes = [*network.parts, Full(network.num_classes)]
        dense = sum(part.multiply_adds(shape) for part, shape in zip(shapes, network.shapes, strict=True))
        return Report(
            accuracy=float(right.to(torch.float64).mean()),
            decision_rule="highest output",
            count=len(images),
            multiply_adds=dense,
            energy_pj=dense * MULTIPLY_ADD_PJ,
            accuracy_by_class=by_class(right, test.labels, network.num_classes),
        )


_ANN = AnnRecipe(
    dataset="cifar-10",
    layout=CIFAR.layout,
    pool_first=True,
    in_steps=CIFAR.in_steps,
    clip=CIFAR.clip,
    sharpness=CIFAR.loss.sharpness,
    label_smoothing=CIFAR.loss.label_smoothing,
    augmentation=CIFAR.augmentation,
    epochs=CIFAR.epochs,
    **TRAINING,
)

PRESETS = (
    Preset(
        "ann-cifar10",
        "the ReLU network of window-cifar10's layers, trained alike",
        f"reference of equal size; {SOURCE}",
        _ANN,
        one_dataset=True,
        note="no spikes",
    ),
    Preset(
        "ann-quantised-cifar10",
        "the same with the window neurons' clip and levels",
        f"reference of equal size; {SOURCE}",
        replace(_ANN, levels=CIFAR.steps),
        one_dataset=True,
        note="no spikes",
    ),
)
