"""Figure 6: steps and spikes to the decision, digit by digit."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from firstspike.plot._arrays import ArrayLike, to_numpy
from firstspike.plot._style import CYCLE, new_figure, set_title, styled


@styled()
def digit_costs(
    steps: Mapping[str, ArrayLike], spikes: Mapping[str, ArrayLike], *, title: str | None = None
) -> Figure:
    """Return bars of mean steps and mean spikes to the decision, a group per digit.

    Args:
        steps: name of a loss (or network) to mean steps to decision ``(digits,)``.
        spikes: the same for mean spikes to decision ``(digits,)``.
        title: stands above all.

    Raises:
        ValueError: the two hold other names, none, or arrays of different lengths.
    """
    if not steps or list(steps) != list(spikes):
        raise ValueError(
            f"steps and spikes must hold the same names, found {list(steps)} and {list(spikes)}"
        )
    figure = new_figure(7.4, 2.9 + 0.3 * (title is not None))
    set_title(figure, title)
    left, right = figure.subplots(1, 2)
    _groups(left, steps, "steps to decision")
    _groups(right, spikes, "spikes to decision")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(steps)))
    return figure


def _groups(axes: Axes, series: Mapping[str, ArrayLike], quantity: str) -> None:
    arrays = {name: to_numpy(values).astype(float) for name, values in series.items()}
    shapes = {values.shape for values in arrays.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise ValueError(f"{quantity} must be (digits,) for every name, found {sorted(shapes)}")
    digits = np.arange(len(next(iter(arrays.values()))))
    width = 0.8 / len(arrays)
    for index, (name, values) in enumerate(arrays.items()):
        color = CYCLE[index % len(CYCLE)]
        shift = (index - (len(arrays) - 1) / 2) * width
        axes.bar(digits + shift, values, 0.92 * width, color=color, label=name)
        axes.axhline(values.mean(), color=color, lw=1, ls=(0, (3, 2)), zorder=0)
    axes.set_xticks(digits)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("digit")
    axes.set_title(f"{quantity} (dashed: mean over digits)")
    axes.grid(axis="y")
