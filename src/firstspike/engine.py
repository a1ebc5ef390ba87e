"""Inference one image at a time, stopped by the first output spike."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from firstspike.kernels.cpu import engine as kernel
from firstspike.kernels.cpu.vectors import LANES
from firstspike.neurons import Events, Synapses
from firstspike.nn import Stack
from firstspike.nn.geometry import Shape
from firstspike.nn.wiring import Convolution, Dense
from firstspike.spikes import Spikes, check_spikes


@dataclass(frozen=True)
class Decision:
    """What a network decided about one image, and what it cost.

    Attributes:
        label: the output that spiked first; -1 for a tie or silence (`FirstSpike()`).
        step: step of the first output spike, ``T`` if there is none.
        spikes: of the input and of each layer, as far as the walk went.
        synaptic_operations: additions of a weight to a membrane that were done.
        output_times: float32 ``(classes,)``; ``T`` for a neuron that did not spike as far as the walk went.
        tied: several outputs share the first spike.
        silent: no output spiked.
    """

    label: int
    step: int
    spikes: tuple[int, ...]
    synaptic_operations: int
    output_times: Tensor
    tied: bool
    silent: bool


@dataclass(frozen=True, eq=False)
class Decisions:
    """The fields of `Decision` for many images.

    Attributes:
        labels, steps, synaptic_operations: int64 ``(images,)``.
        spikes: int64 ``(images, layers + 1)``.
        output_times: float32 ``(images, classes)``.
        tied, silent: bool ``(images,)``.
    """

    labels: Tensor
    steps: Tensor
    spikes: Tensor
    synaptic_operations: Tensor
    output_times: Tensor
    tied: Tensor
    silent: Tensor


class Engine:
    """A trained causal network that decides image by image, in the order of time.

    All layers advance together from step to step. After the step of the first output spike the walk
    ends, so later input spikes are sorted and cost nothing more. Spike times up to then are
    those of `Stack.trace` to the last bit, and spikes and operations those of `metrics.cost` up to the
    decision.

    One image runs on one core. Calls from several threads do not disturb each other.

    Args:
        stack: layers and pooling of neurons that sum weights (`Causal`). Its weights are copied.
        in_shape: shape of an image, ``(channels, y, x)``, which a stack that begins with a convolution or
            pooling does not know; the features of a fully connected layer by default.

    Raises:
        TypeError: no `Stack`, or weights that are not all float32 or all float64.
        ValueError: another neuron model, shapes that do not fit, weights that are not finite.

    >>> from firstspike import Causal, Linear, Spikes, Stack
    >>> layer = Linear(3, 2, Causal())
    >>> _ = torch.nn.init.constant_(layer.weight, 0.6)
    >>> layer.weight.data[1, 2] = 0.2
    >>> decision = Engine(Stack(layer, steps=16)).run(Spikes([4, 16, 9], steps=16))
    >>> decision.label, decision.step, decision.spikes, decision.synaptic_operations
    (0, 9, (2, 1), 4)
    """

    def __init__(self, stack: Stack, in_shape: tuple[int, ...] | None = None) -> None:
        if not isinstance(stack, Stack):
            raise TypeError(
                f"Engine takes a Stack, found {type(stack).__name__}; of a RasterNetwork give "
                "spiking_form(network).stack"
            )
        shapes = stack.shapes(in_shape)
        self.steps, self._in_shape, self._in_features = stack.steps, shapes[0], math.prod(shapes[0])
        layers = [_layer(stack, depth, shape) for depth, shape in enumerate(shapes[:-1])]
        dtype = _dtype(layer.synapses.weight for layer in layers if layer.learns)
        rows: list[np.ndarray] = []
        self._table = np.zeros((len(layers), kernel.COLUMNS), np.int64)
        for layer, entry, shape, out_shape in zip(layers, self._table, shapes, shapes[1:], strict=False):
            wiring = layer.wiring
            entry[kernel.IN_FEATURES], entry[kernel.OUT_FEATURES] = math.prod(shape), math.prod(out_shape)
            entry[kernel.WEIGHTS] = sum(part.size for part in rows)
            entry[kernel.DELAY] = min(layer.events.delay, self.steps)
            weight = wiring.rows(layer.synapses.weight.detach().cpu())
            if not torch.isfinite(weight).all():
                raise ValueError(f"weights of layer {len(rows)} hold NaN or infinity")
            rows.append(weight.to(dtype).flatten().numpy())
            if isinstance(wiring, Convolution):
                _describe_patches(wiring, shape, out_shape, entry)
        self._flat = np.concatenate([*rows, np.zeros(LANES, rows[0].dtype)])
        self._limits = np.array([_limit(layer.events, self._flat.dtype) for layer in layers])
        self._start, self._ready, self._ready_from = _starts(layers, self._table, self._limits)

    def run(self, spikes: Spikes, *, early_exit: bool = True) -> Decision:
        """Return the decision on one image.

        Args:
            spikes: of the input, ``(in_features,)`` or `in_shape`.
            early_exit: stop after the step of the first output spike; otherwise walk through all spikes.

        Raises:
            TypeError: not `Spikes`.
            ValueError: their window or shape does not fit, or they are not on the CPU.
        """
        out, result = self._decide(spikes, False, early_exit)
        label, step, tied, silent, operations, *counts = result.tolist()[0]
        times = torch.from_numpy(out.reshape(-1))
        return Decision(label, step, tuple(counts), operations, times, tied == 1, silent == 1)

    def run_many(self, spikes: Spikes, *, early_exit: bool = True) -> Decisions:
        """Return the decisions on images, ``(images, ...)``, one after the other on one core.

        Raises:
            TypeError, ValueError: as for `run`.
        """
        out, result = self._decide(spikes, True, early_exit)
        table = torch.from_numpy(result)
        return Decisions(
            labels=table[:, kernel.LABEL],
            steps=table[:, kernel.STEP],
            spikes=table[:, kernel.SPIKES :],
            synaptic_operations=table[:, kernel.OPERATIONS],
            output_times=torch.from_numpy(out),
            tied=table[:, kernel.TIED] != 0,
            silent=table[:, kernel.SILENT] != 0,
        )

    def _decide(self, spikes: Spikes, many: bool, early_exit: bool) -> tuple[np.ndarray, np.ndarray]:
        if check_spikes(spikes).steps != self.steps:
            raise ValueError(f"the network takes windows of {self.steps} steps, found {spikes.steps}")
        times = spikes.times
        shape = times.shape[1:] if many else times.shape
        if shape != self._in_shape or (many and times.dim() == 0):
            expected = (("images",) if many else ()) + self._in_shape
            raise ValueError(
                f"times must have the shape ({', '.join(map(str, expected))}), found {tuple(times.shape)}"
            )
        if not times.is_cpu:
            raise ValueError(f"the engine runs on the CPU, found times on {times.device}")
        # Of one image, each of these takes as long as a tenth of the walk.
        if times.requires_grad or times.dtype is not torch.float32:
            times = times.detach().to(torch.float32)
        out, result, refused = kernel.decide(
            times.contiguous().numpy().reshape(len(times) if many else 1, self._in_features),
            self._flat,
            self._limits,
            self._table,
            self._start,
            self._ready,
            self._ready_from,
            self.steps,
            early_exit,
        )
        if refused >= 0:
            Spikes(spikes.times, self.steps)
        return out, result


@dataclass(frozen=True)
class _Layer:
    synapses: Synapses
    wiring: Dense | Convolution
    events: Events
    learns: bool


def _layer(stack: Stack, depth: int, shape: Shape) -> _Layer:
    """Return what the engine needs of a layer, after a look at whether it can run it."""
    layer = stack[depth]
    events, synapses = layer.neuron.events(), layer.synapses_for(shape)
    if events is None:
        raise ValueError(
            "the engine runs layers of neurons that sum weights on one clock; "
            f"layer {depth} has {layer.neuron}"
        )
    if stack.sources[depth] != (depth,):
        raise ValueError(
            f"the engine runs layers one after the other; layer {depth} takes more than the one before"
        )
    if synapses.bias is not None and layer.neuron.bias_is_current:
        raise ValueError(f"the engine knows start membranes, but layer {depth} has a constant current")
    if not isinstance(synapses.wiring, Dense | Convolution):
        raise ValueError(
            f"the engine runs dense layers and convolutions; layer {depth} is {synapses.wiring.kind}"
        )
    return _Layer(synapses, synapses.wiring, events, any(True for _ in layer.parameters()))


def _dtype(weights: Iterable[Tensor]) -> torch.dtype:
    """Return the precision that all weights have; pooling has none of its own."""
    kinds = {weight.dtype for weight in weights}
    if len(kinds) > 1 or not kinds <= {torch.float32, torch.float64}:
        raise TypeError(f"weights must be all float32 or all float64, found {sorted(map(str, kinds))}")
    return kinds.pop() if kinds else torch.float32


def _starts(
    layers: Sequence[_Layer], table: np.ndarray, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the start of all membranes, who starts at the limit, and where each layer's of these begin."""
    offsets = kernel.membrane_offsets(table)
    start = np.zeros(offsets[-1], limits.dtype)
    ready: list[np.ndarray] = []
    for layer, entry, limit, begin, end in zip(layers, table, limits, offsets, offsets[1:], strict=False):
        ready.append(np.empty(0, np.int32))
        if layer.synapses.bias is None:
            continue
        bias = layer.synapses.bias.detach().cpu().numpy()
        if not np.isfinite(bias).all():
            raise ValueError(f"the bias of layer {len(ready) - 1} holds NaN or infinity")
        if isinstance(layer.wiring, Dense):
            start[begin : begin + len(bias)] = bias
            ready[-1] = np.flatnonzero(bias >= limit).astype(np.int32)
        else:
            # One run of membranes for each place of the map.
            area = entry[kernel.OUT_HEIGHT] * entry[kernel.OUT_WIDTH]
            start[begin:end].reshape(area, -1)[:, : len(bias)] = bias
            ready[-1] = np.flatnonzero(np.repeat(bias >= limit, area)).astype(np.int32)
    return start, np.concatenate(ready), np.cumsum([0, *map(len, ready)])


def _describe_patches(wiring: Convolution, shape: Shape, out_shape: Shape, entry: np.ndarray) -> None:
    entry[kernel.GROUPS] = wiring.groups
    entry[kernel.IN_CHANNELS : kernel.IN_WIDTH + 1] = shape
    entry[kernel.OUT_CHANNELS : kernel.OUT_WIDTH + 1] = out_shape
    entry[kernel.KERNEL_Y : kernel.KERNEL_X + 1] = wiring.kernel_size
    entry[kernel.STRIDE_Y : kernel.STRIDE_X + 1] = wiring.stride
    entry[kernel.PADDING_Y : kernel.PADDING_X + 1] = wiring.padding


def _limit(events: Events, dtype: np.dtype) -> np.floating:
    """The lowest membrane at which a neuron fires."""
    threshold = dtype.type(events.threshold)
    return np.nextafter(threshold, dtype.type(np.inf)) if events.strict else threshold
