"""Training of the classifiers with one hidden layer."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.coding import encode_latency
from firstspike.data import ImageSet
from firstspike.data.augment import distort
from firstspike.losses import (
    first_spike_cross_entropy,
    membrane_cross_entropy,
    temporal_least_squares,
)
from firstspike.metrics.classification import classification_report
from firstspike.neurons import Causal, Neuron
from firstspike.nn import Linear, Stack
from firstspike.training.config import ClassifierConfig
from firstspike.training.levels import level_loss, target_times


def build_classifier(config: ClassifierConfig, in_features: int, num_classes: int) -> Stack:
    """Return a freshly drawn network; the weights come from torch's global random state."""

    def layer(inputs: int, outputs: int, num_steps: int, neuron: Neuron, dropout: float) -> Linear:
        bias = not isinstance(neuron, Causal)
        return Linear(inputs, outputs, num_steps, neuron, bias=bias, dropout=dropout)

    hidden = layer(
        in_features, config.hidden_features, config.num_steps, config.hidden_neuron, config.input_dropout
    )
    output = layer(
        config.hidden_features, num_classes, hidden.out_steps, config.output_neuron, config.hidden_dropout
    )
    for part, init in ((hidden, config.hidden_init), (output, config.output_init)):
        if init is not None:
            torch.nn.init.normal_(part.weight, init.mean, init.sd)
    return Stack([hidden, output])


def encode_images(config: ClassifierConfig, images: Tensor) -> Tensor:
    """Return images ``(batch, height, width)`` as input spike times ``(batch, pixels)``."""
    darkest = config.min_intensity / 255 if images.is_floating_point() else config.min_intensity
    return encode_latency(images.flatten(1), config.num_steps, min_intensity=darkest)


@dataclass(frozen=True)
class ClassifierTask:
    """A `ClassifierConfig` as `firstspike.training.supervised` trains it."""

    config: ClassifierConfig

    def build(self, train: ImageSet) -> Stack:
        """Return a freshly drawn network."""
        return build_classifier(self.config, train.images[0].numel(), train.num_classes)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of `model`."""
        rate, decay = self.config.rate, self.config.weight_decay
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(model.parameters(), rate, weight_decay=decay)
        return torch.optim.AdamW(model.parameters(), rate, weight_decay=decay, fused=True)

    def augment(self, images: Tensor) -> Tensor:
        """Return training images, changed at random."""
        return distort(images, **dataclasses.asdict(self.config.augmentation))

    def loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss that the configuration names."""
        assert isinstance(model, Stack)
        return _loss(self.config, model, encode_images(self.config, images), labels)

    def compilable(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return no layers: they are compiled already."""
        return []

    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the figures of the validation split; the strict accuracy chooses."""
        assert isinstance(model, Stack)
        encoded = encode_images(self.config, validation.images)
        report = classification_report(model, encoded, validation.labels, validation.num_classes)
        return {
            "validation_accuracy": report.strict.accuracy,
            "validation_accuracy_papers_rule": report.papers.accuracy,
            "validation_tie_rate": report.strict.tie_rate,
            "validation_silent_rate": report.strict.silent_rate,
            "steps_to_decision": report.steps,
            "spikes_to_decision": sum(report.spikes),
        }


def _loss(config: ClassifierConfig, model: Stack, inputs: Tensor, labels: Tensor) -> Tensor:
    """Return the loss that `config` names, a scalar, for spike times ``(batch, in_features)``."""
    if config.levels is not None:
        return level_loss(config, config.levels, model, inputs, labels)
    traced, membrane = model.read(inputs)
    hidden, output = traced[1], traced[2]
    if config.loss == "membrane":
        loss = membrane_cross_entropy(membrane, labels, config.label_smoothing)
    elif config.loss == "first_spike":
        delayed = output + config.label_delay * F.one_hot(labels, output.shape[1])
        loss = first_spike_cross_entropy(delayed, labels, model.out_steps, config.sharpness)
    else:
        targets = target_times(config, output.detach(), labels, model.out_steps)
        loss = temporal_least_squares(output, targets, model.out_steps)
    if config.spike_penalty:
        hidden_steps = next(iter(model)).out_steps
        loss = loss + config.spike_penalty * (1 - hidden / hidden_steps).sum(1).mean()
    return loss
