"""Who spiked when: one panel per layer on a shared clock."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from firstspike.plot._layers import LayerSpikes, place_layers
from firstspike.plot._style import BLUE, INK, MUTED, PALE, RED, new_figure, set_title, styled
from firstspike.spikes import Spikes

_FEW_NEURONS = 40


@styled()
def spike_raster(
    layers: Mapping[str, Spikes],
    *,
    offsets: Mapping[str, int] | None = None,
    decision_step: int | None = None,
    title: str | None = None,
) -> Figure:
    """Return a raster: a mark for every spike of one sample, the layers under each other.

    Args:
        layers: name to spikes ``(neurons,)`` of one sample.
        offsets: step at which a layer's window starts. Causal networks share one window: leave it
            out. Window networks: depth x ``T``.
        decision_step: shared-clock step of the decision; what spikes later is drawn pale, since
            nobody waits for it.
        title: stands above all.

    Raises:
        ValueError: see `place_layers`.
    """
    placed = place_layers(layers, offsets)
    end = max(layer.end for layer in placed)
    heights = [_height(len(layer.times)) for layer in placed]
    figure = new_figure(6.4, sum(heights) + 0.35 * len(placed) + 0.45 + 0.3 * (title is not None))
    set_title(figure, title)
    panels = figure.subplots(len(placed), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, layer in zip(panels[:, 0], placed, strict=True):
        _panel(axes, layer, decision_step)
        axes.set_xlim(-0.01 * end - 0.5, end)
    last = panels[-1, 0]
    last.set_xlabel("step")
    if decision_step is not None:
        panels[0, 0].annotate(
            f"decision, step {decision_step}",
            (decision_step, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if decision_step > end / 2 else 4, -3),
            textcoords="offset points",
            ha="right" if decision_step > end / 2 else "left",
            va="top",
            color=RED,
            fontsize=7.5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
        )
    return figure


def _height(neurons: int) -> float:
    """Return the height of a panel in inches: enough for the names of a few, slowly growing."""
    return max(0.5 + 0.3 * math.log10(neurons), 0.12 * min(neurons, 10))


def _panel(axes: Axes, layer: LayerSpikes, decision_step: int | None) -> None:
    neurons = len(layer.times)
    fired = layer.fired
    steps = layer.clock()[fired]
    few = neurons <= _FEW_NEURONS
    in_time = np.ones(len(fired), bool) if decision_step is None else steps <= decision_step
    colors = np.where(in_time[:, None], to_rgba(BLUE), to_rgba(BLUE, 0.25))
    axes.axvspan(layer.offset - 0.5, layer.end - 0.5, color=PALE, lw=0, zorder=0)
    axes.scatter(
        steps,
        fired,
        c=colors,
        marker="|" if few else "s",
        s=60 if few else 2.5,
        linewidths=1.8 if few else 0,
    )
    if decision_step is not None:
        axes.axvline(decision_step, color=RED, lw=1, ls=(0, (3, 2)), zorder=0.5)
    axes.set_ylim(neurons - 0.5 + 0.02 * neurons, -0.5 - 0.02 * neurons)
    axes.set_yticks(range(neurons) if neurons <= 10 else [0, neurons - 1])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(layer.name, color=INK)
    axes.set_title(f"{len(fired):,} of {neurons:,} neurons spike", loc="right", color=MUTED, fontsize=7.5)
