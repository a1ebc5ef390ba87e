"""Two sides measured in turn: ours, theirs, ours, theirs, ...

A machine's speed drifts with its load and its temperature. Measured in turn, both sides meet the same
drift, and the spread of the ratios of pairs says how much of it is left.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Side = Callable[[], float]


class Skipped(Exception):
    """A row cannot be measured here; the message says why and how to get what it needs."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        repeats: pairs that are kept.
        seconds: least length of one measurement; a short operation is run many times in it.
    """

    repeats: int = 9
    seconds: float = 0.25


QUICK = Effort(repeats=3, seconds=0.03)


@dataclass(frozen=True)
class Pairs:
    """Measurements of both sides, in the order in which they were taken."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    def scaled(self, factor: float) -> "Pairs":
        """Return both sides times `factor`, such as 1000 from seconds to milliseconds."""
        return Pairs(tuple(v * factor for v in self.ours), tuple(v * factor for v in self.theirs))


@dataclass(frozen=True)
class Row:
    """One line of the comparison.

    Attributes:
        name: as in ``--rows``.
        unit: of `ours` and `theirs`.
        ours, theirs: medians; None in a skipped row.
        ratio: ours over theirs; below 1 ours is the quicker or the smaller one.
        repeats: pairs that the medians are of; 0 in a skipped row.
        spread: interquartile range of the ratios of pairs.
        target: the ratio to reach, at most; None where there is none.
        limit: what `ours` itself has to reach, at most; None where there is none.
        data: what it was measured on: a data set, such as "mnist" or "digits", or "random".
        note: what a reader should know beside the figures.
        skipped: why nothing was measured; None if it was.
    """

    name: str
    unit: str
    ours: float | None = None
    theirs: float | None = None
    ratio: float | None = None
    repeats: int = 0
    spread: float | None = None
    target: float | None = None
    limit: float | None = None
    data: str | None = None
    note: str = ""
    skipped: str | None = None

    @property
    def reached(self) -> bool | None:
        """Whether target and limit were met; None without either, or without a measurement."""
        if self.ours is None or self.ratio is None or (self.target is None and self.limit is None):
            return None
        return (self.target is None or self.ratio <= self.target) and (
            self.limit is None or self.ours <= self.limit
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the row as it goes into JSON."""
        return {**asdict(self), "reached": self.reached}


def in_turn(ours: Side, theirs: Side, repeats: int, *, warmups: int = 1) -> Pairs:
    """Return `repeats` pairs of what the two sides return, taken alternately, ours first.

    Args:
        ours, theirs: measure once and return the figure.
        repeats: pairs to keep, 1 or more.
        warmups: pairs before them that are thrown away: caches fill, memory is laid out.
    """
    pairs = [(ours(), theirs()) for _ in range(warmups + repeats)][warmups:]
    return Pairs(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def repeated(
    function: Callable[[], object], seconds: float, finish: Callable[[], None] | None = None
) -> Side:
    """Return a side: the mean seconds of one call over as many calls as last `seconds`.

    Each measurement starts with a call that is not counted, since the other side has emptied the caches.

    Args:
        function: what to time.
        seconds: least length of a measurement; how many calls that takes is found at the first one.
        finish: waits for work that `function` only started, such as a GPU's.
    """
    count = 0

    def call(times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            function()
        if finish is not None:
            finish()
        return time.perf_counter() - began

    def side() -> float:
        nonlocal count
        call(1)
        if not count:
            count = min(10_000, max(1, math.ceil(seconds / max(call(1), 1e-7))))
        return call(count) / count

    return side


def summary(pairs: Pairs) -> dict[str, Any]:
    """Return `Row`'s figures of `pairs`."""
    ours, theirs = float(np.median(pairs.ours)), float(np.median(pairs.theirs))
    low, high = np.percentile(np.divide(pairs.ours, pairs.theirs), [25, 75])
    return {
        "ours": ours,
        "theirs": theirs,
        "ratio": ours / theirs,
        "repeats": len(pairs.ours),
        "spread": float(high - low),
    }
