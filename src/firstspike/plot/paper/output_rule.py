"""Figure 5: where the two outputs of the discriminator are pushed to."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from firstspike.losses import gan_targets
from firstspike.plot._style import BLUE, MUTED, RED, RULE, new_figure, set_title, styled
from firstspike.spikes import Spikes

FAKE, REAL = 0, 1

# Who learns from what, and which neuron is to spike first.
_CASES = (
    ("D sees a real image", REAL),
    ("D sees a generated image", FAKE),
    ("G learns from its image", REAL),
)


@styled()
def output_rule(
    steps: int = 256,
    *,
    example_times: tuple[int, int] = (84, 152),
    title: str | None = None,
) -> Figure:
    """Return a schematic of the dynamic targets (Eqs. 6-7): spikes, targets, and the push between.

    One row each for the discriminator on a real image, on a generated one, and the generator; once
    for outputs that spike, once for two silent ones.

    Args:
        steps: ``T`` in steps.
        example_times: spike times of the fake and of the real neuron in the left column.
        title: stands above all.

    Raises:
        ValueError: an example time is outside ``0 ... steps``.
    """
    if not all(0 <= time <= steps for time in example_times):
        raise ValueError(f"example_times must lie in 0 ... {steps}, found {example_times}")
    figure = new_figure(7.4, 4.1 + 0.3 * (title is not None))
    set_title(figure, title)
    panels = figure.subplots(len(_CASES), 2, sharex=True, sharey=True)
    columns = (("outputs spike", example_times), ("both silent", (steps, steps)))
    for column, (state, times) in enumerate(columns):
        for row, (case, desired) in enumerate(_CASES):
            axes = panels[row, column]
            targets = gan_targets(Spikes([times], steps), desired)[0].tolist()
            _panel(axes, times, targets, steps)
            axes.set_title(f"{case}, {state}")
        panels[-1, column].set_xlabel("step")
    handles = [
        panels[0, 0].plot([], [], "|", color=BLUE, ms=12, mew=2.5, label="spike")[0],
        panels[0, 0].plot([], [], "|", color=RULE, ms=12, mew=2.5, label="silent (T)")[0],
        panels[0, 0].plot([], [], "D", mfc="white", mec=RED, ms=6, label="target")[0],
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _panel(axes: Axes, times: Sequence[int], targets: Sequence[int], steps: int) -> None:
    axes.hlines([FAKE, REAL], 0, steps, color=RULE, lw=0.8)
    for neuron, (time, target) in enumerate(zip(times, targets, strict=True)):
        color = BLUE if time < steps else RULE
        axes.plot([time], [neuron], "|", color=color, ms=14, mew=2.5)
        axes.plot([target], [neuron], "D", mfc="white", mec=RED, ms=6)
        if time != target:
            axes.annotate(
                "",
                (target, neuron),
                (time, neuron),
                arrowprops={"arrowstyle": "-|>", "color": RED, "lw": 1.2, "shrinkB": 4},
            )
    axes.set_ylim(-0.6, 1.6)
    axes.set_yticks([FAKE, REAL], ["fake", "real"])
    axes.set_xlim(-0.03 * steps, 1.03 * steps)
    axes.set_xticks([0, steps], ["0", "T"])
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelcolor=MUTED)
    axes.spines[["left", "bottom"]].set_visible(False)
