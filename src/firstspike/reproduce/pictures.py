"""Pictures of trained runs: one image's way through a classifier, learning curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch

from firstspike.data import ImageSet
from firstspike.metrics.cost import steps_to_decision
from firstspike.nn import Stack
from firstspike.plot import decision_animation, learning_curves, save_figure, spike_raster
from firstspike.recipes.shallow import ShallowRecipe
from firstspike.reproduce.plan import Job, Plan
from firstspike.reproduce.report import Report
from firstspike.training.run_folder import RunFolder

_NAMES = ("input", "hidden", "output")


def draw_raster(run: RunFolder, images: ImageSet, path: Path, index: int = 0) -> Path:
    """Write the spikes of one image through the run's network as ``.png``; return the path."""
    layers, steps, offsets, decision = _trace(run, images, index)
    figure = spike_raster(layers, steps, offsets=offsets, decision_step=decision)
    return save_figure(figure, path)


def draw_decision(run: RunFolder, images: ImageSet, path: Path, index: int = 0) -> Path:
    """Write the decision on one image as an animated ``.gif``; return the path."""
    layers, steps, offsets, _ = _trace(run, images, index)
    return decision_animation(images.images[index], layers, steps, path, offsets=offsets)


def add_curves(
    report: Report, plan: Plan, named: Mapping[str, Sequence[Job]], panels: Mapping[str, Sequence[str]]
) -> None:
    """Draw the learning curves of the first of each name's jobs, and add them to the report.

    Args:
        report: the page.
        plan: where the runs lie and the pictures go.
        named: jobs by the name that stands above.
        panels: title of each panel to the figures drawn in it.
    """
    for name, jobs in named.items():
        figure = learning_curves(jobs[0].open(plan).load_state().records, panels, title=name)
        path = plan.out / "pictures" / f"curves-{name}.png"
        report.figure(save_figure(figure, path), f"Seed {jobs[0].seed} of `{name}`.")


@torch.no_grad()
def _trace(
    run: RunFolder, images: ImageSet, index: int
) -> tuple[dict[str, torch.Tensor], dict[str, int], dict[str, int], int | None]:
    stack = cast(Stack, run.load())
    traced = stack.trace(cast(ShallowRecipe, run.config).encode(images.images[index : index + 1]))
    silent = bool(traced[-1].min() == stack.out_steps)
    windows = [stack.num_steps, *(layer.out_steps for layer in stack)]
    return (
        {name: times[0] for name, times in zip(_NAMES, traced, strict=True)},
        dict(zip(_NAMES, windows, strict=True)),
        dict(zip(_NAMES, stack.offsets, strict=True)),
        None if silent else int(steps_to_decision(stack, traced[-1])[0]),
    )
