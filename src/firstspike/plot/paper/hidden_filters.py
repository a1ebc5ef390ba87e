"""Figure 7: what the hidden neurons look for."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from firstspike.plot._arrays import ArrayLike, to_numpy
from firstspike.plot._mosaic import dots_per_pixel, mosaic
from firstspike.plot._style import DPI, diverging, styled

_MARGIN_DOTS = 16
_BETWEEN_DOTS = 40
_TITLE_DOTS = 36
_NAME_DOTS = 24
_BAR_DOTS = 64


@styled()
def hidden_filters(
    weights: Mapping[str, ArrayLike], *, count: int = 64, title: str | None = None
) -> Figure:
    """Return a grid of input weights per network, white at 0, blue below and red above.

    The scale is symmetric and belongs to each network: it reaches the 99th percentile of the
    weights drawn, in magnitude.

    Args:
        weights: name of a loss (or network) to weights ``(hidden, height, width)``, one height and
            width for all.
        count: how many neurons to draw, the first of each; fewer where there are fewer.
        title: stands above all.

    Raises:
        ValueError: no network, `count` below 1, a shape that does not fit, or weights that are not
            finite.
    """
    if not weights or count < 1:
        raise ValueError("hidden_filters needs at least one network and a count of 1 or more")
    filters = {name: _check(name, given)[:count] for name, given in weights.items()}
    sizes = {stack.shape[1:] for stack in filters.values()}
    if len(sizes) > 1:
        raise ValueError(f"all filters must have one height and width, found {sorted(sizes)}")

    height, width = next(iter(sizes))
    dots = dots_per_pixel(height, width)
    gap = max(1, round(4 / dots))
    grids = {
        name: mosaic(stack, math.ceil(math.sqrt(len(stack))), (gap, gap)) for name, stack in filters.items()
    }
    # Laid out in dots, as sample grids are: each weight is a square of whole dots.
    widths = [max(grid.shape[1] * dots, 220) for grid in grids.values()]
    tallest = max(grid.shape[0] for grid in grids.values()) * dots
    total_width = sum(widths) + _BETWEEN_DOTS * (len(widths) - 1) + 2 * _MARGIN_DOTS
    top = _NAME_DOTS + _MARGIN_DOTS + (_TITLE_DOTS if title else 0)
    total_height = top + tallest + _BAR_DOTS
    figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI)
    if title:
        figure.text(
            _MARGIN_DOTS / total_width,
            1 - _MARGIN_DOTS / total_height,
            title,
            va="top",
            fontsize=10,
            fontweight="bold",
        )
    left = _MARGIN_DOTS
    for (name, grid), column in zip(grids.items(), widths, strict=True):
        box = np.array([left, 0, grid.shape[1] * dots, grid.shape[0] * dots], float)
        box[1] = total_height - top - box[3]
        scale = np.array([total_width, total_height] * 2)
        axes = figure.add_axes(tuple(box / scale))
        magnitudes = np.abs(filters[name])
        limit = float(np.quantile(magnitudes, 0.99)) or float(magnitudes.max()) or 1.0
        drawn = axes.imshow(grid, cmap=diverging(), vmin=-limit, vmax=limit, aspect="auto")
        axes.set_title(name)
        axes.set_axis_off()
        bar_box = np.array([left + 20, box[1] - 22, min(box[2], 320) - 40, 8])
        bar = figure.colorbar(
            drawn,
            cax=figure.add_axes(tuple(bar_box / scale)),
            orientation="horizontal",
            extend="both",
            ticks=[-limit, 0, limit],
            format=lambda value, _: f"{value:.3g}".replace("-", "−"),
        )
        bar.outline.set_visible(False)
        left += column + _BETWEEN_DOTS
    return figure


def _check(name: str, given: ArrayLike) -> NDArray[Any]:
    stack = to_numpy(given)
    if stack.ndim != 3 or 0 in stack.shape:
        raise ValueError(f"weights of {name!r} must be (hidden, height, width), found {stack.shape}")
    if not np.isfinite(stack).all():
        raise ValueError(f"weights of {name!r} hold NaN or infinity")
    return stack
