"""The derivatives that stand in for a threshold's. Free of torch until one is computed.

Each is ``g(x / w) / w`` of the membrane's distance ``x`` from the threshold, with one width ``w``. Every
``g`` has area 1 and height 1 at the threshold, so all kinds of one width are as high, ``1 / w``:

- "rectangular": ``1`` for ``|u| < 1/2``,
- "triangular": ``max(0, 1 - |u|)``,
- "arctan": ``1 / (1 + (pi u)^2)``,
- "sigmoid": ``4 s(4 u) (1 - s(4 u))`` with the logistic function ``s``,
- "fast_sigmoid": ``1 / (1 + 2 |u|)^2``.
"""

import math
from typing import TYPE_CHECKING, Literal

from firstspike.support import check_choice

if TYPE_CHECKING:
    from torch import Tensor

SurrogateKind = Literal["rectangular", "triangular", "arctan", "sigmoid", "fast_sigmoid"]
KINDS: tuple[SurrogateKind, ...] = ("rectangular", "triangular", "arctan", "sigmoid", "fast_sigmoid")


def check_surrogate(owner: str, kind: str, width: float) -> None:
    """Raise ValueError if there is no such surrogate; `owner` is the class whose fields they are."""
    check_choice(owner, "surrogate", kind, KINDS)
    if not 0 < width < math.inf:
        raise ValueError(f"{owner}.width must be above 0 and finite, found {width}")


def surrogate(distance: "Tensor", kind: SurrogateKind, width: float) -> "Tensor":
    """Return the derivative at a membrane's `distance` from the threshold, of its shape and type."""
    u = distance / width
    if kind == "rectangular":
        return (u.abs() < 0.5).to(distance.dtype) / width
    if kind == "triangular":
        return (1 - u.abs()).clamp_min(0) / width
    if kind == "arctan":
        return 1 / (width * (1 + (math.pi * u) ** 2))
    if kind == "sigmoid":
        above = (4 * u).sigmoid()
        return 4 / width * above * (1 - above)
    return 1 / (width * (1 + 2 * u.abs()) ** 2)
