"""Pictures of one image's way through a trained classifier."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure

from firstspike.data import ImageSet
from firstspike.metrics.cost import steps_to_decision
from firstspike.nn import Stack
from firstspike.plot import decision_animation, spike_raster
from firstspike.recipes.shallow import ShallowRecipe
from firstspike.training.run_folder import RunFolder

# What the colours of `decision_pictures` mean, for captions.
RASTER_COLOURS = (
    "A grey block is a layer's window; blue marks are spikes up to the decision, the dashed red line, and "
    "pale ones come after it, when nobody waits any more."
)
ANIMATION_COLOURS = (
    "Yellow fires now; pixels in their own grey and blue neurons have fired, dark pixels and pale neurons "
    "have not; an output's line runs until it fires, in red."
)

_NAMES = ("input", "hidden", "output")


def decision_pictures(run: RunFolder, images: ImageSet) -> tuple[Figure, Callable[[Path], Path]]:
    """Return all spikes of the first image's decision, and what writes the decision as a ``.gif``."""
    recipe, stack = run.config, run.load()
    assert isinstance(recipe, ShallowRecipe)
    assert isinstance(stack, Stack)
    with torch.no_grad():
        traced = stack.trace(recipe.encode(images.images[:1]))
    out = traced[-1]
    layers = {name: spikes[0] for name, spikes in zip(_NAMES, traced, strict=True)}
    offsets = dict(zip(_NAMES, stack.offsets, strict=True))
    decision = None if bool(out.silent.all()) else int(steps_to_decision(stack, out)[0])
    raster = spike_raster(layers, offsets=offsets, decision_step=decision)
    return raster, partial(decision_animation, images.images[0], layers, offsets=offsets)
