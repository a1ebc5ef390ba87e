"""Small networks of every kind that has a form in integers, drawn by hypothesis; their naive walk."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

import firstspike as fs
from firstspike.export.tables import ConnectionTable, Tables

Drawn = tuple[fs.Stack, tuple[int, ...], Tensor]

_FAR = 2**60


@st.composite
def networks(draw: Any, grid: int | None = None) -> Drawn:
    """Draw a network, the shape of its input and some images; weights on a grid of 1 / `grid` if given."""
    source = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    steps = draw(st.sampled_from([2, 4, 16, 256]))
    causal = draw(st.booleans())
    if draw(st.booleans()):
        shape: tuple[int, ...] = (draw(st.integers(1, 40)),)
        layers, width = [], shape[0]
    else:
        shape = (draw(st.integers(1, 3)), draw(st.integers(4, 9)), draw(st.integers(4, 9)))
        layers, shapes = [], [shape]
        for _ in range(draw(st.integers(1, 3))):
            layers.append(_on_maps(draw, shapes, causal, len(layers)))
            try:
                shapes.append(layers[-1].out_shape(shapes[-1]))
            except ValueError:
                layers.pop()
        width = int(np.prod(shapes[-1]))
    for last in (False, True):
        if last or draw(st.booleans()):
            outputs = draw(st.integers(1, 12))
            layers.append(fs.Linear(width, outputs, _neuron(draw, causal, last), bias=draw(st.booleans())))
            width = outputs
    net = fs.Stack(*layers, steps=steps)
    size = draw(st.sampled_from([0.2, 1.0, 4.0]))
    for parameter in net.parameters():
        drawn = torch.randn(parameter.shape, generator=source) * size / max(parameter[0].numel(), 1) ** 0.5
        if grid is not None:
            drawn = (drawn * grid).round().clamp(-127, 127) / grid
        parameter.data.copy_(drawn)
    images = torch.randint(0, 256, (6, *shape), generator=source).to(torch.uint8)
    # A silent one, one all at once, some black pixels.
    images[0], images[1] = 0, 255
    images[2][images[2] < 128] = 0
    return net, shape, images


def _neuron(draw: Any, causal: bool, last: bool) -> fs.Neuron:
    if causal:
        return fs.Causal(
            threshold=draw(st.sampled_from([0.25, 1.0])),
            strict=draw(st.booleans()),
            delay=draw(st.integers(0, 2)),
            bias=draw(st.sampled_from(["start", "current"])),
        )
    own = draw(st.sampled_from([None, 2, 32]))
    if last:
        return fs.Window.output(steps=own)
    low = draw(st.sampled_from([-1.0, 0.0]))
    return fs.Window(high=2.0, low=low, input_low=draw(st.sampled_from([-1.0, 0.0])), steps=own)


def _on_maps(draw: Any, shapes: list[Any], causal: bool, depth: int) -> Any:
    channels = shapes[-1][0]
    kind = draw(st.sampled_from(["conv", "conv", "earliest", "share", "past", "wider"]))
    if kind == "earliest":
        return fs.EarliestPool2d(2, stride=draw(st.integers(1, 2)), padding=draw(st.integers(0, 1)))
    if kind == "share":
        return fs.AvgPool2d(draw(st.integers(1, 3)))
    neuron = _neuron(draw, causal, False)
    if kind == "wider" and not causal:
        stride, groups = draw(st.integers(1, 2)), draw(st.sampled_from([1, channels]))
        return fs.ConvTranspose2d(
            channels, channels * 2, draw(st.integers(1, 4)), neuron, stride=stride, groups=groups
        )
    if kind == "past" and not causal:
        past = fs.Connection.conv2d(channels, channels, 1, groups=channels, source=depth)
        return fs.Conv2d(channels, channels, 3, neuron, padding=1, shortcuts=[past])
    # Causal ones take a bias with one group and a padding below half the kernel only.
    groups = 1 if causal else draw(st.sampled_from([1, channels]))
    return fs.Conv2d(
        channels,
        channels * draw(st.integers(1, 2)),
        (draw(st.sampled_from([1, 3])), 3),
        neuron,
        stride=(draw(st.integers(1, 2)), draw(st.integers(1, 3))),
        padding=(0, 1),
        groups=groups,
        bias=draw(st.booleans()),
    )


def walk(layout: Tables, sample: np.ndarray) -> tuple[int, int, int, int]:
    """Walk the tables for one sample in plain loops; return label, step, spikes and operations."""
    count = [layout.places * layout.channels, *(one.places * one.channels for one in layout.layers)]
    times = layout.codes[sample.astype(int)].reshape(layout.channels, layout.places)
    events: list[Any] = [[[] for _ in range(layout.steps)]]
    for channel, row in enumerate(times):
        for place, time in enumerate(row):
            if time < layout.steps:
                events[0][time].append((place, channel))
    events += [[[] for _ in range(one.steps)] for one in layout.layers]
    operations, last, steps = 0, len(layout.layers) - 1, layout.steps
    for phase in layout.phases:
        state = {}
        for depth in phase:
            layer = layout.layers[depth]
            start = layer.start
            if len(start) == layer.channels:
                start = np.tile(start, layer.places)
            membrane = start.copy() if layer.window else np.zeros(count[depth + 1], np.int64)
            steps = layer.steps
            for one in layer.connections if layer.window else ():
                current, received = np.zeros((2, count[depth + 1]), np.int64)
                for arriving in events[one.source]:
                    operations += sum(_spread(one, current, *event) for event in arriving)
                    received += current
                membrane += received << np.tile(one.shifts, layer.places)
            state[depth] = membrane, start.copy()
        for step in range(steps):
            for depth in phase:
                layer, (membrane, level) = layout.layers[depth], state[depth]
                rate = np.tile(layer.rate, layer.places)
                if layer.window:
                    fired = np.flatnonzero(membrane >= 0)
                    membrane += rate
                    membrane[fired] = -_FAR
                else:
                    for one in layer.connections:
                        arriving = events[one.source][step]
                        operations += sum(_spread(one, membrane, *event) for event in arriving)
                    level -= rate
                    fired = np.flatnonzero(membrane << layer.fraction >= level)
                    level[fired] = _FAR
                if step + layer.delay < layer.steps:
                    places = [divmod(int(i), layer.channels) for i in fired]
                    events[depth + 1][step + layer.delay] += places
            decided = events[last + 1][step] if last in phase else []
            if decided:
                spikes = 0
                for population, one in enumerate(events):
                    shared = population > 0 and population - 1 in phase
                    shared |= population == 0 and phase == layout.phases[0]
                    spikes += sum(map(len, one[: step + 1] if shared else one))
                label = decided[0][1] if len(decided) == 1 else -1
                return label, step + layout.first_step, spikes, operations
    spikes = sum(len(arriving) for one in events for arriving in one)
    return -1, steps + layout.first_step, spikes, operations


def _spread(one: ConnectionTable, membrane: np.ndarray, place: int, channel: int) -> int:
    target, weight, rows, columns = one.places[place] + [*one.channels[channel], 0, 0]
    for y in range(rows):
        for x in range(columns):
            at = target + y * one.target_y + x * one.target_x
            first = weight + y * one.weight_y + x * one.weight_x
            membrane[at : at + one.run] += one.weights[first : first + one.run]
    return int(rows * columns * one.run)
