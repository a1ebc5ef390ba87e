"""The neuron models, as values that a layer carries.

All are non-leaky integrate-and-fire neurons that fire at most once, and take and give spike times.
`Causal` layers share one clock; `Window` layers fire in the window after their inputs'. `Phased` stands
between them: one clock, on which each layer has a phase.
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

from firstspike.rules import ExactRule, StraightThroughRule, TemporalRule
from firstspike.support import check_num_steps

Synapse = Literal["step", "ramp"]


@dataclass(frozen=True, kw_only=True)
class Causal:
    """A neuron on the clock that all layers share; it may fire while its inputs still arrive.

    Step synapse (S4NN, Spiking-GAN Eq. 1): an input spike adds its weight to the membrane at once.
    Ramp synapse: an input spike starts a constant current, so the crossing has an exact gradient.

    Attributes:
        threshold: membrane at which it fires, above 0, in units of the weights.
        synapse: "step" or "ramp".
        strict: fire at ``V > threshold`` (S4NN's code) instead of ``V >= threshold``.
        delay: steps from crossing to output spike; 0 is the papers' equation, 1 S4NN's code.
        step_rule: gradient rule of the step synapse.
        ramp_rule: gradient rule of the ramp synapse.
    """

    threshold: float = 1.0
    synapse: Synapse = "step"
    strict: bool = False
    delay: int = 0
    step_rule: TemporalRule = field(default_factory=TemporalRule)
    ramp_rule: ExactRule = field(default_factory=ExactRule)

    def __post_init__(self) -> None:
        if not 0 < self.threshold < float("inf"):
            raise ValueError(f"Causal.threshold must be above 0 and finite, found {self.threshold}")
        if self.synapse not in get_args(Synapse):
            raise ValueError(f"Causal.synapse must be 'step' or 'ramp', found {self.synapse!r}")
        if not isinstance(self.delay, int) or self.delay < 0:
            raise ValueError(f"Causal.delay must be 0 or more whole steps, found {self.delay}")

    def out_steps_for(self, num_steps: int) -> int:
        """Return the length of the window in which this neuron fires: the shared one."""
        return num_steps


@dataclass(frozen=True, kw_only=True)
class Window:
    """A neuron that integrates during its input window and fires in the next.

    An input spike at local step ``t_i`` starts a constant current until the window ends, so the input
    is the value ``x_i = input_low + (input_high - input_low)(1 - t_i / T)`` and the membrane at the end
    ``u_j = b_j + sum_i w_ji x_i``. In its own window of ``out_steps`` a constant drive carries the
    neuron to threshold: it fires at ``t_j = out_steps - floor(V_j)`` with
    ``V_j = clip((u_j - low) / (high - low), 0, 1) * out_steps``, and never if ``floor(V_j)`` is 0.

    It is the B1 neuron of Stanojevic et al. (Nat. Commun. 2024) with whole steps.

    Attributes:
        low, high: potentials that mean silent and step 0.
        input_low, input_high: values of a silent input and of one at step 0; (-1, 1) centres.
        out_steps: length of the neuron's own window; None takes the input window's.
        rule: gradient rule.
    """

    low: float = 0.0
    high: float = 4.0
    input_low: float = 0.0
    input_high: float = 1.0
    out_steps: int | None = None
    rule: StraightThroughRule = field(default_factory=StraightThroughRule)

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"Window needs low < high, found {self.low} and {self.high}")
        if not self.input_low < self.input_high:
            raise ValueError(
                f"Window needs input_low < input_high, found {self.input_low} and {self.input_high}"
            )
        if self.out_steps is not None:
            check_num_steps(self.out_steps)

    def out_steps_for(self, num_steps: int) -> int:
        """Return the length in steps of the window in which this neuron fires."""
        return num_steps if self.out_steps is None else self.out_steps


@dataclass(frozen=True, kw_only=True)
class Phased:
    """A causal neuron on one shared clock whose layer speaks in a phase of it; ramp synapse.

    ``V_j(t) = t + sum_i c_ji (min(t, g) - t_i)+``: a drive of one unit per step, and an input spike
    starts a current that ends at the gate ``g``, the last step of the input phase. The neuron fires once,
    at the first step at which its membrane reaches its threshold, before its own phase ends. It may
    fire while inputs still arrive, and then never hears the later ones. Drive and gate can be read as
    two clock neurons that spike once, at step 0 and at step ``g``, in every pass.

    A spike at step t of a phase ``(first, last)`` stands for the value ``(last - t) / (last - first)``.
    The layer is trained in the coordinates of `Window`: ``u = b + W x`` with the inputs' values mapped
    to ``input_low ... input_high`` and its own value ``(u - low) / (high - low)``; weights and thresholds
    follow from them, and after the gate ``t_j`` is exactly what that value asks for.

    Attributes:
        source: first and last step of the inputs' phase.
        target: of the layer's own.
        low, high, input_low, input_high: as for `Window`.
        saturates: drop a gradient that pushes a spike before the own phase; a silent neuron's gradient
            towards silence is always dropped.
        min_slope: slopes at the crossing below this count as this in the exact gradient.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    low: float = 0.0
    high: float = 4.0
    input_low: float = 0.0
    input_high: float = 1.0
    saturates: bool = False
    min_slope: float = 0.5

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            first, last = getattr(self, name)
            if not 0 <= first < last:
                raise ValueError(f"Phased.{name} must be 0 <= first < last, found {first}, {last}")
        if not (self.low < self.high and self.input_low < self.input_high):
            raise ValueError("Phased needs low < high and input_low < input_high")
        if not self.min_slope > 0:
            raise ValueError(f"Phased.min_slope must be above 0, found {self.min_slope}")

    def out_steps_for(self, num_steps: int) -> int:
        """Return the length of the clock that all layers share."""
        return num_steps


Neuron = Causal | Window | Phased
