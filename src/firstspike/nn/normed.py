"""Connections with batch normalisation, over all processes that train together, and how it is folded.

Shapes: ``B`` samples, ``I`` and ``O`` maps or neurons in and out, ``k`` the side of a kernel.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from firstspike.nn.largest import max_pool
from firstspike.nn.side_by_side import convolution

EPSILON = 1e-5
# Where nothing but the variance scales a map: one that hardly ever changes would be blown up to weights
# whose sums float32 rounds.
_EPSILON_ALONE = 1e-3
_MOMENTUM = 0.1
# Weights on the grid are multiples of 2^-GRID_BITS. Sums of 0/1 spikes are then exact in float32 in any
# order, so that layers on spike times fire at the very same steps.
GRID_BITS = 14


class BatchNorm(torch.nn.Module):
    """Normalisation of maps or neurons, with parameters named as torch's; see `forward`.

    Weights of `torch.nn.BatchNorm2d` load; their ``num_batches_tracked`` is not needed.

    Args:
        features: number of maps or neurons.
        gain: train a gain; otherwise it stays 1, and what is added to the variance is 1e-3 instead of 1e-5.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, *, gain: bool = True) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(features), requires_grad=gain)
        self.bias = torch.nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.momentum = _MOMENTUM
        self.epsilon = EPSILON if gain else _EPSILON_ALONE

    def forward(self, values: Tensor) -> Tensor:
        """Return ``(B, features, ...)`` normalised, in training by the mean and variance of this batch.

        Under ``torchrun`` the batch is that of all processes. The running statistics move a tenth of the
        way. In evaluation they normalise, and in training a batch of one value, which has no spread.
        """
        shape = (1, -1, *([1] * (values.dim() - 2)))
        together = self.training and _together()
        if not self.training or (not together and values.numel() == values.shape[1]):
            weight, bias = self.folded()
            return (values * weight.reshape(shape) + bias.reshape(shape)).to(values.dtype)
        if not together:
            return F.batch_norm(
                values,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=True,
                momentum=self.momentum,
                eps=self.epsilon,
            )
        from torch.distributed.nn.functional import all_reduce

        across = [0, *range(2, values.dim())]
        wide = values.to(torch.float32)
        count = torch.full_like(self.weight, values.numel() / values.shape[1])
        count = all_reduce(count)
        mean = all_reduce(wide.sum(across)) / count
        centred = wide - mean.reshape(shape)
        variance = all_reduce(centred.square().sum(across)) / count
        self.move(mean, variance, count)
        scaled = centred * ((variance + self.epsilon).rsqrt() * self.weight).reshape(shape)
        return (scaled + self.bias.reshape(shape)).to(values.dtype)

    def normalises_by_batch(self, values: Tensor) -> bool:
        """Return whether `forward` normalises these values by the statistics of this process's batch."""
        return self.training and values.numel() > values.shape[1] and not _together()

    @torch.no_grad()
    def move(self, mean: Tensor, variance: Tensor, count: int | Tensor) -> None:
        """Move the running statistics towards those of a batch.

        Args:
            mean, variance: ``(features,)``; the variance without Bessel's correction.
            count: values of each feature in the batch, more than one.
        """
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_((variance * (count / (count - 1))).to(self.running_var.dtype), self.momentum)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return the gain and shift that normalise by the running statistics, each ``(features,)``."""
        gain = self.weight * (self.running_var + self.epsilon).rsqrt()
        return gain, self.bias - gain * self.running_mean

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        counted = f"{prefix}num_batches_tracked"
        kept = {name: value for name, value in state_dict.items() if name != counted}
        super()._load_from_state_dict(kept, prefix, *args, **kwargs)


class NormedConnection(torch.nn.Module):
    """A full connection or a convolution with batch normalisation, folded into it in evaluation.

    Args:
        shape: of the weight, ``(O, I)`` or ``(O, I, k, k)``; ``(I, O, k, k)`` of a transposed convolution.
        stride: of a convolution, whose padding is ``(k - 1) // 2``.
        transposed: whether it is a transposed convolution.
        on_grid: fold onto multiples of ``2^-GRID_BITS``.
        gain: train the normalisation's gain; otherwise it stays 1.
        pool: side of the squares of places of which the largest membrane alone goes on, before the
            normalisation; without a trained gain, as connections on the grid have it there, that is the
            largest after it too.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        stride: int = 1,
        transposed: bool = False,
        on_grid: bool = True,
        gain: bool = True,
        pool: int = 1,
    ) -> None:
        super().__init__()
        self.stride, self.transposed, self.on_grid, self.pool = stride, transposed, on_grid, pool
        weight = torch.empty(*shape)
        torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")
        self.weight = torch.nn.Parameter(convolution_memory(weight))
        self.norm = BatchNorm(shape[transposed], gain=gain)

    def forward(self, values: Tensor) -> Tensor:
        """Return normalised membranes ``(B, O, ...)`` for values ``(B, I, ...)``."""
        # In the weights, a trained gain below 0 would let the smallest go on.
        folds = self.on_grid or self.pool == 1
        if folds and not self.training:
            return max_pool(self._sums(values, *self.folded()), self.pool)
        normalised: Tensor = self.norm(self.before_norm(values))
        return normalised

    def before_norm(self, values: Tensor) -> Tensor:
        """Return the sums ``(B, O, ...)`` that the normalisation receives in training."""
        return max_pool(self._sums(values, self.weight), self.pool)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias with the normalisation by running statistics in them."""
        gain, bias = self.norm.folded()
        weight = (
            self.weight * gain.unsqueeze(-1).unsqueeze(-1) if self.transposed else scaled(self.weight, gain)
        )
        return (round_to_grid(weight), round_to_grid(bias)) if self.on_grid else (weight, bias)

    def _sums(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return connect(values, weight, bias, stride=self.stride, transposed=self.transposed)


def connect(
    values: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, transposed: bool = False
) -> Tensor:
    """Return the sums of values ``(B, I, ...)`` through a weight, in the values' type.

    Args:
        values: maps ``(B, I, y, x)``; any shape for a full connection.
        weight: ``(O, I)``; ``(O, I, k, k)`` of a convolution, ``(I, O, k, k)`` of a transposed one, with
            padding ``(k - 1) // 2``.
        bias: ``(O,)``.
        stride: of a convolution.
        transposed: whether it is a transposed convolution.
    """
    weight, bias = weight.to(values.dtype), None if bias is None else bias.to(values.dtype)
    if weight.dim() == 2:
        return F.linear(values.flatten(1), weight, bias)
    if transposed:
        padding = (weight.shape[-1] - 1) // 2
        return F.conv_transpose2d(values, weight, bias, stride=stride, padding=padding)
    return convolution(values, weight, bias, stride=stride)


def scaled(weight: Tensor, gain: Tensor) -> Tensor:
    """Return `weight` with each neuron's or map's times its gain, ``(O,)`` or one for all ``(1,)``."""
    return weight * gain.reshape(-1, *([1] * (weight.dim() - 1)))


def convolution_memory(weight: Tensor) -> Tensor:
    """Return a kernel channels last in memory, which convolutions are fastest with; others as they are.

    ``contiguous`` would leave maps of one channel as they are, whose strides then say channels first.
    """
    return weight.to(memory_format=torch.channels_last) if weight.dim() == 4 else weight


def round_to_grid(values: Tensor) -> Tensor:
    """Return `values` rounded to multiples of ``2^-GRID_BITS``; gradients pass straight through."""
    rounded = torch.round(values.detach() * 2**GRID_BITS) / 2**GRID_BITS
    # In this order the second term is exactly 0.
    return rounded + (values - values.detach())


@torch.no_grad()
def renew_statistics(model: torch.nn.Module, batches: Iterable[Tensor]) -> None:
    """Give every `BatchNorm` of `model` the mean statistics of these batches instead of its running ones.

    Running statistics are those of distorted training images under earlier weights; what is measured later
    are plain images under these.

    Args:
        model: put into training mode and back.
        batches: inputs of `model`.
    """
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    if not norms:
        return
    training = model.training
    model.train()
    for index, batch in enumerate(batches):
        for norm in norms:
            norm.momentum = 1 / (index + 1)
        model(batch)
    for norm in norms:
        norm.momentum = _MOMENTUM
    model.train(training)


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
