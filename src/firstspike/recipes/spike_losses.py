"""Losses on output spikes, as values of a recipe."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from firstspike.losses import first_spike_cross_entropy
from firstspike.recipes.fields import Checked, NotNegative, Positive, Share
from firstspike.spikes import Spikes
from firstspike.support import InputError


@dataclass(frozen=True, kw_only=True)
class SpikeLoss(Checked, ABC):
    """A loss on output spikes."""

    def check_steps(self, steps: int) -> None:
        """Raise InputError if the loss does not suit output windows of `steps`."""

    @abstractmethod
    def __call__(self, out: Spikes, labels: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of spikes ``(batch, classes)``."""


@dataclass(frozen=True, kw_only=True)
class FirstSpikeLoss(SpikeLoss):
    """The cross-entropy of the output times: the earlier, the likelier.

    Attributes:
        sharpness: logit between a spike at step 0 and silence.
        label_delay: steps by which the label's spike counts as later than it is; the loss is content only
            once the label leads by so much, which makes ties rare.
        label_smoothing: of the cross-entropy.
    """

    sharpness: Positive = 12.0
    label_delay: NotNegative = 0.0
    label_smoothing: Share = 0.0

    def check_steps(self, steps: int) -> None:
        """Raise InputError for a delay longer than the window: no lead would content the loss."""
        if self.label_delay > steps:
            raise InputError(
                f"FirstSpikeLoss.label_delay must be at most the output's {steps} steps, found "
                f"{self.label_delay:g}"
            )

    def __call__(self, out: Spikes, labels: Tensor) -> Tensor:
        """Return the mean loss."""
        return first_spike_cross_entropy(
            out,
            labels,
            sharpness=self.sharpness,
            label_delay=self.label_delay,
            label_smoothing=self.label_smoothing,
        )
