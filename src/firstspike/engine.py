"""Inference one image at a time, stopped by the first output spike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from firstspike.kernels.cpu import engine as kernel
from firstspike.kernels.cpu.vectors import LANES
from firstspike.neurons import Causal
from firstspike.nn import AvgPool2d, Conv2d, Layer, Linear, Stack
from firstspike.spikes import check_times


@dataclass(frozen=True)
class Decision:
    """What a network said about one image, and what it cost.

    Attributes:
        label: the output that spiked first; -1 for a tie or silence (`decision.STRICT`).
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
    ends, so later input spikes are checked and sorted and cost nothing more. Spike times up to then are
    those of `Stack.trace` to the last bit, and spikes and operations those of `metrics.cost` up to the
    decision.

    One image runs on one core. Calls from several threads do not disturb each other. Dropout is that of
    evaluation: none.

    Args:
        stack: `Linear`, `Conv2d` and `AvgPool2d` of causal neurons with the step synapse. Its weights are
            copied.
        in_shape: shape of an image, ``(channels, y, x)``, which a stack that begins with a convolution or
            pooling does not know; the features of a linear layer by default.

    Raises:
        TypeError: weights that are not all float32 or all float64.
        ValueError: another neuron model, shapes that do not fit, weights that are not finite.

    >>> from firstspike import Causal, Linear, Stack
    >>> layer = Linear(3, 2, 16, Causal())
    >>> _ = torch.nn.init.constant_(layer.weight, 0.6)
    >>> layer.weight.data[1, 2] = 0.2
    >>> decision = Engine(Stack([layer])).run(torch.tensor([4.0, 16.0, 9.0]))
    >>> decision.label, decision.step, decision.spikes, decision.synaptic_operations
    (0, 9, (2, 1), 4)
    """

    def __init__(self, stack: Stack, in_shape: tuple[int, ...] | None = None) -> None:
        layers = list(stack)
        if stack.past:
            raise ValueError("the engine runs layers one after the other; this stack has shortcuts")
        for depth, layer in enumerate(layers):
            _check_layer(layer, depth)
        dtype = _dtype(layers)
        shapes = stack.shapes(in_shape)
        self.num_steps, self._in_shape = stack.num_steps, shapes[0]
        rows: list[np.ndarray] = []
        self._table = np.zeros((len(layers), kernel.COLUMNS), np.int64)
        for layer, entry, shape, out_shape in zip(layers, self._table, shapes, shapes[1:], strict=False):
            entry[kernel.IN_FEATURES], entry[kernel.OUT_FEATURES] = math.prod(shape), math.prod(out_shape)
            entry[kernel.WEIGHTS] = sum(part.size for part in rows)
            entry[kernel.DELAY] = min(_causal(layer).delay, self.num_steps)
            weight = _weight_rows(layer, shape)
            if not torch.isfinite(weight).all():
                raise ValueError(f"weights of layer {len(rows)} hold NaN or infinity")
            rows.append(weight.to(dtype).flatten().numpy())
            if isinstance(layer, Conv2d | AvgPool2d):
                _describe_patches(layer, shape, out_shape, entry)
        self._flat = np.concatenate([*rows, np.zeros(LANES, rows[0].dtype)])
        self._limits = np.array([_limit(_causal(layer), self._flat.dtype) for layer in layers])
        self._start, self._ready, self._ready_from = _starts(layers, self._table, self._limits)

    def run(self, times: Tensor, *, early_exit: bool = True) -> Decision:
        """Return the decision on one image.

        Args:
            times: whole steps, ``T`` silent, ``(in_features,)`` or `in_shape`.
            early_exit: stop after the step of the first output spike; otherwise walk through all spikes.

        Raises:
            TypeError: `times` is not a tensor of numbers.
            ValueError: its shape does not fit, it is not on the CPU, or a time is NaN, not whole or out
                of range.
        """
        out, result = self._decide(times, False, early_exit)
        label, step, tied, silent, operations, *spikes = result[0].tolist()
        return Decision(
            label, step, tuple(spikes), operations, torch.from_numpy(out[0]), bool(tied), bool(silent)
        )

    def run_many(self, times: Tensor, *, early_exit: bool = True) -> Decisions:
        """Return the decisions on images, ``(images, ...)``, one after the other on one core.

        Raises:
            TypeError, ValueError: as for `run`.
        """
        out, result = self._decide(times, True, early_exit)
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

    def _decide(self, times: Tensor, many: bool, early_exit: bool) -> tuple[np.ndarray, np.ndarray]:
        if not isinstance(times, Tensor):
            raise TypeError(f"times must be a tensor of spike times in steps, found {type(times).__name__}")
        shape = times.shape[1:] if many else times.shape
        if shape != self._in_shape or (many and times.dim() == 0):
            expected = (("images",) if many else ()) + self._in_shape
            raise ValueError(
                f"times must have the shape ({', '.join(map(str, expected))}), found {tuple(times.shape)}"
            )
        if times.dtype != torch.float32:
            times = check_times(times, self.num_steps).to(torch.float32)
        if times.device.type != "cpu":
            raise ValueError(f"the engine runs on the CPU, found times on {times.device}")
        given = times.detach().contiguous().numpy()
        out, result, refused = kernel.decide(
            given.reshape(len(given) if many else 1, self._table[0, kernel.IN_FEATURES]),
            self._flat,
            self._limits,
            self._table,
            self._start,
            self._ready,
            self._ready_from,
            self.num_steps,
            early_exit,
        )
        if refused >= 0:
            check_times(times, self.num_steps)
        return out, result


def _check_layer(layer: Layer, depth: int) -> None:
    if not isinstance(layer.neuron, Causal) or layer.neuron.synapse != "step":
        raise ValueError(
            "the engine runs causal layers with the step synapse, which share one clock; "
            f"layer {depth} has {layer.neuron}"
        )
    if not isinstance(layer, AvgPool2d) and layer.bias is not None and layer.bias_steps > 1:
        raise ValueError(f"the engine knows start membranes, but layer {depth} has a constant current")


def _causal(layer: Layer) -> Causal:
    assert isinstance(layer.neuron, Causal)
    return layer.neuron


def _dtype(layers: Sequence[Layer]) -> torch.dtype:
    """Return the precision that all weights have; pooling has none of its own."""
    kinds = {layer.weight.dtype for layer in layers if not isinstance(layer, AvgPool2d)}
    if len(kinds) > 1 or not kinds <= {torch.float32, torch.float64}:
        raise TypeError(f"weights must be all float32 or all float64, found {sorted(map(str, kinds))}")
    return kinds.pop() if kinds else torch.float32


def _weight_rows(layer: Layer, shape: tuple[int, ...]) -> Tensor:
    """Return a copy of the weights whose last axis is what one input spike adds in one place."""
    if isinstance(layer, Linear):
        return layer.weight.detach().cpu().t().contiguous()
    groups = layer.groups if isinstance(layer, Conv2d) else shape[0]
    weight = layer.weight_for(groups) if isinstance(layer, AvgPool2d) else layer.weight.detach().cpu()
    return weight.reshape(groups, len(weight) // groups, -1).transpose(1, 2).contiguous()


def _starts(
    layers: Sequence[Layer], table: np.ndarray, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the start of all membranes, who starts at the limit, and where each layer's of these begin."""
    offsets = kernel.membrane_offsets(table)
    start = np.zeros(offsets[-1], limits.dtype)
    ready: list[np.ndarray] = []
    for layer, entry, limit, begin, end in zip(layers, table, limits, offsets, offsets[1:], strict=False):
        ready.append(np.empty(0, np.int32))
        if isinstance(layer, AvgPool2d) or layer.bias is None:
            continue
        bias = layer.bias.detach().cpu().numpy()
        if not np.isfinite(bias).all():
            raise ValueError(f"the bias of layer {len(ready) - 1} holds NaN or infinity")
        if isinstance(layer, Linear):
            start[begin : begin + len(bias)] = bias
            ready[-1] = np.flatnonzero(bias >= limit).astype(np.int32)
        else:
            # One run of membranes for each place of the map.
            area = entry[kernel.OUT_HEIGHT] * entry[kernel.OUT_WIDTH]
            start[begin:end].reshape(area, -1)[:, : len(bias)] = bias
            ready[-1] = np.flatnonzero(np.repeat(bias >= limit, area)).astype(np.int32)
    return start, np.concatenate(ready), np.cumsum([0, *map(len, ready)])


def _describe_patches(
    layer: Conv2d | AvgPool2d, shape: tuple[int, ...], out_shape: tuple[int, ...], entry: np.ndarray
) -> None:
    pools = isinstance(layer, AvgPool2d)
    entry[kernel.GROUPS] = shape[0] if pools else layer.groups
    entry[kernel.IN_CHANNELS : kernel.IN_WIDTH + 1] = shape
    entry[kernel.OUT_CHANNELS : kernel.OUT_WIDTH + 1] = out_shape
    entry[kernel.KERNEL_Y : kernel.KERNEL_X + 1] = layer.kernel_size
    entry[kernel.STRIDE_Y : kernel.STRIDE_X + 1] = layer.stride
    entry[kernel.PADDING_Y : kernel.PADDING_X + 1] = (0, 0) if pools else layer.padding


def _limit(neuron: Causal, dtype: np.dtype) -> np.floating:
    """The lowest membrane at which a neuron fires."""
    threshold = dtype.type(neuron.threshold)
    return np.nextafter(threshold, dtype.type(np.inf)) if neuron.strict else threshold
