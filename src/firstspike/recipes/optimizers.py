"""Optimisers as values of a recipe, and Muon for convolutions, which torch has for matrices only."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from firstspike.recipes.fields import Checked, Count, Positive, ShareBelowOne
from firstspike.support import InputError

# One Newton-Schulz step maps a singular value s to a s + b s^3 + c s^5.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
# Zeros stay zeros.
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class AdamW(Checked):
    """AdamW, under which weights decay and biases do not."""

    def of(self, model: torch.nn.Module, rate: float, weight_decay: float) -> torch.optim.Optimizer:
        """Return the optimiser of a model's parameters."""
        return torch.optim.AdamW(parameter_groups(model, weight_decay), rate, fused=True)


@dataclass(frozen=True, kw_only=True)
class Sgd(Checked):
    """Gradient descent with momentum.

    Attributes:
        momentum: share of the last step that is kept.
        nesterov: look ahead by the momentum.
        bias_rate: the rate of biases, as a multiple of the weights'.
    """

    momentum: ShareBelowOne = 0.9
    nesterov: bool = False
    bias_rate: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise InputError("Sgd.nesterov looks ahead by the momentum; give a momentum above 0")

    def of(self, model: torch.nn.Module, rate: float, weight_decay: float) -> torch.optim.Optimizer:
        """Return the optimiser of a model's parameters."""
        groups = parameter_groups(model, weight_decay)
        for group in groups:
            if group["params"][0].dim() < 2:
                group["rate_scale"] = self.bias_rate
        return torch.optim.SGD(groups, rate, momentum=self.momentum, nesterov=self.nesterov)


@dataclass(frozen=True, kw_only=True)
class Muon(Checked):
    """Orthogonalised momentum for the filters of convolutions, plain momentum for everything else.

    See `OrthogonalMomentum`. The weight decay is that of fully connected weights.

    Attributes:
        momentum: share of the last step that is kept; Nesterov's.
        iterations: Newton-Schulz steps towards the nearest orthogonal matrix.
        bias_rate, head_rate: rates of biases and of fully connected weights, as multiples of the filters'.
    """

    momentum: ShareBelowOne = 0.6
    iterations: Count = 3
    bias_rate: Positive = 0.22
    head_rate: Positive = 0.22

    def of(self, model: torch.nn.Module, rate: float, weight_decay: float) -> torch.optim.Optimizer:
        """Return the optimiser of a model's parameters."""
        scales = {4: 1.0, 2: self.head_rate, 1: self.bias_rate}
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {
                "params": [p for p in trained if p.dim() == dims],
                "rate_scale": scale,
                "weight_decay": weight_decay if dims == 2 else 0.0,
            }
            for dims, scale in scales.items()
        ]
        return OrthogonalMomentum(
            [group for group in groups if group["params"]],
            rate,
            momentum=self.momentum,
            iterations=self.iterations,
        )


class OrthogonalMomentum(torch.optim.Optimizer):
    """Steps along the orthogonalised momentum of each convolution (Muon, K. Jordan et al. 2024).

    A filter bank ``(O, I, k, k)``, seen as a matrix ``(O, I k^2)``, is first scaled to the norm
    ``sqrt(O)``, which makes no difference to a layer whose membranes are normalised, so that the rate means
    the same for each bank and all through the training. Other parameters take Nesterov's step.
    `torch.optim.Muon` is for matrices only and does not scale them.

    Args:
        params: parameters or groups with a ``weight_decay`` of their own.
        lr: step of a filter bank; the rate of the others.
        momentum: Nesterov's.
        iterations: Newton-Schulz steps.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, *, momentum: float = 0.6, iterations: int = 3
    ) -> None:
        super().__init__(
            params, {"lr": lr, "weight_decay": 0.0, "momentum": momentum, "iterations": iterations}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step down the gradients that are there."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad
                if group["weight_decay"]:
                    gradient = gradient.add(parameter, alpha=group["weight_decay"])
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                gathered = state["momentum"].mul_(group["momentum"]).add_(gradient)
                step = gradient.add(gathered, alpha=group["momentum"])
                if parameter.dim() == 4:
                    parameter.mul_(math.sqrt(len(parameter)) / parameter.norm().clamp_min(_TINY))
                    step = orthogonal(step.flatten(1), group["iterations"]).view_as(step)
                parameter.add_(step, alpha=-group["lr"])


def orthogonal(matrix: Tensor, iterations: int) -> Tensor:
    """Return about the nearest matrix with orthonormal rows, or columns if there are more rows.

    Newton-Schulz steps of fifth order on the matrix divided by its Frobenius norm: singular vectors stay,
    and after three steps singular values of 2 % of that norm or more lie between 0.68 and 1.21.

    Args:
        matrix: ``(O, I)``.
        iterations: how many steps.
    """
    a, b, c = NEWTON_SCHULZ
    wide = len(matrix) <= matrix.shape[1]
    found = matrix if wide else matrix.T
    found = found / found.norm().clamp_min(_TINY)
    for _ in range(iterations):
        square = found @ found.T
        found = a * found + (b * square + c * square @ square) @ found
    return found if wide else found.T


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return `model`'s trained parameters for an optimiser: weights decay, the others do not."""
    # Gains, shifts and biases have one axis; pulling them to 0 would silence neurons.
    groups = [
        {
            "params": [p for p in model.parameters() if p.requires_grad and (p.dim() > 1) == decays],
            "weight_decay": weight_decay if decays else 0.0,
        }
        for decays in (True, False)
    ]
    return [group for group in groups if group["params"]]
