"""The one look of every figure: calm, light, and readable without telling red from green."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

DPI = 144

INK = "#24292f"
MUTED = "#68727d"
RULE = "#c9d0d7"
PALE = "#eef1f4"
NIGHT = "#18212b"

# Paul Tol's "bright" qualitative scheme (https://personal.sron.nl/~pault/): distinct for all common
# forms of colour blindness and in grey print.
BLUE = "#4477aa"
RED = "#ee6677"
GREEN = "#228833"
YELLOW = "#ccbb44"
PURPLE = "#aa3377"
CYAN = "#66ccee"
CYCLE = (BLUE, RED, GREEN, YELLOW, PURPLE, CYAN)

_RC: dict[Any, Any] = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "auto",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "text.color": INK,
    "axes.titlesize": 8.5,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.labelsize": 8,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=CYCLE),
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.handlelength": 1.4,
    "figure.titlesize": 10,
    "figure.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "image.interpolation": "nearest",
    "image.cmap": "gray",
}


@contextmanager
def styled() -> Iterator[None]:
    """Apply the look for the length of a block, or of a call when used as a decorator.

    The user's own matplotlib settings are the same before and after.
    """
    with matplotlib.rc_context(_RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` x `height` inches that lays out its own panels.

    It belongs to no pyplot state: nothing to close, and safe in threads and without a display.
    """
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def set_title(figure: Figure, title: str | None) -> None:
    """Write `title` at the top left, or nothing when it is None."""
    if title is not None:
        figure.suptitle(title, x=0.01, ha="left")


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of one line of `text` at `size` points, in inches."""
    if not text.strip():
        return 0.0
    prop = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text, prop=prop).get_extents().width) / 72


def diverging() -> Colormap:
    """Return the colour map for signed values: blue below 0, white at 0, red above."""
    return matplotlib.colormaps["RdBu_r"].with_extremes(bad=(1, 1, 1, 0))


def early_to_late() -> Colormap:
    """Return the colour map for spike times: early is bright, as the pixel was; silent is pale."""
    return matplotlib.colormaps["viridis_r"].with_extremes(bad=PALE)
