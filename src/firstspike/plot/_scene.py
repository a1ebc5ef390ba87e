"""The panels of the decision animation: drawn once, then brought up to date for each frame."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from firstspike.plot._layers import LayerSpikes
from firstspike.plot._style import BLUE, INK, MUTED, NIGHT, PALE, RED, RULE, YELLOW

_DPI = 100
_HEIGHT = 3.1
_SIDE = 2.0
_PITCH = 2.3
_EDGE = 0.2


class Scene:
    """An image, the layers' neurons and the output's race to the first spike, at one step.

    Args:
        picture: uint8 ``(height, width)``.
        placed: the layers, input first and output last.
        names: name of each class.
        potentials: membranes of the outputs in units of their threshold ``(steps, classes)``.
        last: the step of the decision, or the last one of the clock.
    """

    def __init__(
        self,
        picture: NDArray[np.uint8],
        placed: Sequence[LayerSpikes],
        names: Sequence[str],
        potentials: NDArray[Any] | None,
        last: int,
    ) -> None:
        self._placed, self._names, self._last = placed, names, last
        self._clocks = [layer.clock() for layer in placed]
        self._end = max(layer.end for layer in placed)
        # Fixed places: a layout engine would let the panels tremble as texts change.
        width = _PITCH * len(placed) + 0.6
        self._figure = Figure(figsize=(width, _HEIGHT), dpi=_DPI)
        self._canvas = FigureCanvasAgg(self._figure)

        def place(left: float, bottom: float, wide: float, high: float) -> Axes:
            box = (left / width, bottom / _HEIGHT, wide / width, high / _HEIGHT)
            return self._figure.add_axes(box)

        starts = [_EDGE + _PITCH * index for index in range(len(placed))]
        squares = [place(start, 0.59, _SIDE, _SIDE) for start in starts[:-1]]
        race = place(starts[-1] + 0.35, 0.59, width - starts[-1] - 0.35 - 0.25, _SIDE)
        self._titles = [axes.set_title("") for axes in (*squares, race)]
        self._panels: list[_Pixels | _Neurons | _Bars | _Lanes] = [
            _Pixels(squares[0], picture, self._clocks[0])
        ]
        for axes, clock in zip(squares[1:], self._clocks[1:-1], strict=True):
            self._panels.append(_Neurons(axes, clock))
        labels = _prepare_race(race, names)
        if potentials is None:
            self._panels.append(_Lanes(race, placed[-1], labels))
        else:
            self._panels.append(_Bars(race, placed[-1], labels, potentials, last))

        progress = place(_EDGE, 0.23, width - _EDGE - 0.25, 0.08)
        progress.barh([0], [self._end], color=PALE)
        self._progress = progress.barh([0], [0], color=MUTED)[0]
        for start in sorted({layer.offset for layer in placed} - {0}):
            progress.axvline(start, color="white", lw=1.5)
        progress.set(xlim=(0, self._end), ylim=(-0.4, 0.4))
        progress.set_axis_off()
        self._heading = self._figure.text(_EDGE / width, 0.94, "", va="center", fontsize=9, color=MUTED)
        self._verdict = self._figure.text(
            1 - 0.25 / width, 0.94, "", va="center", ha="right", color=RED, fontsize=11
        )
        self._verdict.set_fontweight("bold")

    def draw(self, step: int, before: int) -> Image.Image:
        """Return the frame after `step`; spikes later than `before` are new."""
        spiked = [int(np.count_nonzero(clock <= step)) for clock in self._clocks]
        for panel in self._panels:
            panel.update(step, before)
        for title, layer, count in zip(self._titles, self._placed, spiked, strict=True):
            title.set_text(f"{layer.name}: {count:,} of {len(layer.times):,} spiked")
        self._progress.set_width(step + 1)
        total = sum(spiked)
        self._heading.set_text(
            f"step {step} of {self._end}, {total:,} spike{'' if total == 1 else 's'} so far"
        )
        self._verdict.set_text(verdict(self._clocks[-1], self._names) if step == self._last else "")
        self._canvas.draw()
        return Image.fromarray(np.asarray(self._canvas.buffer_rgba())).convert("RGB")


def verdict(clock: NDArray[Any], names: Sequence[str]) -> str:
    """Return what the first output spike says: the class, a tie, or that there was none."""
    first = clock.min()
    if not np.isfinite(first):
        return "no output spiked"
    winners = [name for name, time in zip(names, clock, strict=True) if time == first]
    return f"decision: {winners[0]}" if len(winners) == 1 else f"tie: {', '.join(winners)}"


class _Pixels:
    def __init__(self, axes: Axes, picture: NDArray[np.uint8], clock: NDArray[Any]) -> None:
        shade = picture[..., None] / 255
        # Dim pixels end in the colour of the night, not in black, which would look like holes.
        self._lit = shade + (1 - shade) * np.array(to_rgb(NIGHT))
        self._clock = clock.reshape(picture.shape)
        self._drawn = axes.imshow(self._lit)
        axes.set_axis_off()

    def update(self, step: int, before: int) -> None:
        lit = self._clock[..., None] <= step
        colors = np.where(lit, self._lit, to_rgb(NIGHT))
        self._drawn.set_data(np.where(lit & (self._clock[..., None] > before), to_rgb(YELLOW), colors))


class _Neurons:
    def __init__(self, axes: Axes, clock: NDArray[Any]) -> None:
        self._clock = clock
        columns = math.ceil(math.sqrt(len(clock)))
        rows = -(-len(clock) // columns)
        self._colors = np.ones((rows, columns, 3))
        self._drawn = axes.imshow(self._colors)
        axes.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color="white", lw=0.8)
        axes.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color="white", lw=0.8)
        axes.set_axis_off()

    def update(self, step: int, before: int) -> None:
        spiked = self._clock[:, None] <= step
        colors = np.where(spiked, to_rgb(BLUE), to_rgb("#dde3e9"))
        colors = np.where(spiked & (self._clock[:, None] > before), to_rgb(YELLOW), colors)
        self._colors.reshape(-1, 3)[: len(colors)] = colors
        self._drawn.set_data(self._colors)


def _prepare_race(axes: Axes, names: Sequence[str]) -> list[Text]:
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.tick_params(axis="x", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    return axes.get_yticklabels()


def _mark(labels: Sequence[Text], won: NDArray[np.bool_]) -> list[str]:
    """Set the names of the winners in red and bold, and return a colour for each class."""
    for label, winner in zip(labels, won, strict=True):
        label.set_color(RED if winner else INK)
        label.set_fontweight("bold" if winner else "normal")
    return [RED if winner else BLUE for winner in won]


class _Lanes:
    """Time lines of the outputs: each runs until its neuron spikes."""

    def __init__(self, axes: Axes, layer: LayerSpikes, labels: Sequence[Text]) -> None:
        self._layer, self._labels, self._clock = layer, labels, layer.clock()
        self._rows = np.arange(len(self._clock))
        axes.hlines(self._rows, layer.offset, layer.end, color=RULE, lw=0.8)
        self._runs = axes.hlines(self._rows, layer.offset, layer.offset, lw=2.5)
        self._dots = axes.scatter([], [], color=RED, s=40, zorder=3)
        margin = 0.03 * layer.steps
        axes.set_xlim(layer.offset - margin, layer.end + margin)
        axes.set_xticks([layer.offset, layer.end])

    def update(self, step: int, before: int) -> None:
        won = self._clock <= step
        start = self._layer.offset
        now = np.clip(np.minimum(step, self._clock), start, self._layer.end)
        lines = [[(start, y), (x, y)] for x, y in zip(now, self._rows, strict=True)]
        self._runs.set_segments(lines)
        self._runs.set_color(_mark(self._labels, won))
        self._dots.set_offsets(np.stack([self._clock[won], self._rows[won]], axis=1))


class _Bars:
    """Membranes of the outputs on their way to the threshold."""

    def __init__(
        self,
        axes: Axes,
        layer: LayerSpikes,
        labels: Sequence[Text],
        potentials: NDArray[Any],
        last: int,
    ) -> None:
        self._layer, self._labels, self._clock = layer, labels, layer.clock()
        self._potentials = potentials
        rows = np.arange(len(self._clock))
        self._bars = axes.barh(rows, np.zeros(len(rows)), height=0.7)
        axes.axvline(1.0, color=MUTED, lw=1, ls=(0, (3, 2)))
        axes.axvline(0.0, color=RULE, lw=0.8)
        seen = potentials[: max(1, last - layer.offset + 1)]
        axes.set_xlim(float(np.clip(seen.min(), -1, -0.1)), 1.3)
        axes.set_xticks([0, 1], ["0", "threshold"])

    def update(self, step: int, before: int) -> None:
        won = self._clock <= step
        row = min(step - self._layer.offset, len(self._potentials) - 1)
        values = self._potentials[row] if row >= 0 else np.zeros(len(won))
        # A neuron is reset as it spikes; its bar shows the crossing that it stands for.
        values = np.where(won, np.maximum(values, 1.0), values)
        for bar, value, color in zip(self._bars, values, _mark(self._labels, won), strict=True):
            bar.set_width(value)
            bar.set_color(color)
