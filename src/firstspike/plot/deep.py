"""Pictures of deep single-spike networks: start-up over depth, latency, spikes per layer."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from firstspike.plot._style import new_figure, set_title, styled


@styled()
def depth_curves(
    curves: Mapping[str, Sequence[float]], *, quantity: str, title: str | None = None
) -> Figure:
    """Return one line per entry over the number of the layer, 1 the first.

    Args:
        curves: name to one value per layer.
        quantity: label of the vertical axis.
        title: stands above all.

    Raises:
        ValueError: no curves, or an empty one.
    """
    if not curves or not all(len(values) for values in curves.values()):
        raise ValueError("depth_curves needs curves of one value or more")
    figure = new_figure(5.2, 2.6 + 0.3 * (title is not None))
    set_title(figure, title)
    axes = figure.subplots()
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, marker="o", markersize=3.5, label=name)
    axes.set_xlabel("layer")
    axes.set_ylabel(quantity)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled()
def latency_shares(shares: Mapping[str, Sequence[float]], *, title: str | None = None) -> Figure:
    """Return the share of samples decided by each step, one line per network.

    Args:
        shares: name to the share decided after each step, from step 0 on; they may add up to less than 1
            where some never decide.
        title: stands above all.

    Raises:
        ValueError: nothing to draw.
    """
    if not shares or not all(len(values) for values in shares.values()):
        raise ValueError("latency_shares needs shares of one step or more")
    figure = new_figure(5.2, 2.6 + 0.3 * (title is not None))
    set_title(figure, title)
    axes = figure.subplots()
    for name, values in shares.items():
        total, reached = 0.0, []
        for value in values:
            total += value
            reached.append(total)
        axes.step(range(len(values)), reached, where="post", label=name)
    axes.set_xlabel("step, from the first input step")
    axes.set_ylabel("share decided")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 1.02)
    axes.grid(axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled()
def deadline_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str | None = None
) -> Figure:
    """Return the accuracy that a deadline leaves: a line for all samples, a dotted one for the worst class.

    Args:
        curves: name to the share decided rightly by each step, of all samples and of the worst class, from
            step 0 on.
        title: stands above all.

    Raises:
        ValueError: nothing to draw.
    """
    if not curves or not all(len(values) for both in curves.values() for values in both):
        raise ValueError("deadline_curves needs curves of one step or more")
    figure = new_figure(5.2, 2.6 + 0.3 * (title is not None))
    set_title(figure, title)
    axes = figure.subplots()
    for name, (mean, worst) in curves.items():
        (line,) = axes.step(range(len(mean)), mean, where="post", label=name)
        axes.step(range(len(worst)), worst, where="post", linestyle=":", color=line.get_color())
    axes.set_xlabel("steps allowed, from the first input step")
    axes.set_ylabel("accuracy (dotted: worst class)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 1.02)
    axes.grid(axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled()
def layer_bars(groups: Mapping[str, Sequence[float]], *, quantity: str, title: str | None = None) -> Figure:
    """Return bars per layer, one panel per network.

    Args:
        groups: name to one value for the input and each layer.
        quantity: label of the vertical axis.
        title: stands above all.

    Raises:
        ValueError: nothing to draw.
    """
    if not groups or not all(len(values) for values in groups.values()):
        raise ValueError("layer_bars needs values of one layer or more")
    figure = new_figure(2.9 * len(groups) + 0.3, 2.2 + 0.3 * (title is not None))
    set_title(figure, title)
    grid = figure.subplots(1, len(groups), squeeze=False, sharey=True).ravel()
    for axes, (name, values) in zip(grid, groups.items(), strict=True):
        axes.bar(range(len(values)), values)
        axes.set_title(name)
        axes.set_xlabel("layer, 0 the input")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
    grid[0].set_ylabel(quantity)
    return figure
