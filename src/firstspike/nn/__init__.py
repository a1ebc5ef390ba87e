"""Layers on spike times."""

from firstspike.nn.linear import Linear
from firstspike.nn.redraw import redraw_dead
from firstspike.nn.stack import Stack

__all__ = ["Linear", "Stack", "redraw_dead"]
