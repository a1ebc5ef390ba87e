"""The sizes of layers on maps: pairs, output sizes, and which input reaches which output."""

import math
import operator

import torch
from torch import Tensor

Shape = tuple[int, ...]
Pair = tuple[int, int]


def pair(value: int | Pair, name: str, least: int) -> Pair:
    """Return `value` as ``(y, x)``.

    Raises:
        ValueError: it is not one or two integers of at least `least`.
    """
    try:
        given = tuple(value) if isinstance(value, tuple | list) else (value, value)
        both = tuple(operator.index(one) for one in given)
    except TypeError:
        both = ()
    if len(both) != 2 or min(both) < least:
        raise ValueError(f"{name} must be {least} or more, one number or (y, x), found {value}")
    return both[0], both[1]


def check_channels(in_channels: int, out_channels: int, groups: int) -> None:
    """Raise ValueError unless both numbers of channels divide into `groups`."""
    if in_channels % groups or out_channels % groups:
        raise ValueError(
            f"{in_channels} input and {out_channels} output channels must divide into {groups} groups"
        )


def check_map(shape: Shape, channels: int | None) -> None:
    """Raise ValueError unless `shape` is (channels, y, x) with the given number of channels."""
    if len(shape) != 3 or (channels is not None and shape[0] != channels):
        wanted = "channels" if channels is None else str(channels)
        raise ValueError(f"takes maps ({wanted}, y, x), found {_written(shape)}")


def check_features(shape: Shape, features: int) -> None:
    """Raise ValueError unless a sample of that shape holds that many features."""
    if math.prod(shape) != features:
        count = f" = {math.prod(shape)}" if len(shape) > 1 else ""
        raise ValueError(f"takes {features} features, found {_written(shape)}{count}")


def conv_size(shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return the output ``(y, x)`` of a convolution on a map ``(channels, y, x)``.

    Raises:
        ValueError: the kernel is larger than the padded map.
    """
    y, x = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape[1:], kernel, stride, padding, strict=True))
    if min(y, x) < 1:
        raise ValueError(
            f"has a kernel of {_written(kernel)}, larger than the map {_written(shape[1:])} with the "
            f"padding {_written(padding)}"
        )
    return y, x


def transposed_size(shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return the output ``(y, x)`` of a transposed convolution on a map ``(channels, y, x)``.

    Raises:
        ValueError: the padding cuts everything off.
    """
    y, x = ((n - 1) * s + k - 2 * p for n, k, s, p in zip(shape[1:], kernel, stride, padding, strict=True))
    if min(y, x) < 1:
        raise ValueError(
            f"has a padding of {_written(padding)}, which cuts off all that the map "
            f"{_written(shape[1:])} gives"
        )
    return y, x


def reach(inputs: Pair, outputs: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """Return how many positions of the output map receive each one of the input map, int64 ``(y, x)``.

    A position near the border, or one that strides step over, is received by fewer.
    """
    y, x = (_receives(*axis).sum(1) for axis in zip(inputs, outputs, kernel, stride, padding, strict=True))
    return y[:, None] * x


def reach_transposed(inputs: Pair, outputs: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """Return the same as `reach` for a transposed convolution."""
    y, x = (_receives(*axis).sum(0) for axis in zip(outputs, inputs, kernel, stride, padding, strict=True))
    return y[:, None] * x


def _receives(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> Tensor:
    """Which outputs of a convolution receive which inputs along one axis, bool ``(inputs, outputs)``."""
    tap = torch.arange(inputs)[:, None] + padding - stride * torch.arange(outputs)
    return (tap >= 0) & (tap < kernel)


def _written(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "a single number; spikes have a batch axis first"
