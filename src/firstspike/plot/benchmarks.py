"""Ratios of two sides as bars."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from firstspike.plot._style import BLUE, INK, MUTED, RED, RULE, new_figure, set_title, styled


@styled()
def ratio_bars(
    ratios: Mapping[str, float], targets: Mapping[str, float] | None = None, *, title: str | None = None
) -> Figure:
    """Return a horizontal bar per ratio on a logarithmic axis, from 1 where both sides are equal.

    Bars to the left of 1 are wins. A mark shows the target: the bar of a ratio that misses it is
    red, that of a ratio without one is grey.

    Args:
        ratios: name to ours over theirs, above 0, in the order from the top.
        targets: name to the ratio to reach, at most; names without a ratio are left out.
        title: stands above all.

    Raises:
        ValueError: no ratios, or one that is not above 0.
    """
    if not ratios or not all(ratio > 0 for ratio in ratios.values()):
        raise ValueError(f"ratio_bars needs ratios above 0, found {dict(ratios)}")
    aims = {name: target for name, target in (targets or {}).items() if name in ratios}
    figure = new_figure(6.4, 0.6 + 0.27 * len(ratios) + 0.3 * (title is not None))
    set_title(figure, title)
    axes = figure.subplots()
    axes.set_xscale("log")
    for place, (name, ratio) in enumerate(ratios.items()):
        aim = aims.get(name)
        color = RULE if aim is None else RED if ratio > aim else BLUE
        axes.barh(place, ratio - 1, left=1, height=0.6, color=color)
        # In a column of their own, where no mark can cross them.
        axes.text(
            1.015, place, f"{ratio:.3g}", transform=axes.get_yaxis_transform(), va="center", fontsize=7
        )
        if aim is not None:
            axes.plot([aim] * 2, [place - 0.42, place + 0.42], color=INK, linewidth=1.6)
    axes.axvline(1, color=MUTED, linewidth=0.8)
    axes.set_yticks(range(len(ratios)), list(ratios), color=INK)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    values = [*ratios.values(), *aims.values(), 1.0]
    axes.set_xlim(min(values) / 1.6, max(values) * 1.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.minorticks_off()
    axes.grid(axis="x")
    axes.set_xlabel("ours / theirs; left of 1: quicker or smaller; black mark: target; red: target missed")
    return figure
