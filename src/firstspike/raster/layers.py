"""Layers over rasters of flags: a connection, its normalisation, and once-only neurons.

Shapes: ``T`` steps, ``B`` samples, ``I`` and ``O`` maps or neurons in and out.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from firstspike.batch_norm import BatchNorm
from firstspike.raster.fire import fire
from firstspike.raster.settings import RasterNeuron, RasterWeights

# Weights are rounded to multiples of 2^-GRID_BITS. Sums of 0/1 flags are then exact in float32 in any
# order, so the event form fires at the very same steps.
GRID_BITS = 14


class RasterLayer(torch.nn.Module):
    """Flags ``(T, B, ...)`` in, flags out, through a convolution or a full connection.

    The membrane is ``H[t] = g (W F_in[t]) + b``, with ``W`` normalised and ``g``, ``b`` as `weights` says.

    Args:
        shape: of the weight, ``(O, I)`` or ``(O, I, k, k)``.
        num_steps: ``T``.
        neuron: once-only neuron and its surrogate gradient.
        weights: initialisation and normalisation.
        stride: of a convolution, whose padding is ``k // 2``.
        input_size: how many flags the pooling before this layer adds up; its mean is what is heard.
        pool: average pooling of the fired flags, without the division.
        current: the input is no raster but a constant current ``x`` of shape ``(B, I, ...)``, and
            ``H[t] = (t + 1) X`` with ``X = g (W x) + b``.
        generator: source of the initial weights; torch's global one by default.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_steps: int,
        neuron: RasterNeuron,
        weights: RasterWeights,
        *,
        stride: int = 1,
        input_size: int = 1,
        pool: int = 1,
        current: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if weights.norm == "batch" and neuron.recompute:
            raise ValueError(
                "recomputing would move the statistics of a batch normalisation twice; take norm='weight'"
            )
        if weights.norm == "weight" and math.prod(shape[1:]) < 2:
            raise ValueError("weight normalisation needs two inputs or more; it makes a single weight 0")
        self.num_steps, self.neuron, self.weights = num_steps, neuron, weights
        self.stride, self.input_size, self.pool, self.current = stride, input_size, pool, current
        self.fan_in = math.prod(shape[1:])
        self._spread = math.sqrt((num_steps if weights.init == "ettfs" else 1) / self.fan_in)
        bound = math.sqrt(3) * self._spread
        self.weight = torch.nn.Parameter(torch.empty(*shape).uniform_(-bound, bound, generator=generator))
        if self.weight.dim() == 4:
            # What the convolutions are fastest with.
            self.weight.data = self.weight.data.contiguous(memory_format=torch.channels_last)
        self.gain: Tensor | None = None
        self.shift: Tensor | None = None
        self.norm = BatchNorm(shape[0]) if weights.norm == "batch" else None
        if self.norm is None and weights.affine != "none":
            count = shape[0] if weights.affine == "channel" else 1
            self.gain = torch.nn.Parameter(torch.ones(count))
            self.shift = torch.nn.Parameter(torch.zeros(count))

    @property
    def out_features(self) -> int:
        """Number of output maps or neurons."""
        return self.weight.shape[0]

    def effective(self) -> tuple[Tensor, Tensor | None]:
        """Return weight ``(O, I, ...)`` and start membrane ``(O,)`` with all normalisation folded in.

        Both are multiples of ``2^-GRID_BITS``; rounding is passed straight through by gradients. The weight
        includes ``1 / input_size`` of the pooling before.
        """
        weight = self._normalised()
        gain, shift = (self.gain, self.shift) if self.norm is None else self.norm.folded()
        if gain is not None:
            weight = weight * gain.reshape(-1, *([1] * (weight.dim() - 1)))
        return round_to_grid(weight / self.input_size), None if shift is None else round_to_grid(shift)

    def forward(self, flags: Tensor) -> Tensor:
        """Return flags ``(T, B, O, ...)`` for flags ``(T, B, I, ...)`` or a current."""
        if self.neuron.recompute and torch.is_grad_enabled():
            out: Tensor = checkpoint(self._fired, flags, use_reentrant=False, preserve_rng_state=False)
            return out
        return self._fired(flags)

    def _fired(self, flags: Tensor) -> Tensor:
        return fire(
            self.membrane(flags), self.neuron, self.pool, forced=self.training and self.neuron.fire_last
        )

    def membrane(self, flags: Tensor) -> Tensor:
        """Return the membranes ``H``, ``(T, B, O, ...)``, for flags ``(T, B, I, ...)`` or a current."""
        values = flags if self.current else flags.flatten(0, 1)
        ramps = self.weights.shift == "per_step" and not self.current
        start = None
        if self.training and self.norm is not None:
            drive = self.norm(self._connect(values, self.weight / self.input_size))
        else:
            weight, start = self.effective()
            drive = self._connect(values, weight, None if ramps else start)
        if self.current:
            return drive * _clock(self.num_steps, drive.dim() + 1, drive)
        drive = drive.unflatten(0, flags.shape[:2])
        if not ramps or start is None:
            return drive
        per_map = start.to(drive.dtype).expand(self.out_features).reshape(-1, *([1] * (drive.dim() - 3)))
        return drive + per_map * _clock(self.num_steps, drive.dim(), drive)

    def _normalised(self) -> Tensor:
        if self.weights.norm != "weight":
            return self.weight
        across = tuple(range(1, self.weight.dim()))
        variance, mean = torch.var_mean(self.weight, across, correction=0, keepdim=True)
        return (self.weight - mean) * (self._spread * (variance + 1e-12).rsqrt())

    def _connect(self, values: Tensor, weight: Tensor, start: Tensor | None = None) -> Tensor:
        if start is not None:
            start = start.expand(self.out_features).to(values.dtype)
        if weight.dim() == 2:
            return F.linear(values.flatten(1), weight.to(values.dtype), start)
        return F.conv2d(
            values, weight.to(values.dtype), start, stride=self.stride, padding=weight.shape[-1] // 2
        )

    def extra_repr(self) -> str:
        """Return the sizes and settings, for printing."""
        return f"{tuple(self.weight.shape)}, stride={self.stride}, {self.neuron}, {self.weights}"


def _clock(num_steps: int, dims: int, like: Tensor) -> Tensor:
    """How often a constant current has been added by each step, ``(T, 1, ...)`` with `dims` axes."""
    steps = torch.arange(1, num_steps + 1, device=like.device, dtype=like.dtype)
    return steps.reshape(-1, *([1] * (dims - 1)))


def round_to_grid(values: Tensor) -> Tensor:
    """Return `values` rounded to multiples of ``2^-GRID_BITS``; gradients pass straight through."""
    rounded = torch.round(values.detach() * 2**GRID_BITS) / 2**GRID_BITS
    # In this order the second term is exactly 0.
    return rounded + (values - values.detach())


def earliest_pool(flags: Tensor, size: int) -> Tensor:
    """Return flags that rise with the first spike of each ``size x size`` patch, ``(T, B, C, y, x)``."""
    pooled = F.max_pool2d(flags.flatten(0, 1), size)
    return pooled.unflatten(0, flags.shape[:2])
