"""Layers on spike times."""

from firstspike.nn.conv import Conv2d, ConvTranspose2d
from firstspike.nn.linear import Linear
from firstspike.nn.pool import AvgPool2d, EarliestPool2d
from firstspike.nn.redraw import redraw_dead
from firstspike.nn.stack import Layer, Shortcut, Stack

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "ConvTranspose2d",
    "EarliestPool2d",
    "Layer",
    "Linear",
    "Shortcut",
    "Stack",
    "redraw_dead",
]
