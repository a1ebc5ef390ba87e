"""Pictures of one image's way through a trained classifier."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure

from firstspike.data import ImageSet
from firstspike.experiments.jobs import load_model
from firstspike.metrics.cost import steps_to_decision
from firstspike.nn import Stack
from firstspike.plot import decision_animation, spike_raster
from firstspike.training.classifier import encode_images
from firstspike.training.config import ClassifierConfig
from firstspike.training.run_folder import RunFolder

_NAMES = ("input", "hidden", "output")


def decision_pictures(run: RunFolder, images: ImageSet) -> tuple[Figure, Callable[[Path], Path]]:
    """Return all spikes of the first image's decision, and what writes the decision as a ``.gif``."""
    stack = load_model(run)
    assert isinstance(stack, Stack)
    assert isinstance(run.config, ClassifierConfig)
    with torch.no_grad():
        traced = stack.trace(encode_images(run.config, images.images[:1]))
    silent = bool(traced[-1].min() == stack.out_steps)
    windows = [stack.num_steps, *(layer.out_steps for layer in stack)]
    layers = {name: times[0] for name, times in zip(_NAMES, traced, strict=True)}
    steps = dict(zip(_NAMES, windows, strict=True))
    offsets = dict(zip(_NAMES, stack.offsets, strict=True))
    decision = None if silent else int(steps_to_decision(stack, traced[-1])[0])
    raster = spike_raster(layers, steps, offsets=offsets, decision_step=decision)
    return raster, partial(decision_animation, images.images[0], layers, steps, offsets=offsets)
