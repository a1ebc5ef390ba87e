"""Learning rules: how a gradient passes a neuron that spikes at most once.

A spike time is a step function of the weights, so what stands in for its derivative is a choice.
Each choice is a small frozen dataclass that a neuron model carries as a field.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from firstspike.support import check_choice

Norm = Literal["none", "l1", "l2"]
Saturation = Literal["closed", "one_sided", "smooth", "open"]


@dataclass(frozen=True, kw_only=True)
class TemporalRule:
    """Temporal backpropagation through a causal neuron with the step synapse.

    The published rule (Spiking-GAN Eqs. 8-15, arXiv 2106.15420; S4NN, arXiv 1910.09495) treats the
    neuron as a ReLU of ``T - t``: ``dt_j/dw_ji = -m_ij`` and ``dt_j/dt_i = w_ji m_ij`` with the
    causal mask ``m_ij = [t_i <= t_j]``.

    Attributes:
        norm: divide each sample's output gradient by its L1 or L2 norm ("l1" is Spiking-GAN's, "l2"
            S4NN's), then by the batch size, so that a layer's update is a mean over samples.
    """

    norm: Norm = "none"

    def __post_init__(self) -> None:
        check_choice("TemporalRule", "norm", self.norm, get_args(Norm))


@dataclass(frozen=True, kw_only=True)
class ExactRule:
    """Exact gradients through a causal neuron with the ramp synapse.

    The membrane is ``V_j(t) = sum_i w_ji (t - t_i)`` over the inputs before ``t``, so the crossing is
    ``t_j = (theta + sum w t_i) / A`` with the slope ``A = sum w``, and ``dt_j/dw_ji = (t_i - t_j)/A``,
    ``dt_j/dt_i = w_ji / A``. Rounding up to the next step is passed straight through. A neuron that
    did not cross has no gradient.

    Attributes:
        min_slope: slopes below this count as this in the gradient, which bounds it.
    """

    min_slope: float = 1e-6

    def __post_init__(self) -> None:
        if not self.min_slope > 0:
            raise ValueError(f"ExactRule.min_slope must be above 0, found {self.min_slope}")


@dataclass(frozen=True, kw_only=True)
class RunningMaxRule:
    """A surrogate gradient through the running maximum of a causal neuron's membrane.

    A neuron with the step synapse has fired by step t exactly if its membrane has reached threshold at
    some step up to t. At a few steps, the levels, the derivative of this flag is replaced by
    ``1 / (1 + |M - theta| / width)^2`` (the fast sigmoid's) of the largest membrane ``M`` at the levels so
    far, and handed to the level that holds it. A peak between two levels is fired upon, but not seen by
    the gradient. Our own rule; see ``docs/faithfulness.md``.

    Attributes:
        levels: steps at which the membrane is looked at, ascending, below ``T``.
        width: width of the surrogate in units of the membrane.
    """

    levels: tuple[int, ...] = (0, 1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90, 130, 190)
    width: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        whole = all(isinstance(level, int) for level in self.levels)
        ascending = all(a < b for a, b in pairwise(self.levels))
        if not self.levels or not whole or self.levels[0] < 0 or not ascending:
            raise ValueError(f"RunningMaxRule.levels must be ascending whole steps, found {self.levels}")
        if not self.width > 0:
            raise ValueError(f"RunningMaxRule.width must be above 0, found {self.width}")


@dataclass(frozen=True, kw_only=True)
class StraightThroughRule:
    """The gradient of a window neuron: quantisation is passed straight through.

    Attributes:
        saturation: what a neuron at and outside the ends of its range receives. "closed": nothing
            outside, the exact gradient of the clip. "one_sided": outside, only what pulls it back.
            "smooth": the slope ``sech^2`` of a tanh over the range, which fades towards the ends and
            beyond instead of stopping there. "open": everything.
    """

    saturation: Saturation = "closed"

    def __post_init__(self) -> None:
        check_choice("StraightThroughRule", "saturation", self.saturation, get_args(Saturation))
