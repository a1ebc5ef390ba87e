"""An integer network as flat tables, which the C program and the page walk through event by event.

A neuron is known by its place on a map and its channel; features are channels of one place. Membranes lie place
by place, channels together, so that the weights that a spike adds stand side by side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from firstspike.export.integers import IntegerConnection, IntegerNetwork, IntegerWindow
from firstspike.nn.geometry import Pair, Shape
from firstspike.nn.wiring import Dense, TransposedConvolution

INTENSITIES = 256


@dataclass(frozen=True, eq=False)
class ConnectionTable:
    """Where the spikes of one population go.

    A spike at a place and channel starts at the membrane ``places.target + channels.target`` and the weight
    ``places.weight + channels.weight``. From there ``rows x columns`` runs of `run` weights are added to as
    many membranes; the next row is `target_y` membranes and `weight_y` weights on, the next column `target_x`
    and `weight_x`.

    Attributes:
        source: population that it takes, 0 the input, ``d + 1`` layer ``d``.
        weights: int8, flat.
        places: int64 ``(places, 4)`` of the source: target, weight, rows, columns.
        channels: int64 ``(channels, 2)`` of the source: target, weight.
        run, target_y, target_x, weight_y, weight_x: as said.
        shifts: int64 ``(channels,)`` of the target.
    """

    source: int
    weights: np.ndarray
    places: np.ndarray
    channels: np.ndarray
    run: int
    target_y: int
    target_x: int
    weight_y: int
    weight_x: int
    shifts: np.ndarray


@dataclass(frozen=True, eq=False)
class LayerTable:
    """A layer: see `IntegerWindow` and `IntegerCausal`, whose words these are.

    Attributes:
        window: window neurons; else causal ones.
        connections: its inputs.
        places, channels: its size.
        steps: of its window.
        start: int64 ``(channels,)`` or, where places differ, ``(places * channels,)``: offset or level.
        rate: int64 ``(channels,)``: drive or current.
        fraction, delay: of causal neurons.
    """

    window: bool
    connections: tuple[ConnectionTable, ...]
    places: int
    channels: int
    steps: int
    start: np.ndarray
    rate: np.ndarray
    fraction: int
    delay: int


@dataclass(frozen=True, eq=False)
class Tables:
    """A network.

    Attributes:
        in_shape: of a sample.
        places, channels: of the input, which is given channel by channel.
        steps: of the input's window.
        codes: int64 ``(256,)``, spike time of each intensity; `steps` is silent.
        layers: from the input on.
        phases: layers that share a window, phase by phase in the order of time: the first ones share the
            input's; each further phase begins with a window layer, which is read first.
        first_step: of the last layer's window, on the input's clock.
    """

    in_shape: Shape
    places: int
    channels: int
    steps: int
    codes: np.ndarray
    layers: tuple[LayerTable, ...]
    phases: tuple[tuple[int, ...], ...]
    first_step: int


def tables(network: IntegerNetwork, *, even: bool = False) -> Tables:
    """Return the tables of a network.

    Args:
        network: as `integer` returns it.
        even: begin every run of weights at an even number, so that two of 4 bits share a byte.
    """
    shapes = network.shapes(network.in_shape)
    layers = [
        LayerTable(
            window=isinstance(layer, IntegerWindow),
            connections=tuple(
                _connection(one, shapes[one.source], shape, even) for one in layer.connections
            ),
            places=math.prod(shape[1:]),
            channels=shape[0],
            steps=steps,
            start=_by_place(layer.offset if isinstance(layer, IntegerWindow) else layer.level),
            rate=(layer.drive if isinstance(layer, IntegerWindow) else layer.current).numpy(),
            fraction=0 if isinstance(layer, IntegerWindow) else layer.fraction,
            delay=0 if isinstance(layer, IntegerWindow) else layer.delay,
        )
        for layer, shape, steps in zip(network.integers, shapes[1:], network.windows[1:], strict=True)
    ]
    intensities = torch.arange(INTENSITIES, dtype=torch.uint8).reshape(1, -1)
    return Tables(
        in_shape=network.in_shape,
        places=math.prod(network.in_shape[1:]),
        channels=network.in_shape[0],
        steps=network.steps,
        codes=network[0].neuron.encode(intensities, network.steps).times[0].long().numpy(),
        layers=tuple(layers),
        phases=_phases(layers),
        first_step=network.offsets[-1],
    )


def _phases(layers: Sequence[LayerTable]) -> tuple[tuple[int, ...], ...]:
    """Which layers share a window: a causal layer that of the latest of its sources."""
    phases: list[list[int]] = [[]]
    phase_of = [0]
    for depth, layer in enumerate(layers):
        if layer.window:
            phases.append([])
            phase = len(phases) - 1
        else:
            phase = max(phase_of[one.source] for one in layer.connections)
        phases[phase].append(depth)
        phase_of.append(phase)
    return tuple(map(tuple, phases))


def _by_place(values: torch.Tensor) -> np.ndarray:
    found: np.ndarray = values.movedim(0, -1).contiguous().flatten().numpy()
    return found


def _connection(connection: IntegerConnection, source: Shape, target: Shape, even: bool) -> ConnectionTable:
    wiring, weight = connection.wiring, connection.weight
    channels, places = source[0], math.prod(source[1:])
    shifts = connection.shift.numpy()
    if isinstance(wiring, Dense):
        run = wiring.out_features
        rows = _padded(weight.t().numpy(), even)
        first = np.arange(places) * rows.shape[1]
        at = np.stack([0 * first, first, 1 + 0 * first, 1 + 0 * first], 1)
        of = np.stack([np.zeros(channels, np.int64), np.arange(channels) * places * rows.shape[1]], 1)
        return ConnectionTable(
            connection.source, rows.flatten(), at.astype(np.int64), of, run, 0, 0, 0, 0, shifts
        )
    transposed = isinstance(wiring, TransposedConvolution)
    ky, kx = wiring.kernel_size
    run, inputs = wiring.out_channels // wiring.groups, channels // wiring.groups
    if transposed:
        # (in, out / groups, y, x)
        kernels = weight.permute(0, 2, 3, 1)
    else:
        # (groups, out / groups, in / groups, y, x)
        kernels = weight.unflatten(0, (wiring.groups, run)).permute(0, 2, 3, 4, 1).flatten(0, 1)
    rows = _padded(kernels.reshape(-1, run).numpy(), even)
    stored, (height, width), (out_y, out_x) = rows.shape[1], source[1:], target[1:]
    ys, xs = (
        [_reached(n, size, *axis, transposed=transposed) for n in range(length)]
        for length, size, axis in (
            (height, out_y, (ky, wiring.stride[0], wiring.padding[0])),
            (width, out_x, (kx, wiring.stride[1], wiring.padding[1])),
        )
    )
    at = np.array(
        [
            [(y * out_x + x) * target[0], (tap_y * kx + tap_x) * stored, rows_, columns]
            for y, tap_y, rows_ in ys
            for x, tap_x, columns in xs
        ],
        np.int64,
    )
    group = np.arange(channels) // inputs
    of = np.stack([group * run, np.arange(channels) * ky * kx * stored], 1)
    step: Pair = (1, 1) if transposed else (-wiring.stride[0], -wiring.stride[1])
    return ConnectionTable(
        connection.source,
        rows.flatten(),
        at,
        of,
        run,
        out_x * target[0],
        target[0],
        step[0] * kx * stored,
        step[1] * stored,
        shifts,
    )


def _padded(rows: np.ndarray, even: bool) -> np.ndarray:
    return np.pad(rows, ((0, 0), (0, rows.shape[1] % 2 if even else 0)))


def _reached(
    n: int, size: int, kernel: int, stride: int, padding: int, *, transposed: bool
) -> tuple[int, int, int]:
    """Along one axis: the first output that input `n` reaches, through which tap, and how many."""
    if transposed:
        # Output n * stride + tap - padding.
        tap = max(0, padding - n * stride)
        last = min(kernel - 1, size - 1 + padding - n * stride)
        return max(0, n * stride + tap - padding), min(tap, kernel - 1), max(0, last - tap + 1)
    # Tap n + padding - output * stride.
    first = max(0, -((kernel - 1 - n - padding) // stride))
    last = min(size - 1, (n + padding) // stride)
    count = max(0, last - first + 1)
    return (first, n + padding - first * stride, count) if count else (0, 0, 0)
