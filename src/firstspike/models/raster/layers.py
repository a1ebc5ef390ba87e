"""Layers over rasters of cumulative spikes: a connection, its normalisation, and once-only neurons.

Shapes: ``T`` steps, ``B`` samples, ``I`` and ``O`` maps or neurons in and out.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from firstspike.models.raster.fire import fire
from firstspike.models.raster.settings import RasterNeuron, RasterWeights
from firstspike.nn.largest import max_pool
from firstspike.nn.normed import BatchNorm, connect, convolution_memory, round_to_grid, scaled


class RasterLayer(torch.nn.Module):
    """Cumulative spikes ``(T, B, ...)`` in and out, through a convolution or a full connection.

    The membrane is ``H[t] = g (W F_in[t]) + b``, with ``W`` normalised and ``g``, ``b`` as `weights` says.

    Args:
        shape: of the weight, ``(O, I)`` or ``(O, I, k, k)``.
        steps: ``T``.
        neuron: once-only neuron and its surrogate gradient.
        weights: initialisation and normalisation.
        stride: of a convolution, whose padding is ``(k - 1) // 2``.
        input_size: how many spikes the pooling before this layer adds up; their mean is what it receives.
        pool: average pooling of the fired spikes, without the division.
        gain: train the batch normalisation's gain; otherwise it stays 1.
        largest: side of the squares of places of which the largest membrane alone goes on, before the batch
            normalisation; without a trained gain that is the largest after it too.
        current: the input is no raster but a constant current ``x`` of shape ``(B, I, ...)``, and
            ``H[t] = (t + 1) X`` with ``X = g (W x) + b``.
    """

    def __init__(
        self,
        shape: Sequence[int],
        steps: int,
        neuron: RasterNeuron,
        weights: RasterWeights,
        *,
        stride: int = 1,
        input_size: int = 1,
        pool: int = 1,
        gain: bool = True,
        largest: int = 1,
        current: bool = False,
    ) -> None:
        super().__init__()
        if weights.norm == "batch" and neuron.recompute:
            raise ValueError(
                "recomputing would move the statistics of a batch normalisation twice; take norm='weight'"
            )
        if weights.norm == "weight" and math.prod(shape[1:]) < 2:
            raise ValueError("weight normalisation needs two inputs or more; it makes a single weight 0")
        self.steps, self.neuron, self.weights = steps, neuron, weights
        self.stride, self.input_size, self.pool, self.current = stride, input_size, pool, current
        self.largest = largest
        self._spread = math.sqrt((steps if weights.init == "ettfs" else 1) / math.prod(shape[1:]))
        bound = math.sqrt(3) * self._spread
        weight = torch.empty(*shape).uniform_(-bound, bound)
        self.weight = torch.nn.Parameter(convolution_memory(weight))
        self.gain: Tensor | None = None
        self.shift: Tensor | None = None
        self.norm = BatchNorm(shape[0], gain=gain) if weights.norm == "batch" else None
        if self.norm is None and weights.affine != "none":
            count = shape[0] if weights.affine == "channel" else 1
            self.gain = torch.nn.Parameter(torch.ones(count))
            self.shift = torch.nn.Parameter(torch.zeros(count))

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Return weight ``(O, I, ...)`` and start membrane ``(O,)`` with all normalisation folded in.

        Both are multiples of ``2^-GRID_BITS``; rounding is passed straight through by gradients. The weight
        includes ``1 / input_size`` of the pooling before.
        """
        weight = self._normalised()
        gain, shift = (self.gain, self.shift) if self.norm is None else self.norm.folded()
        if gain is not None:
            weight = scaled(weight, gain)
        start = None if shift is None else round_to_grid(shift).expand(len(weight))
        return round_to_grid(weight / self.input_size), start

    def forward(self, spikes: Tensor) -> Tensor:
        """Return cumulative spikes ``(T, B, O, ...)`` for such ``(T, B, I, ...)`` or a current."""
        if self.neuron.recompute and torch.is_grad_enabled():
            out: Tensor = checkpoint(self._fired, spikes, use_reentrant=False, preserve_rng_state=False)
            return out
        return self._fired(spikes)

    def _fired(self, spikes: Tensor) -> Tensor:
        return fire(
            self.membrane(spikes), self.neuron, self.pool, forced=self.training and self.neuron.fire_last
        )

    def membrane(self, spikes: Tensor, *, pooled: bool = True) -> Tensor:
        """Return the membranes ``H``, ``(T, B, O, ...)``, for ``(T, B, I, ...)`` or a current.

        Args:
            spikes: the input.
            pooled: take the largest of squares of places, if the layer does.
        """
        size = self.largest if pooled else 1
        values = spikes if self.current else spikes.flatten(0, 1)
        ramps = self.weights.shift == "per_step" and not self.current
        start = None
        if self.training and self.norm is not None:
            drive = connect(values, self.weight / self.input_size, stride=self.stride)
            drive = self.norm(max_pool(drive, size))
        else:
            weight, start = self.folded()
            drive = connect(values, weight, None if ramps else start, stride=self.stride)
            drive = max_pool(drive, size)
        if self.current:
            return drive * _clock(self.steps, drive.dim() + 1, drive)
        drive = drive.unflatten(0, spikes.shape[:2])
        if not ramps or start is None:
            return drive
        per_map = start.to(drive.dtype).reshape(-1, *([1] * (drive.dim() - 3)))
        return drive + per_map * _clock(self.steps, drive.dim(), drive)

    def _normalised(self) -> Tensor:
        if self.weights.norm != "weight":
            return self.weight
        across = tuple(range(1, self.weight.dim()))
        variance, mean = torch.var_mean(self.weight, across, correction=0, keepdim=True)
        return (self.weight - mean) * (self._spread * (variance + 1e-12).rsqrt())

    def extra_repr(self) -> str:
        """Return the sizes and settings, for printing."""
        return f"{tuple(self.weight.shape)}, stride={self.stride}, {self.neuron}, {self.weights}"


def _clock(steps: int, dims: int, like: Tensor) -> Tensor:
    """How often a constant current has been added by each step, ``(T, 1, ...)`` with `dims` axes."""
    clock = torch.arange(1, steps + 1, device=like.device, dtype=like.dtype)
    return clock.reshape(-1, *([1] * (dims - 1)))


def earliest_pool(spikes: Tensor, size: int) -> Tensor:
    """Return cumulative spikes ``(T, B, C, y, x)`` of the first spike of each ``size x size`` places."""
    return max_pool(spikes.flatten(0, 1), size).unflatten(0, spikes.shape[:2])
