"""Finished networks as run folders: made without a training here, or made small; and how all are loaded."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from firstspike import networks
from firstspike.data import Dataset, dataset
from firstspike.export.whole import integer, whole
from firstspike.models.conv_gan import ConvGenerator, on_spikes
from firstspike.models.gan import SpikingGenerator
from firstspike.nn import Stack
from firstspike.nn.description import describe
from firstspike.recipes import Converted
from firstspike.recipes.base import Recipe
from firstspike.recipes.converted import check_takes
from firstspike.recipes.generation import GenerativeRecipe
from firstspike.recipes.saved_generator import saved_generator
from firstspike.support import InputError, atomic_folder
from firstspike.training.run_folder import RunFolder


def save_network(
    path: str | Path,
    network: Stack | SpikingGenerator | ConvGenerator,
    data: str | Dataset | None = None,
    *,
    in_shape: tuple[int, ...] | None = None,
) -> RunFolder:
    """Write a network as a finished run and return it: converted, given weights of others, or made by hand.

    ``firstspike evaluate`` measures it, ``RunFolder.open(path).load()`` is the network again, with the same
    spikes to the bit, and `firstspike.hub.save` takes it. It cannot be trained further.

    Args:
        path: the folder, empty or not there yet.
        network: any `Stack`, or a generator: a `SpikingGenerator`, or the network of a convolutional GAN's
            run, which is written in its form on spike times.
        data: what it is to be measured on by default: the name of a data set, or a `Dataset`, as
            `firstspike.data.own` makes one; None for none. Of a generator what it draws; it needs one.
        in_shape: shape of a sample, ``(channels, y, x)``, for exports of a network without data that begins
            with a convolution.

    Raises:
        InputError: `path` holds something; there is no such data set; the network does not take its images,
            or has fewer outputs than it has classes; a generator draws others, names none, or is an ANN.
        TypeError: see `firstspike.nn.description.describe`.
        ValueError: weights that are NaN or infinite.
        OSError: the folder cannot be written.

    >>> import tempfile, firstspike as fs
    >>> net = fs.Stack(fs.Linear(64, 10), steps=16)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = fs.save_network(f"{folder}/run", net, "digits")
    ...     fs.evaluate(run)["count"]
    300
    """
    config: Recipe
    given: Stack | SpikingGenerator = on_spikes(network)
    if isinstance(given, SpikingGenerator):
        if data is None:
            raise InputError("a generator is measured beside real images; name their data set")
        config = saved_generator(given, data)
    else:
        config = Converted(dataset=data or "", network=describe(given), in_shape=in_shape)
        if data is not None:
            known = dataset(data)
            check_takes(given, known.shape, known.classes, known.name)
    tensors = given.state_dict()
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"the network's {name} holds NaN or infinity")
    return _save(Path(path), config, tensors)


def _save(path: Path, config: Recipe, tensors: dict[str, Tensor]) -> RunFolder:
    with atomic_folder(path) as made:
        run = RunFolder.create(made, "converted", config, 0)
        run.save_model(tensors)
    return replace(run, path=path)


def load(path: str | Path, *, windows: Mapping[str, Any] | None = None) -> torch.nn.Module:
    """Return a trained network in evaluation mode.

    Args:
        path: of a run folder, or the name of a built-in network: "mnist-classifier", a convolutional
            network of window neurons as a `Stack`, or "mnist-generator", a conditional `SpikingGenerator`.
        windows: other lengths of its windows than it was trained with, in steps by the names of the
            recipe's fields, as ``{"steps": 8}``.

    Raises:
        InputError: there is no such run, it is not finished, or it is damaged; or it has no such window.
        OSError: it cannot be read.

    >>> import firstspike as fs
    >>> net = fs.load("mnist-classifier")
    >>> net.out_steps
    64
    """
    return RunFolder.open(path).with_windows(windows or {}).load()


def shrink(run: RunFolder | str | Path, path: str | Path, *, bits: int = 8) -> RunFolder:
    """Write a run with weights in integers, a quarter of its size or less, and return it.

    Its network is the integer one's; see `firstspike.integer`. It is measured, sampled and exported as
    before, and not trained further.

    Args:
        run: finished, or the path of its folder; of a recipe that exports.
        path: the folder, empty or not there yet.
        bits: of a weight.

    Raises:
        InputError: see `RunFolder.load` and `save_network`; the recipe exports nothing; an encoder other
            than the first neuron's own, which the network's description does not hold.
    """
    if not isinstance(run, RunFolder):
        run = RunFolder.open(run)
    form = run.config.exported(run.load())
    if isinstance(form, SpikingGenerator):
        recipe = cast(GenerativeRecipe, run.config)
        tensors = networks.shrunk(whole(form, bits=bits, in_shape=None)[0], "stack.")
        if form.prior is not None:
            tensors["prior"] = form.prior
        return _save(Path(path), saved_generator(form, recipe.dataset, recipe.digit), tensors)
    network = integer(form, bits=bits)
    if not torch.equal(network.codes, integer(form.stack, bits=bits, in_shape=form.in_shape).codes):
        raise InputError("the run's encoder is not the neurons' own, which a file would not hold")
    config = Converted(dataset=run.config.dataset, network=describe(form.stack), in_shape=form.in_shape)
    return _save(Path(path), config, networks.shrunk(network))
