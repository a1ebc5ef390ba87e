"""The training loop of the classifiers."""

import copy
import dataclasses
import math
import time

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
from firstspike.training.optimizer import (
    expected_tensors,
    load_optimizer,
    module_tensors,
    optimizer_tensors,
    set_rate,
    tensors_under,
    update_average,
)
from firstspike.training.progress import epochs
from firstspike.training.run_folder import RunFolder, RunState
from firstspike.training.seeding import seeded


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
    return encode_latency(images.flatten(1), config.num_steps, min_intensity=config.min_intensity)


def train_classifier(
    run: RunFolder, train: ImageSet, validation: ImageSet, *, show_progress: bool = True
) -> Stack:
    """Train the run's classifier from where the run stands; return the epoch that validation chose.

    The kept weights are those after the epoch with the highest strict validation accuracy, the later
    of equals.

    Args:
        run: an open run of a `ClassifierConfig`.
        train, validation: images and labels.
        show_progress: draw a bar on stderr.
    """
    config = run.config
    assert isinstance(config, ClassifierConfig)
    with seeded(run.seed, "initial"):
        model = build_classifier(config, train.images[0].numel(), train.num_classes)
    modules = {"model": model, "average": copy.deepcopy(model), "best": copy.deepcopy(model)}
    optimizer = _optimizer(config, model)
    state = run.load_state(module_tensors(modules) | expected_tensors(optimizer, "optimizer"))
    if state.epoch:
        run.write_metrics(state)
        for name, module in modules.items():
            module.load_state_dict(tensors_under(state.tensors, name))
        load_optimizer(optimizer, state.tensors, "optimizer")

    fixed = encode_images(config, validation.images)
    records = list(state.records)
    steps_per_epoch = math.ceil(len(train) / config.batch_size)
    total_steps = config.epochs * steps_per_epoch
    for epoch in epochs(state.epoch, config.epochs, run.path.name, records, show=show_progress):
        began = time.perf_counter()
        model.train()
        total = 0.0
        with seeded(run.seed, "epoch", epoch):
            batches = torch.randperm(len(train)).split(config.batch_size)
            for index, batch in enumerate(batches):
                step = epoch * steps_per_epoch + index
                set_rate(optimizer, config.rate * _schedule(step, total_steps, config.warmup))
                images = distort(train.images[batch], **dataclasses.asdict(config.augmentation))
                loss = _loss(config, model, encode_images(config, images), train.labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                update_average(modules["average"], model, config.ema)
                total += float(loss.detach()) * len(batch)
        average = modules["average"]
        assert isinstance(average, Stack)
        report = classification_report(average, fixed, validation.labels, validation.num_classes)
        accuracy = report.strict.accuracy
        if accuracy >= max((r["validation_accuracy"] for r in records), default=0.0):
            modules["best"].load_state_dict(average.state_dict())
        records.append(
            {
                "epoch": epoch + 1,
                "loss": total / len(train),
                "validation_accuracy": accuracy,
                "validation_accuracy_papers_rule": report.papers.accuracy,
                "validation_tie_rate": report.strict.tie_rate,
                "validation_silent_rate": report.strict.silent_rate,
                "steps_to_decision": report.steps,
                "spikes_to_decision": sum(report.spikes),
                "seconds": time.perf_counter() - began,
            }
        )
        tensors = module_tensors(modules) | optimizer_tensors(optimizer, "optimizer")
        run.save_state(RunState(tensors, records))
    best = modules["best"]
    assert isinstance(best, Stack)
    run.save_model(best.state_dict())
    return best


def _schedule(step: int, total: int, warmup: float) -> float:
    """The rate's factor: up linearly over the share `warmup`, times a half cosine down to 0."""
    rise = min(1.0, (step + 1) / max(warmup * total, 1))
    return rise * 0.5 * (1 + math.cos(math.pi * step / total))


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


def _optimizer(config: ClassifierConfig, model: Stack) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), config.rate, weight_decay=config.weight_decay)
    return torch.optim.AdamW(model.parameters(), config.rate, weight_decay=config.weight_decay, fused=True)
