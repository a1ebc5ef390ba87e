"""Learning curves from the records of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from firstspike.plot._style import new_figure, set_title, styled


@styled()
def learning_curves(
    records: Sequence[Mapping[str, Any]],
    panels: Mapping[str, Sequence[str]],
    *,
    against: str = "epoch",
    title: str | None = None,
) -> Figure:
    """Return one panel per group of quantities, each quantity a line over epochs.

    Args:
        records: one mapping per epoch with the number ``"epoch"`` and any quantities, as in
            ``metrics.jsonl``. A record may lack a quantity or hold None: its point is left out.
        panels: panel title to the keys drawn in it.
        against: the quantity along the horizontal axis.
        title: stands above all.

    Raises:
        ValueError: no records, no panels, or a key that no record has.
    """
    if not records or not panels:
        raise ValueError("learning_curves needs at least one record and one panel")
    known = sorted({key for record in records for key in record} - {against})
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(2.9 * columns + 0.3, 2.2 * rows + 0.3 * (title is not None))
    set_title(figure, title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, (name, keys) in zip(grid, panels.items(), strict=False):
        for key in keys:
            points = [(r[against], r[key]) for r in records if r.get(key) is not None]
            if not points:
                raise ValueError(f"no record has {key!r}; they have {known}")
            epochs, values = zip(*points, strict=True)
            axes.plot(
                epochs,
                values,
                label=key.replace("_", " "),
                marker="o" if len(points) == 1 else None,
                markersize=4,
            )
        axes.set_title(name)
        axes.set_xlabel(against)
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
        if len(keys) > 1:
            axes.legend()
    return figure
