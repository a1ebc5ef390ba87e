"""Batch normalisation over all processes that train together."""

from collections.abc import Iterable

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

EPSILON = 1e-5
_MOMENTUM = 0.1


class BatchNorm(torch.nn.Module):
    """Gain, shift and running statistics of maps or neurons; see `forward`.

    Args:
        features: number of maps or neurons.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(features))
        self.shift = torch.nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_variance", torch.ones(features))
        self.momentum = _MOMENTUM

    def forward(self, values: Tensor) -> Tensor:
        """Return ``(batch, features, ...)`` normalised by the mean and variance of this batch.

        Under ``torchrun`` the batch is that of all processes. The running statistics move a tenth of the
        way. A batch of one value is normalised by them.
        """
        if not _together():
            if values.numel() == values.shape[1]:
                # One value has no spread of its own.
                gain, shift = self.folded()
                shape = (1, -1, *([1] * (values.dim() - 2)))
                return (values * gain.reshape(shape) + shift.reshape(shape)).to(values.dtype)
            return F.batch_norm(
                values,
                self.running_mean,
                self.running_variance,
                self.gain,
                self.shift,
                training=True,
                momentum=self.momentum,
                eps=EPSILON,
            )
        from torch.distributed.nn.functional import all_reduce

        across = [0, *range(2, values.dim())]
        wide = values.to(torch.float32)
        count = torch.full_like(self.gain, values.numel() / values.shape[1])
        count = all_reduce(count)
        mean = all_reduce(wide.sum(across)) / count
        shape = (1, -1, *([1] * (values.dim() - 2)))
        centred = wide - mean.reshape(shape)
        variance = all_reduce(centred.square().sum(across)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_variance.lerp_(variance * count / (count - 1), self.momentum)
        scaled = centred * ((variance + EPSILON).rsqrt() * self.gain).reshape(shape)
        return (scaled + self.shift.reshape(shape)).to(values.dtype)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return gain and shift that normalise by the running statistics, each ``(features,)``."""
        gain = self.gain * (self.running_variance + EPSILON).rsqrt()
        return gain, self.shift - gain * self.running_mean


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
