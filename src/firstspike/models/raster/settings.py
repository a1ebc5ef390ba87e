"""What a network over rasters is made of, as values: neuron, weights, read-out. Free of torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from firstspike.models.layout import Conv, Full, Pool
from firstspike.models.surrogates import SurrogateKind, check_surrogate
from firstspike.support import check_choice

# No residual blocks: the sum of two layers of spikes is no single spike.
PARTS: tuple[type[Conv | Pool | Full], ...] = (Conv, Pool, Full)

Gradient = Literal["every_step", "firing_step", "bptt"]
Init = Literal["ettfs", "kaiming"]
Norm = Literal["weight", "batch", "none"]
Affine = Literal["channel", "layer", "none"]
Shift = Literal["once", "per_step"]
Decoder = Literal["exponential", "linear", "first_spike", "membrane"]


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


@dataclass(frozen=True, kw_only=True)
class Readout:
    """How the output neurons' spikes become a decision.

    Attributes:
        decoder: "exponential": a spike at step t votes ``gamma^(-t)`` for its class (Eq. 20); "linear":
            ``gamma (T - t) / T``; "first_spike": the class of the first spike, trained by a linear vote
            of each class's first spike; "membrane": the membrane at the last step, which is no spike
            decision.
        gamma: base or slope of the votes.
        scale: factor from the vote of a class to its logit.
        neurons_per_class: output neurons of each class.
    """

    decoder: Decoder = "exponential"
    gamma: float = 1.5
    scale: float = 10.0
    neurons_per_class: int = 10

    def __post_init__(self) -> None:
        check_choice("Readout", "decoder", self.decoder, get_args(Decoder))
        if self.decoder == "exponential" and not self.gamma > 1:
            raise ValueError(f"Readout.gamma must be above 1, found {self.gamma}")
        if not (self.gamma > 0 and self.scale > 0):
            raise ValueError(f"Readout.gamma and scale must be above 0, found {self.gamma}, {self.scale}")
        if self.neurons_per_class < 1:
            raise ValueError(f"Readout.neurons_per_class must be 1 or more, found {self.neurons_per_class}")

    def votes(self, num_steps: int) -> list[float]:
        """Return the vote of a spike at each step, and of silence last: ``num_steps + 1`` numbers."""
        if self.decoder == "exponential":
            return [self.gamma**-step for step in range(num_steps)] + [0.0]
        return [self.gamma * (num_steps - step) / num_steps for step in range(num_steps + 1)]
