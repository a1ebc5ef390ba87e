"""An integer network as flat tables, which the C program and the page walk through event by event.

A neuron is known by its place on a map and its channel; features are channels of one place. Membranes lie
place by place, channels together, so that the weights that a spike adds stand side by side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from firstspike.export.integers import IntegerConnection, IntegerNetwork, IntegerWindow
from firstspike.models.gan import SpikingGenerator
from firstspike.nn.geometry import Pair, Shape
from firstspike.nn.wiring import Dense, TransposedConvolution
from firstspike.spikes import Spikes
from firstspike.support import InputError


@dataclass(frozen=True, eq=False)
class ConnectionTable:
    """Where the spikes of one population go.

    A spike at ``(y, x)`` of a channel begins at the membrane ``rows[y] + columns[x] + channels[channel]``,
    summed over their targets, and at a weight likewise. From there so many rows and columns of runs of
    `run` weights are added to as many membranes; the next row is `target_y` membranes and `weight_y`
    weights on, the next column `target_x` and `weight_x`.

    Attributes:
        source: population that it takes, 0 the input, ``d + 1`` layer ``d``.
        weights: int8, flat.
        rows: int64 ``(height, 3)`` of the source: target, weight, how many rows.
        columns: int64 ``(width, 3)``: target, weight, how many columns.
        channels: int64 ``(channels, 2)`` of the source: target, weight.
        run, target_y, target_x, weight_y, weight_x: as said.
        shifts: int64 ``(channels,)`` of the target.
    """

    source: int
    weights: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    channels: np.ndarray
    run: int
    target_y: int
    target_x: int
    weight_y: int
    weight_x: int
    shifts: np.ndarray

    @property
    def places(self) -> np.ndarray:
        """Rows and columns together, int64 ``(places, 4)``: target, weight, how many rows and columns."""
        first = (self.rows[:, None, :2] + self.columns[None, :, :2]).reshape(-1, 2)
        counts = np.stack(np.broadcast_arrays(self.rows[:, None, 2], self.columns[None, :, 2]), -1)
        return np.concatenate([first, counts.reshape(-1, 2)], 1)


@dataclass(frozen=True, eq=False)
class LayerTable:
    """A layer: see `IntegerWindow` and `IntegerCausal`, whose words these are.

    Attributes:
        window: window neurons; else causal ones.
        connections: its inputs.
        sides: ``(height, width)`` of its maps; ``(1, 1)`` of features.
        channels: how many maps or features.
        steps: of its window.
        start: int64 ``(channels,)`` or, where places differ, ``(places * channels,)``: offset or level.
        rate: int64 ``(channels,)``: drive or current.
        fraction, delay: of causal neurons.
    """

    window: bool
    connections: tuple[ConnectionTable, ...]
    sides: Pair
    channels: int
    steps: int
    start: np.ndarray
    rate: np.ndarray
    fraction: int
    delay: int

    @property
    def places(self) -> int:
        """Places of a map."""
        return math.prod(self.sides)


@dataclass(frozen=True, eq=False)
class Tables:
    """A network.

    Attributes:
        in_shape: of a sample.
        sides, channels: of the input, which is given channel by channel.
        steps: of the input's window.
        codes: int64 ``(256,)``, spike time of each intensity; `steps` is silent.
        layers: from the input on.
        phases: layers that share a window, phase by phase in the order of time: the first ones share the
            input's; each further phase begins with a window layer, which is read first.
        first_step: of the last layer's window, on the input's clock.
    """

    in_shape: Shape
    sides: Pair
    channels: int
    steps: int
    codes: np.ndarray
    layers: tuple[LayerTable, ...]
    phases: tuple[tuple[int, ...], ...]
    first_step: int

    @property
    def places(self) -> int:
        """Places of an input map."""
        return math.prod(self.sides)


def check_drawn(generator: SpikingGenerator) -> None:
    """Raise InputError for a generator whose noise or pictures no exported program draws."""
    if len(generator.image_shape) != 2:
        raise InputError("an exported generator draws grey pictures, and this one draws in colour")
    if generator.prior is not None:
        raise InputError(
            "an exported generator draws uniform noise, and this one's latents have a prior of their own; "
            "take firstspike.integer(generator), which keeps it"
        )


def intensities(generator: SpikingGenerator) -> np.ndarray:
    """Return the pixel that each spike time stands for, silence last, uint8 ``(steps + 1,)``."""
    steps, pixels = generator.stack.out_steps, math.prod(generator.image_shape)
    # Every time, in as many pictures as that takes.
    times = torch.full((math.ceil((steps + 1) / pixels) * pixels,), float(steps))
    times[: steps + 1] = torch.arange(steps + 1)
    pictures = generator.images(Spikes(times.reshape(-1, pixels), steps))
    found: np.ndarray = pictures.flatten()[: steps + 1].numpy()
    return found


def tables(network: IntegerNetwork, *, even: bool = False) -> Tables:
    """Return the tables of a network.

    Args:
        network: as `integer` returns it.
        even: begin every run of weights at an even number, so that two of 4 bits share a byte.

    Raises:
        ValueError: layers that no walk from the input to the last one needs, or that share no clock.
    """
    shapes = network.shapes(network.in_shape)
    layers = [
        LayerTable(
            window=isinstance(layer, IntegerWindow),
            connections=tuple(
                _connection(one, shapes[one.source], shape, even) for one in layer.connections
            ),
            sides=_sides(shape),
            channels=shape[0],
            steps=steps,
            start=_by_place(layer.offset if isinstance(layer, IntegerWindow) else layer.level),
            rate=(layer.drive if isinstance(layer, IntegerWindow) else layer.current).numpy(),
            fraction=0 if isinstance(layer, IntegerWindow) else layer.fraction,
            delay=0 if isinstance(layer, IntegerWindow) else layer.delay,
        )
        for layer, shape, steps in zip(network.integers, shapes[1:], network.windows[1:], strict=True)
    ]
    return Tables(
        in_shape=network.in_shape,
        sides=_sides(network.in_shape),
        channels=network.in_shape[0],
        steps=network.steps,
        codes=network.codes.numpy(),
        layers=tuple(layers),
        phases=_phases(layers),
        first_step=network.offsets[-1],
    )


def _phases(layers: Sequence[LayerTable]) -> tuple[tuple[int, ...], ...]:
    """Which layers share a window: a causal layer that of its sources.

    Raises:
        ValueError: a causal layer has sources in several windows, or nothing reads a layer.
    """
    read = {one.source for layer in layers for one in layer.connections}
    unread = sorted(set(range(1, len(layers))) - read)
    if unread:
        raise ValueError(f"nothing reads the spikes of layer {unread[0] - 1}; leave it out")
    phases: list[list[int]] = [[]]
    phase_of = [0]
    for depth, layer in enumerate(layers):
        if layer.window:
            phases.append([])
            phase = len(phases) - 1
        else:
            windows = {phase_of[one.source] for one in layer.connections}
            if len(windows) > 1:
                raise ValueError(
                    f"layer {depth} sums spikes of windows that follow one another, on no common clock; "
                    "take window neurons there"
                )
            (phase,) = windows
        phases[phase].append(depth)
        phase_of.append(phase)
    return tuple(map(tuple, phases))


def _by_place(values: torch.Tensor) -> np.ndarray:
    found: np.ndarray = values.movedim(0, -1).contiguous().flatten().numpy()
    return found


def _sides(shape: Shape) -> Pair:
    return (1, 1) if len(shape) == 1 else (shape[1], shape[2])


def _connection(connection: IntegerConnection, source: Shape, target: Shape, even: bool) -> ConnectionTable:
    wiring, weight, shifts = connection.wiring, connection.weight, connection.shift.numpy()
    channels, sides = np.arange(source[0]), _sides(source)
    if isinstance(wiring, Dense):
        runs = _padded(weight.t().numpy(), even)
        stored = runs.shape[1]
        strides = (sides[1] * stored, stored)
        ys, xs = (
            np.stack([0 * n, n * stride, 0 * n + 1], 1)
            for n, stride in (
                (np.arange(side), stride) for side, stride in zip(sides, strides, strict=True)
            )
        )
        of = np.stack([0 * channels, channels * math.prod(sides) * stored], 1)
        return ConnectionTable(
            connection.source, runs.flatten(), ys, xs, of, wiring.out_features, 0, 0, 0, 0, shifts
        )
    transposed = isinstance(wiring, TransposedConvolution)
    run, inputs = wiring.out_channels // wiring.groups, source[0] // wiring.groups
    if transposed:
        # (in, out / groups, y, x)
        kernels = weight.permute(0, 2, 3, 1)
    else:
        # (groups, out / groups, in / groups, y, x)
        kernels = weight.unflatten(0, (wiring.groups, run)).permute(0, 2, 3, 4, 1).flatten(0, 1)
    runs = _padded(kernels.reshape(-1, run).numpy(), even)
    stored, (ky, kx) = runs.shape[1], wiring.kernel_size
    # Membranes from row to row and from column to column, weights from tap to tap.
    steps, taps = (target[2] * target[0], target[0]), (kx * stored, stored)
    axes = zip(sides, target[1:], wiring.kernel_size, wiring.stride, wiring.padding, strict=True)
    ys, xs = (
        np.array([_reached(n, *axis, transposed=transposed) for n in range(side)]) * [step, tap, 1]
        for (side, *axis), step, tap in zip(axes, steps, taps, strict=True)
    )
    of = np.stack([channels // inputs * run, channels * ky * kx * stored], 1)
    turn_y, turn_x = (1, 1) if transposed else (-wiring.stride[0], -wiring.stride[1])
    return ConnectionTable(
        connection.source,
        runs.flatten(),
        ys,
        xs,
        of,
        run,
        *steps,
        turn_y * taps[0],
        turn_x * taps[1],
        shifts,
    )


def _padded(runs: np.ndarray, even: bool) -> np.ndarray:
    return np.pad(runs, ((0, 0), (0, runs.shape[1] % 2 if even else 0)))


def _reached(
    n: int, size: int, kernel: int, stride: int, padding: int, *, transposed: bool
) -> tuple[int, int, int]:
    """Along one axis: the first output that input `n` reaches, through which tap, and how many."""
    if transposed:
        # Output n * stride + tap - padding.
        tap = max(0, padding - n * stride)
        count = min(kernel - 1, size - 1 + padding - n * stride) - tap + 1
        return (n * stride + tap - padding, tap, count) if count > 0 else (0, 0, 0)
    # Tap n + padding - output * stride.
    first = max(0, -((kernel - 1 - n - padding) // stride))
    count = min(size - 1, (n + padding) // stride) - first + 1
    return (first, n + padding - first * stride, count) if count > 0 else (0, 0, 0)
