"""The dense networks that deep ones are compared with."""

import pytest
import torch
from torch import nn

from firstspike.bench.rows_deep import dense_like, one_patch
from firstspike.recipes import preset


@pytest.mark.parametrize("name", ["window-cifar10", "ettfs-cifar10", "onestep-cifar10"])
def test_the_dense_network_has_the_same_convolutions(name):
    recipe = preset(name).recipe
    shape, classes = recipe.sizes()
    network = recipe.build(shape, classes)
    dense = dense_like(network.parts, network.shapes, classes)
    ours = [tuple(p.shape) for p in network.parameters() if p.dim() == 4]
    found = [layer.weight for layer in dense if isinstance(layer, nn.Conv2d)]
    learning = [tuple(weight.shape) for weight in found if weight.requires_grad]
    assert sorted(ours[-len(learning) :]) == sorted(learning)
    assert sum(isinstance(layer, nn.ReLU) for layer in dense) == len(found)
    logits = dense(torch.rand(2, *shape))
    assert logits.shape in {(2, classes), (2, classes * 30)}


def test_one_patch_carries_nothing():
    neuron = one_patch(preset("onestep-cifar10").recipe).neuron
    assert (neuron.grid, neuron.carried) == (1, "none")
