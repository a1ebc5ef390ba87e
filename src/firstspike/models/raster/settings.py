"""What a network over rasters is made of, as values: neuron, weights, read-out. Free of torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from firstspike.models.layout import Conv, Full, Pool, Whiten
from firstspike.models.surrogates import SurrogateKind, check_surrogate
from firstspike.support import check_choice, check_numbers

# No residual blocks: the sum of two layers of spikes is no single spike.
PARTS: tuple[type[Conv | Whiten | Pool | Full], ...] = (Conv, Whiten, Pool, Full)

Gradient = Literal["every_step", "firing_step", "bptt"]
Init = Literal["ettfs", "kaiming"]
Norm = Literal["weight", "batch", "none"]
Affine = Literal["channel", "layer", "none"]
Shift = Literal["once", "per_step"]


@dataclass(frozen=True, kw_only=True)
class RasterNeuron:
    """The once-only integrate-and-fire neuron with threshold 1 and its surrogate gradient.

    With the cumulative spikes ``F[t]``, 1 from the neuron's spike on, its membrane is ``H[t] = W F_in[t]``
    (the sum over all earlier spikes) and ``F[t] = max(F[t-1], H[t] >= 1)``.

    Attributes:
        surrogate, width: see `firstspike.models.surrogates`.
        gradient: where the surrogate is applied. "every_step": ``dF[t]/dH[t]`` at each step, the recurrence
            of ``F`` left out. "firing_step": at the step of the spike only. "bptt": through the whole
            recursion ``S[t] = Theta(H[t] - 1) (1 - F[t-1])``, ``F[t] = F[t-1] + S[t]``.
        fire_last: during training a neuron that never crosses fires at the last step. In evaluation it
            stays silent: on one clock such a spike comes too late for any decision.
        recompute: keep only the cumulative spikes for the backward pass and compute the membranes again.
    """

    surrogate: SurrogateKind = "arctan"
    width: float = 1.0
    gradient: Gradient = "every_step"
    fire_last: bool = False
    recompute: bool = False

    def __post_init__(self) -> None:
        check_surrogate("RasterNeuron", self.surrogate, self.width)
        check_choice("RasterNeuron", "gradient", self.gradient, get_args(Gradient))
        check_numbers(self, "width")


@dataclass(frozen=True, kw_only=True)
class RasterWeights:
    """How the weights of a layer over rasters start and are normalised.

    Attributes:
        init: "ettfs" (Eq. 14): uniform in ``+- sqrt(3 T / N_in)``; "kaiming": uniform in
            ``+- sqrt(3 / N_in)``.
        norm: "weight" (Eq. 16): each neuron's weights are shifted to mean 0 and scaled to the standard
            deviation of the initialisation in every pass; "batch": the membranes are normalised over batch
            and time, folded into weights and start membrane for inference; "none".
        affine: a gain and a shift (Eq. 17) per "channel", one pair per "layer", or "none".
        shift: when the shift is added: "once", which is a start membrane, or "per_step" (as the paper
            writes it), which is a constant current.
    """

    init: Init = "ettfs"
    norm: Norm = "weight"
    affine: Affine = "channel"
    shift: Shift = "once"

    def __post_init__(self) -> None:
        check_choice("RasterWeights", "init", self.init, get_args(Init))
        check_choice("RasterWeights", "norm", self.norm, get_args(Norm))
        check_choice("RasterWeights", "affine", self.affine, get_args(Affine))
        check_choice("RasterWeights", "shift", self.shift, get_args(Shift))
        if self.norm == "batch" and (self.affine != "channel" or self.shift != "once"):
            raise ValueError(
                "batch normalisation has its own gain and shift: affine='channel', shift='once'"
            )
