"""Figure 3: what an image costs in spikes, in latency code and in rate code."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from firstspike.codes import encode_count, encode_latency
from firstspike.plot._arrays import ArrayLike, to_images
from firstspike.plot._style import BLUE, MUTED, PALE, RED, new_figure, set_title, styled

TTFS_SILENT = "first spike, black silent"
TTFS_ALL = "first spike, every pixel"
COUNT = "count, bright fires most"
COUNT_INVERTED = "count, dark fires most"

# Spiking-GAN, section 3, for an MNIST image. Which of its two count codes is which follows from the
# sums: 26,175 + 173,745 = 784 x 255.
PAPER_SPIKES = {TTFS_ALL: 784, COUNT: 26_175, COUNT_INVERTED: 173_745}

_CHUNK = 2_000


def coding_spikes(images: ArrayLike, steps: int = 256) -> dict[str, float]:
    """Return the mean number of input spikes per image under each code.

    Args:
        images: uint8 ``(count, height, width)``.
        steps: ``T`` of the latency code in steps. A count code has up to 255 spikes a pixel.

    Raises:
        TypeError: the images are not uint8.
        ValueError: the shape is another one.
    """
    stack = to_images(images)
    totals = dict.fromkeys((TTFS_SILENT, TTFS_ALL, COUNT, COUNT_INVERTED), 0)
    for start in range(0, len(stack), _CHUNK):
        chunk = torch.tensor(stack[start : start + _CHUNK])
        for name, black in ((TTFS_SILENT, "silent"), (TTFS_ALL, "last")):
            spikes = encode_latency(chunk, steps, black=black)  # type: ignore[arg-type]
            totals[name] += int((~spikes.silent).sum())
        for name, inverted in ((COUNT, False), (COUNT_INVERTED, True)):
            totals[name] += int(encode_count(chunk, inverted=inverted).sum())
    return {name: total / len(stack) for name, total in totals.items()}


@styled()
def coding_cost(
    images: ArrayLike,
    steps: int = 256,
    *,
    with_paper: bool = True,
    title: str | None = None,
) -> Figure:
    """Return bars of input spikes per image, and the spikes of the first image's middle row.

    Args:
        images: uint8 ``(count, height, width)``; the bars are means over all of them.
        steps: ``T`` in steps.
        with_paper: mark the paper's figures too. They hold for MNIST only.
        title: stands above all.

    Raises:
        TypeError: the images are not uint8.
        ValueError: the shape is another one.
    """
    stack = to_images(images)
    spikes = coding_spikes(images, steps)
    figure = new_figure(7.4, 2.7 + 0.3 * (title is not None))
    set_title(figure, title)
    bars, rasters = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.15, 1])[0]
    _bars(bars.subplots(), spikes, PAPER_SPIKES if with_paper else {})

    row = torch.tensor(stack[0, stack.shape[1] // 2])
    # A count code needs a step for each of its spikes, whatever the latency code's window.
    rate_steps = max(steps, 255)
    latency, rate = rasters.subplots(2, 1, sharex=True)
    coded = encode_latency(row, steps)
    times, fired = coded.times.numpy(), np.flatnonzero(~coded.silent)
    latency.axvspan(-0.5, steps - 0.5, color=PALE, lw=0, zorder=0)
    latency.vlines(times[fired], fired - 0.5, fired + 0.5, color=BLUE, lw=1.5)
    latency.set_title(f"first spike: one image row, {len(fired)} spikes")
    pixels, spread = spread_counts(encode_count(row).numpy(), rate_steps)
    rate.axvspan(-0.5, rate_steps - 0.5, color=PALE, lw=0, zorder=0)
    rate.vlines(spread, pixels - 0.4, pixels + 0.4, color=RED, lw=0.4)
    rate.set_title(f"count: the same row, {len(spread):,} spikes")
    for axes in (latency, rate):
        axes.set_ylim(len(row) - 0.5, -0.5)
        axes.set_xlim(-0.015 * rate_steps, rate_steps)
        axes.set_yticks([0, len(row) - 1])
        axes.set_ylabel("pixel")
    rate.set_xlabel("step")
    return figure


def spread_counts(counts: NDArray[np.int64], steps: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return pixel and step of every spike when each pixel's count is spread evenly over ``T``."""
    pixels = np.repeat(np.arange(len(counts)), counts)
    times = [np.floor((np.arange(count) + 0.5) * steps / count) for count in counts if count]
    return pixels, np.concatenate(times) if times else np.empty(0)


def _bars(axes: Axes, spikes: dict[str, float], paper: dict[str, int]) -> None:
    rows = range(len(spikes))
    colors = [BLUE if name in (TTFS_SILENT, TTFS_ALL) else RED for name in spikes]
    axes.barh(rows, list(spikes.values()), color=colors, height=0.55)
    for row, (name, value) in zip(rows, spikes.items(), strict=True):
        text = f"{value:,.0f}"
        if name in paper:
            text += f"\npaper {paper[name]:,}"
            axes.plot([paper[name]], [row], "D", mfc="white", mec=MUTED, ms=4)
        axes.annotate(
            text,
            (max(value, paper.get(name, 0)), row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
        )
    axes.set_xscale("log")
    lowest = np.floor(np.log10(min(value for value in spikes.values() if value > 0)) - 0.3)
    highest = np.log10(max(spikes.values()))
    axes.set_xlim(10**lowest, 30 * 10**highest)
    axes.set_xticks(10.0 ** np.arange(lowest, highest))
    axes.set_yticks(rows, list(spikes))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.minorticks_off()
    axes.set_xlabel("input spikes per image")
    axes.set_title("cost of an image")
