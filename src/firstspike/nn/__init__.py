"""Connections, layers and stacks on spikes."""

from firstspike.nn.connection import Connection
from firstspike.nn.layers import Conv2d, ConvTranspose2d, Layer, Linear
from firstspike.nn.pool import AvgPool2d, EarliestPool2d
from firstspike.nn.stack import Stack

__all__ = [
    "AvgPool2d",
    "Connection",
    "Conv2d",
    "ConvTranspose2d",
    "EarliestPool2d",
    "Layer",
    "Linear",
    "Stack",
]
