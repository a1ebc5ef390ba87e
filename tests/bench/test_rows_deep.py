"""The dense networks that deep ones are compared with."""

import pytest
import torch
from torch import nn

from firstspike.bench.rows_deep import dense_like, one_patch
from firstspike.models.layout import Conv
from firstspike.recipes import preset


@pytest.mark.parametrize(
    ("name", "outputs"), [("window-cifar10", 10), ("ettfs-cifar10", 300), ("onestep-cifar10", 10)]
)
def test_the_dense_network_has_the_same_convolutions(name, outputs):
    recipe = preset(name).recipe
    shape, classes = recipe.sizes()
    network = recipe.build(shape, classes)
    dense = dense_like(network.parts, network.shapes, classes)
    ours = [tuple(p.shape) for p in network.parameters() if p.dim() == 4]
    found = [layer.weight for layer in dense if isinstance(layer, nn.Conv2d)]
    assert ours == [tuple(weight.shape) for weight in found]
    frozen = [not part.fixed for part in network.parts if isinstance(part, Conv)]
    assert frozen == [weight.requires_grad for weight in found]
    assert sum(isinstance(layer, nn.ReLU) for layer in dense) == len(found)
    assert dense(torch.rand(2, *shape)).shape == (2, outputs)


def test_one_patch_carries_nothing():
    neuron = one_patch(preset("onestep-cifar10").recipe).neuron
    assert (neuron.grid, neuron.carried) == (1, "none")
