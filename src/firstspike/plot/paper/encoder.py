"""Figure 2: the latency encoder, as a curve and on an image."""

import numpy as np
import torch
from matplotlib.figure import Figure

from firstspike.codes import encode_latency
from firstspike.plot._arrays import ArrayLike, to_image
from firstspike.plot._style import BLUE, MUTED, early_to_late, new_figure, set_title, styled


@styled()
def encoder(image: ArrayLike, steps: int = 256, *, title: str | None = None) -> Figure:
    """Return the curve from intensity to spike time (Eq. 3) beside an image and its spike times.

    Args:
        image: uint8 ``(height, width)``.
        steps: ``T`` in steps.
        title: stands above all.

    Raises:
        TypeError: the image is not uint8.
        ValueError: it is not one image.
    """
    picture = to_image(image)
    figure = new_figure(7.4, 2.5 + 0.3 * (title is not None))
    set_title(figure, title)
    # The colour bar has a panel of its own, so that both images keep one size.
    curve, shown, times, scale = figure.subplots(1, 4, width_ratios=[1.15, 1, 1, 0.05])

    intensities = torch.arange(256, dtype=torch.uint8)
    coded = encode_latency(intensities, steps)
    times_of, spiking = coded.times.numpy(), ~coded.silent
    curve.plot(intensities[spiking], times_of[spiking], ".", color=BLUE, ms=2.5)
    curve.plot(intensities[~spiking], times_of[~spiking], "o", mfc="none", color=MUTED, ms=5)
    curve.annotate(
        "black: silent",
        (0, steps),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        color=MUTED,
        fontsize=7.5,
    )
    curve.set_xlabel("pixel intensity")
    curve.set_ylabel("spike time (step)")
    curve.set_xticks([0, 64, 128, 192, 255])
    curve.set_yticks(np.linspace(0, steps, 5).round())
    curve.grid()
    curve.set_title("encoder")

    shown.imshow(picture, cmap="gray", vmin=0, vmax=255)
    shown.set_title("image")
    shown.set_axis_off()

    spikes = encode_latency(torch.tensor(picture), steps)
    codes, silent = spikes.times.numpy(), spikes.silent.numpy()
    drawn = times.imshow(np.ma.masked_where(silent, codes), cmap=early_to_late(), vmin=0, vmax=steps)
    times.set_title(f"spike times, {np.count_nonzero(~silent)} spikes")
    times.set_axis_off()
    bar = figure.colorbar(drawn, cax=scale, ticks=[0, steps])
    bar.ax.set_yticklabels(["0", f"{steps}"])
    bar.ax.invert_yaxis()
    bar.set_label("step", labelpad=-8)
    bar.outline.set_visible(False)
    return figure
