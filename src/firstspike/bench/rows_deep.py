"""Rows of the deep networks' training steps, each against the same layers of torch with ReLU."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstspike.bench.harness import Pairs, repeated
from firstspike.bench.setting import Measured, Setting, need_cuda
from firstspike.data import ImageSet
from firstspike.models.layout import Conv, Full, Pool, Shape
from firstspike.models.precision import fast_precision
from firstspike.models.quantised import fire_sums
from firstspike.nn.normed import NormedConnection
from firstspike.recipes import preset
from firstspike.recipes.base import DeepClassifier
from firstspike.recipes.one_step import OneStepRecipe
from firstspike.recipes.window import WindowRecipe

_BATCH = 250
_WHOLE, _REPORT_TARGET = 10_000, 180.0


def deep_step(
    name: str, change: Callable[[Any], Any] = lambda recipe: recipe, device: str = "cpu"
) -> Callable[[Setting], Measured]:
    """Return the row of a training step of the CIFAR-10 preset `name`, its recipe changed by `change`.

    Both sides take it with the preset's optimiser, without augmentation, in the precision that the preset
    takes on the device.
    """

    def row(setting: Setting) -> Measured:
        if device == "cuda":
            need_cuda()
        recipe = cast(DeepClassifier, change(preset(name).recipe))
        shape, classes = recipe.sizes()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network: Any = recipe.build(shape, classes).to(device)
            dense = dense_like(network.parts, network.shapes, classes).to(device)
            images = torch.randint(0, 256, (_BATCH, *shape)).to(device, torch.uint8)
        labels = torch.arange(_BATCH, device=device) % classes
        values = (images / 255).to(memory_format=torch.channels_last)
        precision = recipe.precision_on(device)

        def theirs() -> Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
                return F.cross_entropy(dense(values).float(), labels)

        pairs = setting.compare(
            _step(network, recipe, lambda: recipe.batch_loss(network, images, labels)),
            _step(dense, recipe, theirs),
            torch.cuda.synchronize if device == "cuda" else None,
        )
        return Measured(pairs.scaled(1e3), f"batch {_BATCH}, without augmentation; both in {precision}")

    return row


def norm_and_levels(setting: Setting) -> Measured:
    """Batch normalisation and levels, forward and backward, against torch's operations for them."""
    shape = 128, 32, 28, 28
    dtype = torch.bfloat16 if fast_precision("cpu") == "bfloat16" else torch.float32
    generator = torch.Generator().manual_seed(0)
    sums, given = (
        torch.randn(shape, generator=generator).to(dtype, memory_format=torch.channels_last)
        for _ in range(2)
    )
    layers = [NormedConnection((32, 32, 3, 3)).train() for _ in range(2)]

    def ours() -> None:
        fire_sums(sums.clone().requires_grad_(), layers[0].norm, 8, 2.0)[0].backward(given)

    def theirs() -> None:
        membrane = layers[1].norm(sums.clone().requires_grad_())
        levels = (membrane.clamp(0, 2.0) * 4 + 0.5).floor() / 8
        # Straight through: the value of the levels, the gradient of the clipped line.
        line = membrane.clamp(0, 2.0) / 2
        (line + (levels - line).detach()).backward(given)

    return Measured(setting.compare(ours, theirs).scaled(1e3), f"{' x '.join(map(str, shape))}, {dtype}")


def whole_report(setting: Setting) -> Measured:
    """Seconds of a report on 10,000 images by ``window-cifar10-large``, a ResNet-18, against the target."""
    recipe = cast(WindowRecipe, preset("window-cifar10-large").recipe)
    shape, classes = recipe.sizes()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = recipe.build(shape, classes)
        images = torch.randint(0, 256, (_BATCH, *shape)).to(torch.uint8)
    with torch.no_grad():
        network.train()(images[:100])
    drawn = ImageSet("drawn", "test", images, torch.arange(_BATCH) % classes, classes)
    side = repeated(lambda: recipe.report(network.eval(), drawn), 0.0)
    seconds = [side() * (_WHOLE / _BATCH) for _ in range(setting.effort.repeats)]
    return Measured(
        Pairs(tuple(seconds), (_REPORT_TARGET,) * len(seconds)),
        f"exact spike times and operation counts, {_BATCH} drawn images, scaled to {_WHOLE:,}; initial "
        "weights; theirs is the target",
    )


def one_patch(recipe: OneStepRecipe) -> OneStepRecipe:
    """Return the one-step recipe with one patch, which is the whole map, and nothing carried."""
    return replace(recipe, neuron=replace(recipe.neuron, grid=1, carried="none"))


def dense_like(parts: Sequence[Any], shapes: Sequence[Shape], classes: int) -> nn.Sequential:
    """Return torch's own layers, with ReLU, in the shape of a network of convolutions and pooling.

    Args:
        parts: of the network.
        shapes: of the input and of every part's output.
        classes: outputs; of a last part that is fully connected as many as it has.
    """
    layers: list[nn.Module] = []
    norm: list[nn.Module] = []
    for part, shape in zip(parts, shapes, strict=False):
        if isinstance(part, Pool):
            layers.append((nn.MaxPool2d if part.kind == "earliest" else nn.AvgPool2d)(part.size))
        elif isinstance(part, Conv):
            layers += norm
            convolution = nn.Conv2d(
                shape[0], part.channels, part.kernel, part.stride, part.padding, bias=False
            ).requires_grad_(not part.fixed)
            layers.append(convolution)
            norm = [nn.BatchNorm2d(part.channels), nn.ReLU()]
        else:
            classes = part.features
    maps = shapes[-2] if isinstance(parts[-1], Full) else shapes[-1]
    layers += [*norm, nn.AvgPool2d((maps[1], maps[2])), nn.Flatten(), nn.Linear(maps[0], classes)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _step(model: nn.Module, recipe: DeepClassifier, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = recipe.optimizers(model)["optimizer"]

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step
