"""What deep networks start from besides chance: the identity, and the images' own correlations."""

import torch
from torch import Tensor

from firstspike.models.images import levels
from firstspike.models.layout import Conv
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.raster.layers import RasterLayer
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.whitening import whitening_filters
from firstspike.models.window import NormedNetwork
from firstspike.nn.normed import NormedConnection


@torch.no_grad()
def start_as_identity(model: torch.nn.Module) -> None:
    """Make the first filters of each convolution pass its input maps on.

    Those of odd size above 1 that give no fewer maps than they take; their other filters stay as they were
    drawn, and so does an LSTM.
    """
    for layer in model.modules():
        if isinstance(layer, NormedConnection | RasterLayer) and layer.weight.dim() == 4:
            outputs, inputs, kernel, _ = layer.weight.shape
            if kernel % 2 and kernel > 1 and outputs >= inputs:
                torch.nn.init.dirac_(layer.weight[:inputs])


@torch.no_grad()
def whiten(model: torch.nn.Module, images: Tensor) -> None:
    """Give a network whose layout starts with a whitening its filters; others stay as they are.

    Args:
        model: a deep network.
        images: uint8 ``(batch, channels, height, width)`` of the training set.
    """
    if isinstance(model, NormedNetwork | RasterNetwork | OneStepNetwork):
        first = model.parts[0]
        if isinstance(first, Conv) and first.fixed:
            values = levels(images).to(torch.float32) / 255
            next(model.parameters()).copy_(whitening_filters(values, first.kernel))
