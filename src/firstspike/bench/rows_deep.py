"""The row of a deep window network's training step."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstspike.bench.setting import Measured, Setting
from firstspike.models.layout import Conv, Pool
from firstspike.models.window import WindowNetwork
from firstspike.recipes import preset
from firstspike.recipes.window import WindowRecipe

_PRESET, _BATCH = "window-cifar10", 250


def deep_window(setting: Setting) -> Measured:
    """A training step of the preset against the same network of torch's ReLU layers in float32.

    Both take the step with the preset's optimiser.
    """
    recipe = cast(WindowRecipe, preset(_PRESET).recipe)
    shape, classes = recipe.sizes()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = recipe.build(shape, classes)
        dense = dense_like(network)
        images = torch.randint(0, 256, (_BATCH, *shape)).to(torch.uint8)
    labels = torch.arange(_BATCH) % classes
    values = (images / 255).contiguous(memory_format=torch.channels_last)
    pairs = setting.compare(
        _step(network, recipe, lambda: recipe.batch_loss(network, images, labels)),
        _step(dense, recipe, lambda: F.cross_entropy(dense(values), labels)),
    )
    return Measured(
        pairs.scaled(1e3),
        f"{_PRESET}, batch {_BATCH}, without augmentation; in {recipe.precision_on('cpu')}",
    )


def dense_like(network: WindowNetwork) -> nn.Sequential:
    """Return torch's own layers in the shape of a network of convolutions and earliest-spike pooling."""
    layers: list[nn.Module] = []
    norm: list[nn.Module] = []
    for part, shape in zip(network.parts, network.shapes, strict=False):
        if isinstance(part, Pool):
            layers.append(nn.MaxPool2d(part.size))
            continue
        assert isinstance(part, Conv)
        layers += norm
        convolution = nn.Conv2d(
            shape[0], part.channels, part.kernel, part.stride, part.padding, bias=False
        ).requires_grad_(not part.fixed)
        layers.append(convolution)
        norm = [nn.BatchNorm2d(part.channels), nn.ReLU()]
    layers += [*norm, nn.Flatten(), nn.Linear(network.output.in_features, network.num_classes)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _step(model: nn.Module, recipe: WindowRecipe, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = recipe.optimizers(model)["optimizer"]

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step
