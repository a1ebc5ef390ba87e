"""Reading a class from output spikes: the first spike, votes, or membranes; one verdict and one score."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from firstspike.inputs import check_labels
from firstspike.spikes import Spikes, check_spikes
from firstspike.support import check_choice, check_integer, check_numbers

Ties = Literal["wrong", "label"]
Silent = Literal["wrong", "membrane"]
Weighting = Literal["exponential", "linear", "earliest"]

# Votes are counted in integers of this unit, and two steps tell apart by no fewer than so many.
_VOTE_UNIT, _FEWEST_UNITS = 2.0**-36, 4


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

    @classmethod
    def none(cls, rule: str) -> "Score":
        """Return the score of no samples, to which others can be added."""
        return cls(0, 0, 0, 0, rule)

    @property
    def accuracy(self) -> float:
        """Share of samples that are right; NaN of no samples."""
        return self._share(self.right)

    @property
    def tie_rate(self) -> float:
        """Share of samples without a single winner."""
        return self._share(self.ties)

    @property
    def silent_rate(self) -> float:
        """Share of samples on which no output spikes."""
        return self._share(self.silent)

    def __str__(self) -> str:
        return (
            f"accuracy {self.accuracy:.2%}, ties {self.tie_rate:.2%}, silent {self.silent_rate:.2%} of "
            f"{self.count} samples ({self.rule})"
        )

    def _share(self, part: int) -> float:
        return part / self.count if self.count else float("nan")


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the output of a batch says.

    Attributes:
        label: the class, int64 ``(batch,)``; -1 where the rule gives none.
        leading: the classes that share the lead, bool ``(batch, classes)``; none where it is silent.
        silent: whether no output neuron spiked, bool ``(batch,)``.
        steps: step, local to the output window, after which the decision could no longer change, float32
            ``(batch,)``; ``T`` where it was open to the end.
        rule: the rule in words, as every report prints it.
        any_leader: a label among the leading counts as right (S4NN's and Spiking-GAN's evaluation).
    """

    label: Tensor
    leading: Tensor
    silent: Tensor
    steps: Tensor
    rule: str
    any_leader: bool = False

    @property
    def tied(self) -> Tensor:
        """Whether several classes share the lead, bool ``(batch,)``."""
        return self.leading.sum(1) > 1

    def right(self, labels: Any) -> Tensor:
        """Return which samples are right, bool ``(batch,)``.

        Args:
            labels: integers ``(batch,)``.

        Raises:
            TypeError, ValueError: see `firstspike.inputs.check_labels`.
        """
        wanted = check_labels(labels, *self.leading.shape).to(self.label.device)
        right = self.label == wanted
        if self.any_leader:
            right |= self.leading.gather(1, wanted.unsqueeze(1)).squeeze(1)
        return right

    def score(self, labels: Any) -> Score:
        """Return how many samples are right, with tie and silent counts; arguments as for `right`."""
        return Score(
            right=int(self.right(labels).sum()),
            ties=int(self.tied.sum()),
            silent=int(self.silent.sum()),
            count=len(self.label),
            rule=self.rule,
        )


class Decoder(Protocol):
    """A rule that turns the output of a network into a class.

    Attributes:
        spikes: the rule by which its spikes decide: the decoder itself, unless it reads membranes.
        rule: in words.
    """

    @property
    def spikes(self) -> "FirstSpike | Votes": ...

    @property
    def rule(self) -> str: ...

    def mean_membrane(self, membrane: Tensor) -> Tensor:
        """Return the mean of each class's output membranes, ``(batch, classes)``."""
        ...

    def decide(self, out: Spikes, membrane: Tensor | None = None) -> Verdict:
        """Return the verdict on output spikes ``(batch, outputs)`` and their membranes."""
        ...


@dataclass(frozen=True, kw_only=True)
class FirstSpike:
    """The class of the first output spike.

    Attributes:
        ties: when several outputs share the first spike: "wrong" counts the sample as an error
            (strict); "label" counts it as right if the label is among them (S4NN's and Spiking-GAN's
            evaluation). Either way a tied sample has no label.
        silent: when no output spikes: "wrong", or "membrane" for the largest membrane (S4NN's code), which
            gives none if several share it.
    """

    ties: Ties = "wrong"
    silent: Silent = "wrong"

    def __post_init__(self) -> None:
        check_choice("FirstSpike", "ties", self.ties, get_args(Ties))
        check_choice("FirstSpike", "silent", self.silent, get_args(Silent))

    @property
    def rule(self) -> str:
        """The rule in words."""
        ties = {"wrong": "ties wrong", "label": "a tie that holds the label is right"}[self.ties]
        silent = {"wrong": "silence wrong", "membrane": "silence to the largest membrane"}[self.silent]
        return f"first spike; {ties}; {silent}"

    @property
    def spikes(self) -> "FirstSpike":
        """The rule itself."""
        return self

    def mean_membrane(self, membrane: Tensor) -> Tensor:
        """Return the membranes: there is one output neuron per class."""
        return membrane

    def decide(self, out: Spikes, membrane: Tensor | None = None) -> Verdict:
        """Return the verdict on output spikes.

        Args:
            out: ``(batch, classes)``.
            membrane: ``(batch, classes)``, needed by ``silent="membrane"``.

        Raises:
            TypeError: not `Spikes`.
            ValueError: membranes are needed and missing or of another shape; times or membranes hold NaN.
        """
        first = _first(out)
        silent = first == out.steps
        leading = (out.times == first.unsqueeze(1)) & ~silent.unsqueeze(1)
        label = _single(leading)
        if self.silent == "membrane":
            membrane = _checked_membrane("FirstSpike(silent='membrane')", membrane, out)
            label = torch.where(silent, largest(membrane), label)
        return Verdict(label, leading, silent, first, self.rule, self.ties == "label")


@dataclass(frozen=True, kw_only=True)
class Votes:
    """The class with the most votes of its output neurons (ETTFS, Eqs. 20-24); ties and silence give none.

    A decision is final once no other class can catch up, even if all its silent neurons spiked at the next
    step.

    Attributes:
        weighting: "exponential": a spike at step t votes ``gamma^(-t)`` for its class (Eq. 20); "linear":
            ``gamma (T - t) / T``; "earliest": as linear, but only a class's first spike votes.
        gamma: base or slope of the votes.
        scale: factor from the vote of a class to its logit, for training.
        neurons_per_class: output neurons of each class, side by side.
    """

    weighting: Weighting = "exponential"
    gamma: float = 1.5
    scale: float = 10.0
    neurons_per_class: int = 10

    def __post_init__(self) -> None:
        check_choice("Votes", "weighting", self.weighting, get_args(Weighting))
        low = 1.0 if self.weighting == "exponential" else 0.0
        check_numbers(self, "gamma", low=low, above=True)
        check_numbers(self, "scale", low=0, above=True)
        number = check_integer("Votes", "neurons_per_class", self.neurons_per_class, low=1)
        object.__setattr__(self, "neurons_per_class", number)

    @property
    def rule(self) -> str:
        """The rule in words."""
        if self.weighting == "earliest":
            return "class of the first output spike; ties and silence wrong"
        worth = "gamma^-t" if self.weighting == "exponential" else "T - t"
        return f"most votes of the output spikes, {worth} at step t; ties and silence wrong"

    @property
    def spikes(self) -> "Votes":
        """The rule itself."""
        return self

    def worth(self, steps: int) -> list[float]:
        """Return the vote of a spike at each step, and of silence last: ``steps + 1`` numbers.

        Raises:
            ValueError: the votes of two steps, or of the last one and silence, are too close to tell apart.
        """
        if self.weighting == "exponential":
            worth = [self.gamma**-step for step in range(steps)] + [0.0]
        else:
            worth = [self.gamma * (steps - step) / steps for step in range(steps + 1)]
        if min(one - next_ for one, next_ in pairwise(worth)) < _FEWEST_UNITS * _VOTE_UNIT:
            raise ValueError(
                f"{self.weighting} votes with gamma={self.gamma:g} cannot tell {steps} steps apart; take "
                'fewer steps, another gamma, or the weighting "linear"'
            )
        return worth

    def logits(self, cumulative: Tensor) -> Tensor:
        """Return the scaled mean vote of each class's neurons, ``(batch, classes)``, for training.

        A sum over steps of what a cumulative spike train adds, ``w[t] - w[t+1]`` with silence voting
        ``w[T]``, which equals the vote of the spike's step.

        Args:
            cumulative: of the output neurons, class by class, ``(T, batch, classes * neurons_per_class)``.
        """
        worth = torch.tensor(self.worth(len(cumulative)), dtype=torch.float32, device=cumulative.device)
        grouped = cumulative.to(torch.float32).unflatten(2, (-1, self.neurons_per_class))
        # Of a class's neurons the one that spikes first has the highest.
        by_class = grouped.amax(3) if self.weighting == "earliest" else grouped.mean(3)
        return self.scale * torch.tensordot(worth[:-1] - worth[1:], by_class, dims=1)

    def mean_membrane(self, membrane: Tensor) -> Tensor:
        """Return the mean of each class's membranes, ``(batch, classes)``."""
        return _mean_membrane(membrane, self.neurons_per_class)

    def decide(self, out: Spikes, membrane: Tensor | None = None) -> Verdict:
        """Return the verdict on output spikes ``(batch, classes * neurons_per_class)``.

        Raises:
            TypeError: not `Spikes`.
            ValueError: another number of outputs, the times hold NaN, or as `worth` says.
        """
        silent = _first(out) == out.steps
        grouped = _by_class(out.times, self.neurons_per_class)
        if self.weighting == "earliest":
            return replace(FirstSpike().decide(out.with_times(grouped.min(2).values)), rule=self.rule)
        # Integers, so that equal sums are equal in whatever order they are added.
        worth = torch.tensor(self.worth(out.steps), dtype=torch.float64, device=out.device)
        worth = torch.round(worth / _VOTE_UNIT)
        steps = torch.full((len(out),), float(out.steps), device=out.device)
        for step in reversed(range(out.steps)):
            fired = grouped <= step
            so_far = torch.where(fired, worth[grouped.long()], 0.0).sum(2)
            # Silence at the end votes w[T], which the linear decoder's 0 and the exponential's share.
            most = so_far + (~fired).sum(2) * worth[step + 1]
            leader = so_far.max(1)
            rivals = most.scatter(1, leader.indices.unsqueeze(1), float("-inf")).max(1).values
            steps[leader.values > rivals] = step
        total = worth[grouped.long()].sum(2)
        leading = (total == total.max(1, keepdim=True).values) & ~silent.unsqueeze(1)
        return Verdict(_single(leading), leading, silent, steps, self.rule)


@dataclass(frozen=True, kw_only=True)
class Membrane:
    """The class with the largest mean output membrane at the last step, which is no spike decision.

    Where several share it there is none.

    Attributes:
        neurons_per_class: output neurons of each class, side by side.
    """

    neurons_per_class: int = 1

    def __post_init__(self) -> None:
        number = check_integer("Membrane", "neurons_per_class", self.neurons_per_class, low=1)
        object.__setattr__(self, "neurons_per_class", number)

    @property
    def rule(self) -> str:
        """The rule in words."""
        return "largest output membrane at the last step; ties wrong; no spike decision"

    @property
    def spikes(self) -> Votes:
        """The decision by spikes of a network that was trained on its membranes."""
        return Votes(weighting="linear", gamma=1.0, neurons_per_class=self.neurons_per_class)

    def mean_membrane(self, membrane: Tensor) -> Tensor:
        """Return the mean of each class's membranes, ``(batch, classes)``."""
        return _mean_membrane(membrane, self.neurons_per_class)

    def decide(self, out: Spikes, membrane: Tensor | None = None) -> Verdict:
        """Return the verdict on output membranes ``(batch, classes * neurons_per_class)``.

        Raises:
            TypeError: not `Spikes`.
            ValueError: they are missing, of another shape than the spikes, or hold NaN.
        """
        silent = _first(out) == out.steps
        mean = self.mean_membrane(_checked_membrane("Membrane", membrane, out))
        leading = mean == mean.max(1, keepdim=True).values
        last = torch.full((len(mean),), float(out.steps), device=mean.device)
        return Verdict(_single(leading), leading, silent, last, self.rule)


def largest(values: Tensor) -> Tensor:
    """Return the class of each row's largest value ``(batch, classes)``, -1 where several share it."""
    return _single(values == values.max(1, keepdim=True).values)


def _single(leading: Tensor) -> Tensor:
    """The class that leads alone, -1 where there is none."""
    return torch.where(leading.sum(1) == 1, leading.to(torch.int8).argmax(1), -1)


def _mean_membrane(membrane: Tensor, neurons_per_class: int) -> Tensor:
    return _by_class(membrane.to(torch.float32), neurons_per_class).mean(2)


def _by_class(values: Tensor, neurons_per_class: int) -> Tensor:
    """The outputs ``(batch, classes, neurons_per_class)``."""
    if values.shape[1] % neurons_per_class:
        raise ValueError(
            f"{values.shape[1]} outputs do not divide by neurons_per_class={neurons_per_class}"
        )
    return values.unflatten(1, (-1, neurons_per_class))


def _checked_membrane(rule: str, membrane: Tensor | None, out: Spikes) -> Tensor:
    if membrane is None or membrane.shape != out.shape:
        found = None if membrane is None else tuple(membrane.shape)
        raise ValueError(
            f"{rule} needs membranes {tuple(out.shape)}, as Stack.read returns them; found {found}"
        )
    if membrane.isnan().any():
        raise ValueError("membranes hold NaN: the network's weights are not finite")
    return membrane


def _first(out: Spikes) -> Tensor:
    """The first output spike of each sample, after a look at shape and NaN."""
    if check_spikes(out).times.dim() != 2:
        raise ValueError(f"output spikes must be (batch, outputs), found {tuple(out.shape)}")
    if not out.shape[1]:
        raise ValueError("there are no output neurons to decide by")
    first = out.first()
    if first.isnan().any():
        raise ValueError("output times hold NaN: the network's weights are not finite")
    return first
