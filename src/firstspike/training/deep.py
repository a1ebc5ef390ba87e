"""Training of the deep networks."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.data import ImageSet
from firstspike.data.augment import cut_out, distort, flip_horizontally
from firstspike.losses import first_spike_cross_entropy
from firstspike.metrics.deep import deep_report
from firstspike.models.raster.layers import RasterLayer
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.spiking_form import spiking_form
from firstspike.models.window import WindowLayer, WindowNetwork
from firstspike.training.deep_config import (
    DeepConfig,
    DeepWindowConfig,
    EttfsConfig,
    SupervisedConfig,
)


def maps(images: Tensor) -> Tensor:
    """Return images ``(batch, height, width)`` or ``(batch, channels, height, width)`` with channels."""
    return images.unsqueeze(1) if images.dim() == 3 else images


def build_ettfs(config: EttfsConfig, in_shape: tuple[int, ...], num_classes: int) -> RasterNetwork:
    """Return a freshly drawn network; the weights come from torch's global random state."""
    return RasterNetwork(
        config.layout,
        in_shape,
        num_classes,
        config.num_steps,
        neuron=config.neuron,
        weights=config.weights,
        readout=config.readout,
        code=config.code,
    )


def build_window(config: DeepWindowConfig, in_shape: tuple[int, ...], num_classes: int) -> WindowNetwork:
    """Return a freshly drawn network; the weights come from torch's global random state."""
    return WindowNetwork(
        config.layout,
        in_shape,
        num_classes,
        in_steps=config.in_steps,
        num_steps=config.num_steps,
        out_steps=config.out_steps,
        clip=config.clip,
        dropout=config.dropout,
    )


def build_deep(
    config: EttfsConfig | DeepWindowConfig, in_shape: tuple[int, ...], num_classes: int
) -> RasterNetwork | WindowNetwork:
    """Return a freshly drawn network of either kind; the weights come from torch's global random state."""
    build = build_ettfs if isinstance(config, EttfsConfig) else build_window
    return build(config, in_shape, num_classes)  # type: ignore[arg-type]


def augment(config: SupervisedConfig, images: Tensor) -> Tensor:
    """Return training images, changed at random as `config.augmentation` says."""
    how = config.augmentation
    images = distort(
        images,
        shift_px=how.shift_px,
        rotation_deg=how.rotation_deg,
        scale=how.scale,
        shear=how.shear,
        elastic_px=how.elastic_px,
    )
    if how.flip:
        images = flip_horizontally(images)
    return cut_out(images, how.cutout_px) if how.cutout_px else images


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return `model`'s parameters for an optimiser: weights decay, the others do not."""
    # Gains, shifts and biases have one axis; pulling them to 0 would silence neurons.
    groups = [
        {
            "params": [p for p in model.parameters() if (p.dim() > 1) == decays],
            "weight_decay": weight_decay if decays else 0.0,
        }
        for decays in (True, False)
    ]
    return [group for group in groups if group["params"]]


def _optimizer(config: DeepConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameter_groups(model, config.weight_decay), config.rate, fused=True)


def judge_deep(
    model: RasterNetwork | WindowNetwork, validation: ImageSet, *, by_membrane: bool
) -> dict[str, Any]:
    """Return the figures of the validation split, measured on the layers of spike times.

    Args:
        model: the network.
        validation: images and labels.
        by_membrane: "validation_accuracy", which chooses the epoch, is that of the output membranes, which
            are no spike decision. Otherwise it is that of the output spikes, ties and silence wrong.
    """
    # Spike times have their fast kernels on the CPU, and are the same everywhere.
    form = spiking_form(copy.deepcopy(model).cpu().eval())
    report = deep_report(form, maps(validation.images), validation.labels)
    return {
        "validation_accuracy": report.accuracy_membrane if by_membrane else report.accuracy,
        "validation_accuracy_spikes": report.accuracy,
        "validation_accuracy_membrane": report.accuracy_membrane,
        "validation_tie_rate": report.tie_rate,
        "validation_silent_rate": report.silent_rate,
        "steps_to_decision": report.steps,
        "spikes_per_hidden_neuron": report.spikes_per_neuron,
    }


@dataclass(frozen=True)
class EttfsTask:
    """An `EttfsConfig` as `firstspike.training.supervised` trains it."""

    config: EttfsConfig

    def build(self, train: ImageSet) -> RasterNetwork:
        """Return a freshly drawn network."""
        return build_ettfs(self.config, tuple(maps(train.images[:1]).shape[1:]), train.num_classes)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of `model`."""
        return _optimizer(self.config, model)

    def augment(self, images: Tensor) -> Tensor:
        """Return training images, changed at random."""
        return augment(self.config, images)

    def loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of the decoder's logits."""
        assert isinstance(model, RasterNetwork)
        model.dtype = getattr(torch, self.config.precision)
        out = model(maps(images))
        return F.cross_entropy(out, labels, label_smoothing=self.config.label_smoothing)

    def compilable(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the layers, each with its normalisation and threshold."""
        return [module for module in model.modules() if isinstance(module, RasterLayer)]

    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the figures of the validation split, see `judge_deep`."""
        assert isinstance(model, RasterNetwork)
        return judge_deep(model, validation, by_membrane=self.config.readout.decoder == "membrane")


@dataclass(frozen=True)
class WindowTask:
    """A `DeepWindowConfig` as `firstspike.training.supervised` trains it."""

    config: DeepWindowConfig

    def build(self, train: ImageSet) -> WindowNetwork:
        """Return a freshly drawn network."""
        return build_window(self.config, tuple(maps(train.images[:1]).shape[1:]), train.num_classes)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of `model`."""
        return _optimizer(self.config, model)

    def augment(self, images: Tensor) -> Tensor:
        """Return training images, changed at random."""
        return augment(self.config, images)

    def loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of the output spikes' times, and the spike penalty."""
        assert isinstance(model, WindowNetwork)
        config = self.config
        model.dtype = getattr(torch, config.precision)
        _, *hidden, times = model.trace(maps(images))
        delayed = times + config.label_delay * F.one_hot(labels, times.shape[1])
        loss = first_spike_cross_entropy(
            delayed, labels, config.out_steps, config.sharpness, config.label_smoothing
        )
        if config.spike_penalty:
            share = sum(v.sum(dtype=torch.float32) for v in hidden) / sum(v.numel() for v in hidden)
            loss = loss + config.spike_penalty * share
        return loss

    def compilable(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the layers, each with its normalisation and threshold."""
        return [module for module in model.modules() if isinstance(module, WindowLayer)]

    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the figures of the validation split, see `judge_deep`."""
        assert isinstance(model, WindowNetwork)
        return judge_deep(model, validation, by_membrane=False)
