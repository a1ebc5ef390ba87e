"""Training of the one-step networks."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.data import ImageSet
from firstspike.metrics.one_step import one_step_report
from firstspike.models.patches.network import OneStepNetwork
from firstspike.training.deep import augment, maps, parameter_groups
from firstspike.training.deep_config import OneStepConfig


def build_one_step(
    config: OneStepConfig, in_shape: tuple[int, int, int], num_classes: int
) -> OneStepNetwork:
    """Return a freshly drawn network; the weights come from torch's global random state."""
    return OneStepNetwork(
        config.layout,
        in_shape,
        num_classes,
        config.neuron,
        head_size=config.head_size,
        dropout=config.dropout,
    )


def mix(images: Tensor, labels: Tensor, mixup: float, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return each image blended with another one of the batch, and the labels' shares.

    One share for the batch, drawn from ``Beta(mixup, mixup)`` (Zhang et al. 2018, arXiv 1710.09412).

    Args:
        images: uint8 ``(batch, ...)``.
        labels: int64 ``(batch,)``.
        mixup: above 0; 0 mixes nothing.
        num_classes: number of labels.

    Returns:
        uint8 images and float32 ``(batch, num_classes)``.
    """
    shares = F.one_hot(labels, num_classes).to(torch.float32)
    if not mixup:
        return images, shares
    share = float(torch.distributions.Beta(mixup, mixup).sample())
    other = torch.randperm(len(images), device="cpu").to(images.device)
    blended = images.to(torch.float32).lerp(images[other].to(torch.float32), 1 - share)
    return blended.round_().to(torch.uint8), shares.lerp(shares[other], 1 - share)


@dataclass(frozen=True)
class OneStepTask:
    """A `OneStepConfig` as `firstspike.training.supervised` trains it."""

    config: OneStepConfig

    def build(self, train: ImageSet) -> OneStepNetwork:
        """Return a freshly drawn network."""
        channels, height, width = maps(train.images[:1]).shape[1:]
        return build_one_step(self.config, (channels, height, width), train.num_classes)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of `model`, which bounds the gradients' norm first."""
        config = self.config
        groups = parameter_groups(model, config.weight_decay)
        optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(groups, config.rate, fused=True)
            if config.optimizer == "adamw"
            else torch.optim.SGD(groups, config.rate, momentum=config.momentum)
        )
        if config.clip_norm:

            def bound(*_: object) -> None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)

            optimizer.register_step_pre_hook(bound)
        return optimizer

    def augment(self, images: Tensor) -> Tensor:
        """Return training images, changed at random."""
        return augment(self.config, images)

    def loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of the logits, of mixed images if the recipe says so."""
        assert isinstance(model, OneStepNetwork)
        config = self.config
        model.dtype = getattr(torch, config.precision)
        images, shares = mix(images, labels, config.mixup, model.num_classes)
        return F.cross_entropy(model(maps(images)), shares, label_smoothing=config.label_smoothing)

    def compilable(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the blocks, each with its normalisation and its walk."""
        assert isinstance(model, OneStepNetwork)
        return list(model.blocks)

    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the figures of the validation split."""
        assert isinstance(model, OneStepNetwork)
        report = one_step_report(model, maps(validation.images), validation.labels)
        return {"validation_accuracy": report.accuracy, "spikes_per_neuron": report.spikes_per_neuron}
