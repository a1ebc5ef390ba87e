"""What the neurons of a one-step network are, as values. Free of torch."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from firstspike.models.layout import (
    Bottleneck,
    Conv,
    Dense,
    Gather,
    Pool,
    Recurrent,
    Whiten,
    parse_layout,
)
from firstspike.models.surrogates import SurrogateKind, check_surrogate
from firstspike.support import InputError, check_choice, check_numbers

PatchPart = Conv | Whiten | Recurrent | Dense | Bottleneck | Gather | Pool
PARTS: tuple[type[PatchPart], ...] = (Conv, Whiten, Recurrent, Dense, Bottleneck, Gather, Pool)

Projection = Literal["sine_patch", "sine_layer", "linear", "sigmoid", "tanh", "relu"]
Carried = Literal["both", "patch", "layer", "none"]
Patches = Literal["alternating", "plain", "dilated"]


@dataclass(frozen=True, kw_only=True)
class PatchCarry:
    """A neuron of a single time step whose membrane goes from patch to patch and from layer to layer.

    With the current ``I``, patch ``p`` of a layer has the membrane ``V[p] = alpha Omega(G, G') + I[p]``
    (Eq. 9), spikes ``o[p] = [V[p] >= threshold]`` and leaves ``V[p] - threshold o[p]``. ``G`` is what
    patch ``p - 1`` left at the same place of the patch, ``G'`` what the previous layer left at the same
    place of the map.

    Attributes:
        grid: ``g``; a layer walks over ``g x g`` patches.
        patches: "plain" cut the map without overlap where ``g`` divides it, "dilated" are half as wide
            again and overlap, "alternating" are plain in odd layers, dilated in even ones and plain in
            the last.
        projection: ``Omega(G, G')``. "sine_patch" is the paper's ``2 sin(a G) cos(a G')`` with
            ``a = theta pi / 2`` (Eq. 5), "sine_layer" has the roles swapped, the others are the identity,
            logistic function, hyperbolic tangent and ReLU of ``G + G'``.
        carried: whether ``G`` ("patch"), ``G'`` ("layer"), "both" or "none" reach the membrane; what does
            not is taken as 0, and with "none" ``Omega`` is 0. A sine of 0 is 0, so "sine_patch" carries
            nothing without other patches ("layer", or ``grid`` 1), and "sine_layer" nothing for "patch".
        theta: of the projection, in (0, 2).
        alpha: share of the projection in the membrane.
        threshold: ``theta_V``.
        surrogate, width: see `firstspike.models.surrogates`.
        fractional: keep the mean of overlapping patches' spikes as a fraction ("-MSp"); otherwise a place
            spikes where that mean is above `region_threshold`. Without overlap there are none.
        region_threshold: see `fractional`.
    """

    grid: int = 2
    patches: Patches = "alternating"
    projection: Projection = "sine_patch"
    carried: Carried = "both"
    theta: float = 0.5
    alpha: float = 0.5
    threshold: float = 0.5
    surrogate: SurrogateKind = "rectangular"
    width: float = 1.0
    fractional: bool = False
    region_threshold: float = 0.1

    def __post_init__(self) -> None:
        check_choice("PatchCarry", "patches", self.patches, get_args(Patches))
        check_choice("PatchCarry", "projection", self.projection, get_args(Projection))
        check_choice("PatchCarry", "carried", self.carried, get_args(Carried))
        check_surrogate("PatchCarry", self.surrogate, self.width)
        if not isinstance(self.grid, int) or self.grid < 1:
            raise ValueError(f"PatchCarry.grid must be an integer, 1 or more, found {self.grid!r}")
        if not 0 < self.theta < 2:
            raise ValueError(f"PatchCarry.theta must be above 0 and below 2, found {self.theta}")
        if not 0 < self.threshold < math.inf:
            raise ValueError(f"PatchCarry.threshold must be above 0 and finite, found {self.threshold}")
        if not math.isfinite(self.alpha):
            raise ValueError(f"PatchCarry.alpha must be finite, found {self.alpha}")
        if not 0 <= self.region_threshold < 1:
            raise ValueError(
                f"PatchCarry.region_threshold must be in [0, 1), found {self.region_threshold}"
            )
        check_numbers(self, "theta", "alpha", "threshold", "width", "region_threshold")


def one_step_parts(layout: str) -> list[PatchPart]:
    """Return the parts of a one-step network's layout.

    Raises:
        InputError: a part that such a network does not have, a convolution with a stride, a first part that
            is neither a convolution nor an LSTM, or another pooling than earliest-spike pooling behind a
            convolution.
    """
    parts = parse_layout(layout, PARTS)
    if not isinstance(parts[0], Conv | Whiten | Recurrent):
        raise InputError(f"layout {layout!r}: the first part must be a convolution, whitening or an LSTM")
    for part, following in pairwise(parts):
        if isinstance(following, Pool) and (following.kind == "average" or not isinstance(part, Conv)):
            raise InputError(
                f"layout {layout!r}: pooling is of a convolution's currents here, Ek behind nCk"
            )
    if any(isinstance(part, Conv) and part.stride > 1 for part in parts):
        raise InputError(f"layout {layout!r}: convolutions have stride 1 here; nG halves the map's sides")
    return parts


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
