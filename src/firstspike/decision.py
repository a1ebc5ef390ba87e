"""Reading a class from output spike times: the first neuron to spike wins."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Ties = Literal["wrong", "label", "lowest", "membrane"]
Silent = Literal["wrong", "membrane"]


@dataclass(frozen=True, kw_only=True)
class FirstSpike:
    """The rule that turns output times into a class, with its word on ties and silence.

    Attributes:
        ties: when several outputs share the first spike: "wrong" counts the sample as an error
            (strict); "label" counts it as right if the label is among them (S4NN's and Spiking-GAN's
            evaluation); "lowest" takes the lowest class index; "membrane" the largest membrane.
        silent: when no output spikes: "wrong", or "membrane" for the largest membrane.
    """

    ties: Ties = "wrong"
    silent: Silent = "wrong"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("ties", self.ties, get_args(Ties)),
            ("silent", self.silent, get_args(Silent)),
        ):
            if value not in choices:
                raise ValueError(f"FirstSpike.{name} must be one of {', '.join(choices)}; found {value!r}")

    @property
    def description(self) -> str:
        """The rule in words, as every report prints it."""
        ties = {
            "wrong": "ties wrong",
            "label": "a tie that holds the label is right",
            "lowest": "ties to the lowest class",
            "membrane": "ties to the largest membrane",
        }[self.ties]
        silent = {"wrong": "silence wrong", "membrane": "silence to the largest membrane"}
        return f"first spike; {ties}; {silent[self.silent]}"

    def decide(self, times: Tensor, num_steps: int, membrane: Tensor | None = None) -> Tensor:
        """Return the class of each sample ``(batch,)``, -1 where the rule gives none.

        Args:
            times: output spike times ``(batch, classes)``.
            num_steps: ``T``; a time of ``T`` is silence.
            membrane: ``(batch, classes)``, needed by the rules that read it.

        Raises:
            ValueError: the rule reads membranes and none are given, or it needs the label.
        """
        if self.ties == "label":
            raise ValueError("ties='label' scores a known label and cannot decide; use score()")
        first = times.min(1, keepdim=True).values
        leading = times == first
        silent = (first == num_steps).squeeze(1)
        tied = (leading.sum(1) > 1) & ~silent
        choice = leading.to(torch.int8).argmax(1)
        if self.ties == "wrong":
            choice = torch.where(tied, -1, choice)
        elif self.ties == "membrane":
            ranked = _membrane(membrane, "ties").masked_fill(~leading, -torch.inf)
            choice = torch.where(tied, ranked.argmax(1), choice)
        if self.silent == "membrane":
            return torch.where(silent, _membrane(membrane, "silent").argmax(1), choice)
        return torch.where(silent, -1, choice)

    def score(
        self, times: Tensor, labels: Tensor, num_steps: int, membrane: Tensor | None = None
    ) -> "Score":
        """Return how many samples this rule gets right, with tie and silent counts.

        Args:
            times: output spike times ``(batch, classes)``.
            labels: int64 ``(batch,)``.
            num_steps: ``T``.
            membrane: as for `decide`.
        """
        first = times.min(1, keepdim=True).values
        leading = times == first
        silent = (first == num_steps).squeeze(1)
        tied = (leading.sum(1) > 1) & ~silent
        if self.ties == "label":
            right = leading.gather(1, labels.unsqueeze(1)).squeeze(1) & ~silent
            if self.silent == "membrane":
                right |= silent & (_membrane(membrane, "silent").argmax(1) == labels)
        else:
            right = self.decide(times, num_steps, membrane) == labels
        return Score(
            right=int(right.sum()),
            ties=int(tied.sum()),
            silent=int(silent.sum()),
            count=len(labels),
            rule=self.description,
        )


STRICT = FirstSpike()
PAPERS = FirstSpike(ties="label")


@dataclass(frozen=True)
class Score:
    """Counts behind an accuracy, and the rule that made them."""

    right: int
    ties: int
    silent: int
    count: int
    rule: str

    def __add__(self, other: "Score") -> "Score":
        """Return the score of both sets of samples together; the rules must be the same."""
        if self.rule != other.rule:
            raise ValueError(f"scores of two rules cannot be added: {self.rule} and {other.rule}")
        return Score(
            self.right + other.right,
            self.ties + other.ties,
            self.silent + other.silent,
            self.count + other.count,
            self.rule,
        )

    @property
    def accuracy(self) -> float:
        """Share of samples that are right."""
        return self.right / self.count

    @property
    def tie_rate(self) -> float:
        """Share of samples whose first spike is shared."""
        return self.ties / self.count

    @property
    def silent_rate(self) -> float:
        """Share of samples on which no output spikes."""
        return self.silent / self.count


def _membrane(membrane: Tensor | None, field: str) -> Tensor:
    if membrane is None:
        raise ValueError(f"FirstSpike({field}='membrane') needs the membrane, and none was given")
    return membrane
