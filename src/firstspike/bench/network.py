"""The data and the trained network that the rows share.

Initial weights drive a network otherwise than trained ones: other neurons fire, at other steps. So
everything is measured with the weights of a short training.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor
from torch.nn import functional as F

from firstspike.codes import encode_latency
from firstspike.data import ImageSet, load
from firstspike.losses import aggressive_targets, temporal_least_squares
from firstspike.neurons import Causal
from firstspike.nn import Layer, Linear, Stack
from firstspike.recipes import preset
from firstspike.recipes.fields import to_json
from firstspike.recipes.shallow import ShallowRecipe
from firstspike.spikes import Spikes
from firstspike.support import InputError, cache_dir
from firstspike.training.loop import train_recipe
from firstspike.training.run_folder import RunFolder

STEPS = 256
SIZES = (784, 400, 10)
BATCH = 256
WIDTH = 4096
BATCHES = 20
PRESET = "aggressive-ttfs-causal"
EPOCHS = {"mnist": 3, "digits": 10}
NEURON = Causal(threshold=1.0, norm="l1")
# Every side takes its optimiser's step, but the weights stay those of the training.
RATE = 1e-6
# A multiple of this is exact in float32, and so is every sum of them, whatever its order. A peer that
# adds in another order finds the same spike times to the last step.
_GRID = 1 / 1024


@dataclass(frozen=True, eq=False)
class Workload:
    """Images and trained weights.

    Attributes:
        data: "mnist" or "digits".
        origin: where the weights come from, in words.
        images: uint8 ``(5120, 28, 28)``, twenty batches.
        labels: int64 ``(5120,)``.
        weights: trained, of both layers, ``(400, 784)`` and ``(10, 400)``, threshold 1.
        all_images: how many images an epoch has.
    """

    data: str
    origin: str
    images: Tensor
    labels: Tensor
    weights: tuple[Tensor, Tensor]
    all_images: int

    def spikes(self, steps: int = STEPS) -> Spikes:
        """Return the images as spikes ``(5120, 784)``.

        More steps than 256 are the times of 256, spread: the same spikes in the same order.
        """
        spikes = encode_latency(self.images.flatten(1), STEPS)
        return Spikes.trusted(spikes.times * (steps // STEPS), steps)

    def stack(self, steps: int = STEPS) -> Stack:
        """Return the causal network with the trained weights."""
        return causal_stack(self.weights, steps)


def causal_stack(weights: tuple[Tensor, ...], steps: int) -> Stack:
    """Return causal layers of `NEURON` with copies of `weights`."""
    layers = []
    for weight in weights:
        layer = Linear(weight.shape[1], weight.shape[0], NEURON)
        with torch.no_grad():
            layer.weight.copy_(weight)
        layers.append(layer)
    return Stack(*layers, steps=steps)


def workload(data: str, *, data_dir: Path | None = None, run: Path | None = None) -> Workload:
    """Return the data and the weights of `run`, or of a short training that the cache keeps.

    Args:
        data: "mnist", or "digits": the embedded digits, enlarged and repeated to MNIST's shapes.
        data_dir: folder with MNIST.
        run: a finished run of a causal 784-400-10 classifier with 256 steps.

    Raises:
        InputError: there is no data, or `run` is not such a run.
        OSError: data or run cannot be read, or the cache cannot be written.
    """
    train, validation = (_images(data, split, data_dir) for split in ("train", "validation"))
    folder = _trained(data, train, validation) if run is None else RunFolder.open(run)
    weights = _weights(folder)
    count = BATCH * BATCHES
    chosen = torch.arange(count) % len(train)
    epochs = f"{EPOCHS[data]} epochs" if run is None else "a finished run"
    return Workload(
        data=data,
        origin=f"{folder.preset}, {epochs}, seed {folder.seed}, rounded to 1/1024",
        images=train.images[chosen],
        labels=train.labels[chosen],
        weights=weights,
        all_images=max(len(train), count),
    )


def enlarged(images: ImageSet) -> ImageSet:
    """Return 8 x 8 images as 28 x 28: each pixel nine times, in a black frame as MNIST's."""
    big = images.images.repeat_interleave(3, 1).repeat_interleave(3, 2)
    return replace(images, images=F.pad(big, (2, 2, 2, 2)))


def _images(data: str, split: str, data_dir: Path | None) -> ImageSet:
    images = load(data, split, data_dir)
    return enlarged(images) if data == "digits" else images


def _trained(data: str, train: ImageSet, validation: ImageSet) -> RunFolder:
    """Return the run that the cache holds; make it first if there is none."""
    config = preset(PRESET).configure(epochs=EPOCHS[data])
    mark = hashlib.sha256(json.dumps(to_json(config), sort_keys=True).encode()).hexdigest()[:8]
    path = cache_dir() / "bench" / f"{PRESET}-{data}-{mark}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        folder = RunFolder.create(path, PRESET, config, seed=0, resume=True)
        if not folder.finished:
            train_recipe(folder, train, validation, show_progress=False)
    return folder


def _weights(folder: RunFolder) -> tuple[Tensor, Tensor]:
    config = folder.config
    sizes = f"{'-'.join(map(str, SIZES))} classifier of causal neurons with {STEPS} steps"
    if (
        not isinstance(config, ShallowRecipe)
        or (config.steps, config.hidden_features) != (STEPS, SIZES[1])
        or config.dataset == "digits"
        or any(n.events() is None for n in (config.hidden_neuron, config.output_neuron))
    ):
        raise InputError(f"{folder.path} is a run of {folder.preset}; expected one of a {sizes}")
    model = config.build((1, 1, SIZES[0]), SIZES[2])
    folder.load_model(model)
    hidden, output = model
    return _on_grid(hidden), _on_grid(output)


def _on_grid(layer: Layer) -> Tensor:
    """Return the layer's weights at threshold 1, rounded."""
    events = layer.neuron.events()
    assert events is not None
    return torch.round(layer.weight.detach() / events.threshold / _GRID) * _GRID


def wide(weights: tuple[Tensor, Tensor], width: int) -> tuple[Tensor, Tensor]:
    """Return the weights of a network with `width` hidden neurons that fires like the trained one.

    Its hidden neurons are the trained ones, each about ``width / 400`` times, with output weights in
    that proportion.
    """
    hidden, output = weights
    chosen = torch.arange(width) % len(hidden)
    shrunk = torch.round(output * (len(hidden) / width) / _GRID) * _GRID
    return hidden[chosen], shrunk[:, chosen]


def batches(*data: Tensor | Spikes, size: int = BATCH) -> Iterator[tuple[Any, ...]]:
    """Return an endless walk through the batches of `data`; a processor learns a repeated one."""
    return itertools.cycle(list(zip(*(part.split(size) for part in data), strict=True)))


def training_step(
    model: torch.nn.Module,
    loss: Callable[[Any, Tensor], Tensor],
    data: Iterator[tuple[Any, ...]],
) -> Callable[[], None]:
    """Return a function that takes one step of plain SGD: loss, backward, update.

    Args:
        model: whose parameters learn.
        loss: of inputs and labels.
        data: inputs and labels.
    """
    optimizer = torch.optim.SGD(model.parameters(), RATE)

    def step() -> None:
        inputs, labels = next(data)
        optimizer.zero_grad()
        loss(inputs, labels).backward()
        optimizer.step()

    return step


def causal_loss(model: Stack) -> Callable[[Spikes, Tensor], Tensor]:
    """Return the half squared error of `model` against the aggressive targets (Spiking-GAN Eqs. 4-7)."""

    def loss(spikes: Spikes, labels: Tensor) -> Tensor:
        out = model(spikes)
        return temporal_least_squares(out, aggressive_targets(out.detach(), labels))

    return loss


def dense_network(sizes: tuple[int, ...] = SIZES) -> torch.nn.Sequential:
    """Return the ANN of the same size: linear, ReLU, linear."""
    return torch.nn.Sequential(
        torch.nn.Linear(sizes[0], sizes[1]), torch.nn.ReLU(), torch.nn.Linear(sizes[1], sizes[2])
    )


def dense_loss(model: torch.nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the cross-entropy of `model`."""
    return lambda images, labels: F.cross_entropy(model(images), labels)
