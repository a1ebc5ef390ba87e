"""Grids of images, pixel for pixel."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from firstspike.plot._arrays import ArrayLike, to_pictures
from firstspike.plot._mosaic import dots_per_pixel, mosaic
from firstspike.plot._style import DPI, INK, MUTED, styled, text_width
from firstspike.support import InputError

_MARGIN_DOTS = 12
_TITLE_DOTS = 32
_HEADING_DOTS = 34
_LABEL_DOTS = 17
_LARGEST_DOTS = 65_000


@styled()
def sample_grid(
    images: ArrayLike,
    columns: int = 10,
    *,
    title: str | None = None,
    labels: Sequence[Any] | NDArray[Any] | None = None,
) -> Figure:
    """Return a grid of images, each of their pixels a crisp square.

    Args:
        images: uint8 ``(count, height, width)``, of colour ``(count, 3, height, width)``.
        columns: images per row.
        title: stands above the grid.
        labels: ``(count,)``, written above each image.

    Raises:
        TypeError: the images are not uint8.
        InputError: the picture would be too large.
        ValueError: a shape or the number of labels or columns does not fit.
    """
    stack = to_pictures(images)
    if labels is not None and len(labels) != len(stack):
        raise ValueError(f"labels must hold one per image, {len(stack)}, found {len(labels)}")
    return _strips([("", stack)], columns, title, labels)


@styled()
def sample_comparison(
    rows: Mapping[str, ArrayLike], columns: int = 10, *, title: str | None = None
) -> Figure:
    """Return one strip of images per source, each under its name.

    Figure 8 of Spiking-GAN (arXiv 2106.15420) compares the ANN GAN's samples with the spiking ones;
    real images and the mean-image control belong beside them.

    Args:
        rows: name to uint8 images ``(count, height, width)`` or ``(count, 3, height, width)``, one size
            for all.
        columns: images per line; a source with more takes several lines.
        title: stands above all.

    Raises:
        TypeError: the images are not uint8.
        InputError: the picture would be too large.
        ValueError: there is no row, or sizes differ.
    """
    if not rows:
        raise ValueError("rows must hold at least one source of images")
    strips = [(name, to_pictures(images, f"images of {name!r}")) for name, images in rows.items()]
    sizes = {stack.shape[1:] for _, stack in strips}
    if len(sizes) > 1:
        raise ValueError(f"all images must have one size, found {sorted(sizes)}")
    return _strips(strips, columns, title, None)


def _strips(
    strips: Sequence[tuple[str, NDArray[np.uint8]]],
    columns: int,
    title: str | None,
    labels: Sequence[Any] | NDArray[Any] | None,
) -> Figure:
    # Positions are counted in dots, so that an image pixel is always an integer of them:
    # a layout engine would stretch some pixels by one dot.
    if columns < 1:
        raise ValueError(f"columns must be 1 or more, found {columns}")
    height, width = strips[0][1].shape[1:3]
    columns = min(columns, max(len(stack) for _, stack in strips))
    dots = dots_per_pixel(height, width)
    between = max(1, round(4 / dots))
    gap = (between if labels is None else -(-_LABEL_DOTS // dots), between)
    above = 0 if labels is None else _LABEL_DOTS
    pictures = [(name, mosaic(stack, columns, gap)) for name, stack in strips]

    texts = [text_width(title or "", 10, bold=True), *(text_width(name, 8) for name, _ in pictures)]
    needed = max(pictures[0][1].shape[1] * dots, *(round(text * DPI) for text in texts))
    total_width = needed + 2 * _MARGIN_DOTS
    blocks = [picture.shape[0] * dots + above for _, picture in pictures]
    headings = [_HEADING_DOTS if name else 0 for name, _ in pictures]
    total_height = sum(blocks) + sum(headings) + 2 * _MARGIN_DOTS
    total_height += _TITLE_DOTS if title else 0
    if max(total_width, total_height) > _LARGEST_DOTS:
        raise InputError(
            f"{sum(len(stack) for _, stack in strips):,} images in {columns} columns make a picture "
            f"of {total_width:,} x {total_height:,} dots, above the limit of {_LARGEST_DOTS:,}: "
            "draw fewer images or use more columns"
        )

    figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI)
    left = _MARGIN_DOTS / total_width
    top = total_height - _MARGIN_DOTS
    if title:
        figure.text(left, top / total_height, title, va="top", fontsize=10, fontweight="bold")
        top -= _TITLE_DOTS
    for (name, picture), heading in zip(pictures, headings, strict=True):
        if name:
            baseline = top - heading + 9
            figure.text(left, baseline / total_height, name, va="baseline", color=INK)
        top -= heading + above
        box_width, box_height = picture.shape[1] * dots, picture.shape[0] * dots
        top -= box_height
        axes = figure.add_axes(
            (left, top / total_height, box_width / total_width, box_height / total_height)
        )
        axes.imshow(_painted(picture), cmap="gray", vmin=0, vmax=255, aspect="auto")
        axes.set_axis_off()
        for index in range(0 if labels is None else len(strips[0][1])):
            row, column = divmod(index, columns)
            x = column * (width + gap[1]) + (width - 1) / 2
            y = row * (height + gap[0]) - 0.5
            axes.annotate(
                str(labels[index]) if labels is not None else "",
                (x, y),
                xytext=(0, 1.5),
                textcoords="offset points",
                ha="center",
                color=MUTED,
                fontsize=6.5,
            )
    return figure


def _painted(picture: np.ma.MaskedArray[Any, Any]) -> NDArray[Any]:
    """The picture as `imshow` leaves gaps out: grey masked, of colour transparent."""
    if picture.ndim == 2:
        return picture
    shown = ~np.ma.getmaskarray(picture)[..., :1]
    return np.concatenate([picture.data, (shown * 255).astype(np.uint8)], axis=-1)
