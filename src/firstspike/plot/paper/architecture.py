"""Figure 4: the generator and the discriminator, drawn."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from firstspike.plot._arrays import ArrayLike, to_image
from firstspike.plot._style import BLUE, INK, MUTED, PURPLE, RULE, new_figure, set_title, styled

_LAYER_GAP = 1.7
_NODE_RADIUS = 0.13
_PICTURE = 1.5


@styled()
def architecture(
    generator: Sequence[int] = (100, 400, 784),
    discriminator: Sequence[int] = (784, 400, 2),
    *,
    fake: ArrayLike | None = None,
    real: ArrayLike | None = None,
    title: str | None = None,
) -> Figure:
    """Return a drawing of the GAN: noise to generator to image to discriminator.

    Args:
        generator: neurons per layer, input first.
        discriminator: neurons per layer, input first.
        fake: uint8 ``(height, width)``, a generated image to show between the two; an empty frame
            without it.
        real: the same for the training image.
        title: stands above all.

    Raises:
        TypeError: an image is not uint8.
        ValueError: a network has fewer than two layers, or an image another shape.
    """
    if min(len(generator), len(discriminator)) < 2:
        raise ValueError("generator and discriminator need at least two layers each")
    width_g = (len(generator) - 1) * _LAYER_GAP
    width_d = (len(discriminator) - 1) * _LAYER_GAP
    start_g = 1.3
    pictures = start_g + width_g + 0.8 + _PICTURE / 2
    start_d = pictures + _PICTURE / 2 + 0.8
    total = start_d + width_d + 1.0
    figure = new_figure(0.72 * total, 0.72 * 4.95 + 0.3 * (title is not None))
    set_title(figure, title)
    axes = figure.subplots()

    _network(axes, generator, start_g, BLUE, "generator")
    _network(axes, discriminator, start_d, PURPLE, "discriminator")
    _arrow(axes, (0.75, 0), (start_g - 0.25, 0))
    axes.text(0.65, 0, "noise\ntimes", ha="right", va="center", fontsize=8)
    for name, center, image in (("generated", 1.05, fake), ("real", -1.05, real)):
        _picture(axes, name, (pictures, center), image)
        _arrow(axes, (pictures + _PICTURE / 2 + 0.05, center), (start_d - 0.25, 0.35 * center))
    _arrow(axes, (start_g + width_g + 0.25, 0.35), (pictures - _PICTURE / 2 - 0.05, 1.05))
    names = ("fake", "real") if discriminator[-1] == 2 else ("",) * discriminator[-1]
    rows = _rows(discriminator[-1])
    for name, y in zip(names, rows[~np.isnan(rows)], strict=False):
        axes.text(start_d + width_d + 0.28, y, name, va="center", fontsize=8)
    axes.set_xlim(-0.2, total)
    axes.set_ylim(-2.4, 2.55)
    axes.set_aspect("equal")
    axes.set_axis_off()
    return figure


def _rows(neurons: int) -> np.ndarray:
    """Return the heights of a layer's nodes from the top, NaN where the dots stand."""
    if neurons <= 5:
        return (np.arange(neurons) - (neurons - 1) / 2)[::-1] * 0.7
    height = 1.75 if neurons > 300 else 1.3
    rows = np.linspace(height, -height, 7 if neurons > 300 else 5)
    rows[len(rows) // 2] = np.nan
    return rows


def _network(axes: Axes, sizes: Sequence[int], start: float, color: str, name: str) -> None:
    columns = [(start + index * _LAYER_GAP, _rows(size)) for index, size in enumerate(sizes)]
    for (x0, from_rows), (x1, to_rows) in itertools.pairwise(columns):
        lines = [[(x0, a), (x1, b)] for a in from_rows for b in to_rows if not np.isnan(a + b)]
        axes.add_collection(LineCollection(lines, colors=RULE, linewidths=0.5, zorder=1))
    for (x, rows), size in zip(columns, sizes, strict=True):
        for y in rows:
            if np.isnan(y):
                axes.plot([x] * 3, [-0.12, 0, 0.12], ".", color=MUTED, ms=2.5)
            else:
                axes.add_patch(Circle((x, y), _NODE_RADIUS, fc="white", ec=color, lw=1.3, zorder=2))
        axes.text(x, -2.15, f"{size}", ha="center", va="center", fontsize=8, color=MUTED)
    middle = start + (len(sizes) - 1) * _LAYER_GAP / 2
    axes.text(middle, 2.3, name, ha="center", va="center", fontsize=9, color=color, fontweight="bold")


def _picture(axes: Axes, name: str, center: tuple[float, float], image: ArrayLike | None) -> None:
    x, y = center
    half = _PICTURE / 2
    if image is not None:
        axes.imshow(
            to_image(image, name),
            cmap="gray",
            vmin=0,
            vmax=255,
            extent=(x - half, x + half, y - half, y + half),
        )
    axes.plot(
        [x - half, x + half, x + half, x - half, x - half],
        [y - half, y - half, y + half, y + half, y - half],
        color=RULE,
        lw=1,
    )
    axes.text(x, y - half - 0.2, name, ha="center", va="center", fontsize=8, color=INK)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": MUTED, "lw": 1.1})
