"""What the neurons of a one-step network are, as values. Free of torch."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from firstspike.support import check_choice

Projection = Literal["sine_window", "sine_layer", "linear", "sigmoid", "tanh", "relu"]
Carried = Literal["both", "window", "layer", "none"]
Windows = Literal["alternating", "plain", "dilated"]
SurrogateKind = Literal["rectangular", "triangular", "arctan"]


@dataclass(frozen=True, kw_only=True)
class WindowCarry:
    """A neuron of a single time step whose membrane goes from window to window and from layer to layer.

    With the current ``I``, window ``p`` of a layer has the membrane ``V[p] = alpha Omega(G, G') + I[p]``
    (Eq. 9), spikes ``o[p] = [V[p] >= threshold]`` and leaves ``V[p] - threshold o[p]``. ``G`` is what
    window ``p - 1`` left at the same place of the window, ``G'`` what the previous layer left at the same
    place of the map.

    Attributes:
        grid: ``g``; a layer walks over ``g x g`` windows.
        windows: "plain" cut the map without overlap where ``g`` divides it, "dilated" are half as wide
            again and overlap, "alternating" are plain in odd layers, dilated in even ones and plain in
            the last.
        projection: ``Omega(G, G')``. "sine_window" is the paper's ``2 sin(a G) cos(a G')`` with
            ``a = theta pi / 2`` (Eq. 5), "sine_layer" has the roles swapped, the others are the identity,
            logistic function, hyperbolic tangent and ReLU of ``G + G'``.
        carried: whether ``G`` ("window"), ``G'`` ("layer"), "both" or "none" reach the membrane; what does
            not is taken as 0, and with "none" ``Omega`` is 0. A sine of 0 is 0, so "sine_window" carries
            nothing without other windows ("layer", or ``grid`` 1), and "sine_layer" nothing for "window".
        theta: of the projection, in (0, 2).
        alpha: share of the projection in the membrane.
        threshold: ``theta_V``.
        surrogate: derivative that stands in for the threshold's, each of integral 1: "rectangular":
            ``1 / w`` within ``w / 2`` of the threshold, "triangular": falling to 0 at a distance of ``w``,
            "arctan": ``1 / (w (1 + (pi x / w)^2))``.
        width: ``w``.
        fractional: keep the mean of overlapping windows' spikes as a fraction ("-MSp"); otherwise a place
            spikes where that mean is above `region_threshold`. Without overlap there are none.
        region_threshold: see `fractional`.
    """

    grid: int = 2
    windows: Windows = "alternating"
    projection: Projection = "sine_window"
    carried: Carried = "both"
    theta: float = 0.5
    alpha: float = 0.5
    threshold: float = 0.5
    surrogate: SurrogateKind = "rectangular"
    width: float = 1.0
    fractional: bool = False
    region_threshold: float = 0.1

    def __post_init__(self) -> None:
        check_choice("WindowCarry", "windows", self.windows, get_args(Windows))
        check_choice("WindowCarry", "projection", self.projection, get_args(Projection))
        check_choice("WindowCarry", "carried", self.carried, get_args(Carried))
        check_choice("WindowCarry", "surrogate", self.surrogate, get_args(SurrogateKind))
        if not isinstance(self.grid, int) or self.grid < 1:
            raise ValueError(f"WindowCarry.grid must be a whole number, 1 or more, found {self.grid!r}")
        if not 0 < self.theta < 2:
            raise ValueError(f"WindowCarry.theta must be above 0 and below 2, found {self.theta}")
        for name in ("threshold", "width"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"WindowCarry.{name} must be above 0 and finite, found {getattr(self, name)}"
                )
        if not math.isfinite(self.alpha):
            raise ValueError(f"WindowCarry.alpha must be finite, found {self.alpha}")
        if not 0 <= self.region_threshold < 1:
            raise ValueError(
                f"WindowCarry.region_threshold must be in [0, 1), found {self.region_threshold}"
            )


def over_activation(theta: float, threshold: float = 0.5) -> float:
    """Return ``S(theta)``, the integral of ``2 sin(a x) cos(a y)`` over ``threshold <= x, y <= 1``.

    It is how much the projection adds to membranes that are above the threshold anyway; ``a = theta pi/2``.

    Raises:
        ValueError: `theta` is not in (0, 2).
    """
    if not 0 < theta < 2:
        raise ValueError(f"theta must be above 0 and below 2, found {theta}")
    a = theta * math.pi / 2
    sine = math.cos(a * threshold) - math.cos(a)
    return 2 * sine * (math.sin(a) - math.sin(a * threshold)) / a**2
