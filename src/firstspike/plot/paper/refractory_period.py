"""Figure 1: how the refractory period thins a spike train down to one spike."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from firstspike.plot._style import BLUE, MUTED, PALE, RED, RULE, new_figure, set_title, styled


@styled()
def refractory_period(
    steps: int = 64,
    *,
    periods: Sequence[int] | None = None,
    current: float = 0.15,
    title: str | None = None,
) -> Figure:
    """Return the membrane of one neuron under constant input, a panel per refractory period.

    With ``t_ref = T`` a neuron that has spiked never comes back: one spike at most (Eq. 2).

    Args:
        steps: ``T`` in steps.
        periods: the refractory periods in steps; by default 0, an eighth, a third and all of ``T``.
        current: input per step in units of the threshold, above 0.
        title: stands above all.

    Raises:
        ValueError: `current` is not above 0, or there is no period.
    """
    chosen = (0, steps // 8, steps // 3, steps) if periods is None else tuple(periods)
    if not current > 0 or not chosen:
        raise ValueError("refractory_period needs a current above 0 and at least one period")
    figure = new_figure(6.4, 1.15 * len(chosen) + 0.35 + 0.3 * (title is not None))
    set_title(figure, title)
    panels = figure.subplots(len(chosen), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, period in zip(panels, chosen, strict=True):
        peaks, spikes = simulate(np.full(steps, current), period)
        for step in spikes if period else ():
            axes.axvspan(step + 0.5, step + 0.5 + period, color=PALE, lw=0, zorder=0)
        axes.axhline(1, color=RULE, lw=1, ls=(0, (3, 2)))
        axes.plot(peaks, color=BLUE)
        axes.vlines(spikes, 1.25, 1.7, color=RED, lw=1.8)
        times = "T" if period == steps else str(period)
        axes.set_title(f"refractory period {times}")
        count = f"{len(spikes)} spike{'' if len(spikes) == 1 else 's'}"
        axes.set_title(count, loc="right", color=MUTED, fontsize=7.5)
        axes.set_ylim(-0.05, 1.78)
        axes.set_yticks([0, 1], ["0", "threshold"])
        axes.set_xlim(-0.5, steps - 0.5)
    panels[-1].set_xlabel("step (shaded: refractory)")
    return figure


def simulate(currents: NDArray[np.float64], period: int) -> tuple[NDArray[np.float64], list[int]]:
    """Return the membrane before reset at every step, and the steps of the spikes.

    Eq. 1: the membrane adds up its input; at the threshold, 1, it spikes, is reset to 0 and held
    there for `period` steps.

    Args:
        currents: input at each step ``(steps,)`` in units of the threshold.
        period: refractory period ``t_ref`` in steps.
    """
    membrane, rest = 0.0, 0
    peaks = np.zeros(len(currents))
    spikes = []
    for step, current in enumerate(currents):
        if rest:
            rest -= 1
            continue
        membrane += current
        peaks[step] = membrane
        if membrane >= 1:
            spikes.append(step)
            membrane, rest = 0.0, period
    return peaks, spikes
