"""What deep networks start from besides chance: the identity, and the images' own correlations."""

import torch
from torch import Tensor

from firstspike.models.images import levels
from firstspike.models.layout import Conv
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.whitening import whitening_filters
from firstspike.models.window import WindowNetwork


@torch.no_grad()
def start_as_identity(model: torch.nn.Module) -> None:
    """Make the first filters of each convolution pass its input maps on.

    Those of odd size and one group, which give no fewer maps than they take; the other filters stay as they
    were drawn.
    """
    for weight in model.parameters():
        if (
            weight.dim() == 4
            and weight.shape[2] % 2
            and weight.shape[2] > 1
            and len(weight) >= weight.shape[1]
        ):
            torch.nn.init.dirac_(weight[: weight.shape[1]])


@torch.no_grad()
def whiten(model: torch.nn.Module, images: Tensor) -> None:
    """Give a network whose layout starts with a whitening its filters; others stay as they are.

    Args:
        model: a deep network.
        images: uint8 ``(batch, channels, height, width)`` of the training set.
    """
    if isinstance(model, WindowNetwork | RasterNetwork | OneStepNetwork):
        first = model.parts[0]
        if isinstance(first, Conv) and first.fixed:
            values = levels(images).to(torch.float32) / 255
            next(model.parameters()).copy_(whitening_filters(values, first.kernel))
