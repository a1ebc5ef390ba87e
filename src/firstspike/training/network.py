"""Finished networks as run folders: made without a training here, or made small; and how all are loaded."""

from dataclasses import replace
from pathlib import Path

import torch

from firstspike import networks
from firstspike.data import Dataset, dataset
from firstspike.export.whole import integer, whole
from firstspike.models.gan import SpikingGenerator
from firstspike.nn import Stack
from firstspike.nn.description import describe
from firstspike.recipes import Converted
from firstspike.recipes.converted import check_takes
from firstspike.support import InputError, atomic_folder
from firstspike.training.run_folder import RunFolder


def save_network(
    path: str | Path,
    stack: Stack,
    data: str | Dataset | None = None,
    *,
    in_shape: tuple[int, ...] | None = None,
) -> RunFolder:
    """Write a network as a finished run and return it: converted, given weights of others, or made by hand.

    ``firstspike evaluate`` measures it, ``RunFolder.open(path).load()`` is the network again, with the same
    spikes to the bit, and `firstspike.hub.save` takes it. It cannot be trained further.

    Args:
        path: the folder, empty or not there yet.
        stack: any `Stack`.
        data: what it is to be measured on by default: the name of a data set, or a `Dataset`, as
            `firstspike.data.own` makes one; None for none.
        in_shape: shape of a sample, ``(channels, y, x)``, for exports of a network without data that begins
            with a convolution.

    Raises:
        InputError: `path` holds something; there is no such data set; the network does not take its images,
            or has fewer outputs than it has classes.
        TypeError: see `firstspike.nn.description.describe`.
        OSError: the folder cannot be written.

    >>> import tempfile, firstspike as fs
    >>> net = fs.Stack(fs.Linear(64, 10), steps=16)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = fs.save_network(f"{folder}/run", net, "digits")
    ...     fs.evaluate(run)["count"]
    300
    """
    path, config = Path(path), Converted(dataset=data or "", network=describe(stack), in_shape=in_shape)
    if data is not None:
        known = dataset(data)
        check_takes(stack, known.shape, known.classes, known.name)
    with atomic_folder(path) as made:
        run = RunFolder.create(made, "converted", config, 0)
        run.save_model(stack.state_dict())
    return replace(run, path=path)


def load(path: str | Path) -> torch.nn.Module:
    """Return a trained network in evaluation mode.

    Args:
        path: of a run folder, or the name of a built-in network: "mnist-classifier", a convolutional
            network of window neurons as a `Stack`, or "mnist-generator", a conditional `SpikingGenerator`.

    Raises:
        InputError: there is no such run, it is not finished, or it is damaged.
        OSError: it cannot be read.

    >>> import firstspike as fs
    >>> net = fs.load("mnist-classifier")
    >>> net.out_steps
    64
    """
    return RunFolder.open(path).load()


def shrink(run: RunFolder, path: str | Path, *, bits: int = 8) -> RunFolder:
    """Write a run with weights in integers, a quarter of its size or less, and return it.

    Its network is the integer one's; see `firstspike.integer`. It is measured, sampled and exported as
    before, and not trained further.

    Args:
        run: finished; of a recipe that exports.
        path: the folder, empty or not there yet.
        bits: of a weight.

    Raises:
        InputError: see `RunFolder.load` and `save_network`; the recipe exports nothing; an encoder other
            than the first neuron's own, which the network's description does not hold.
    """
    form, path = run.config.exported(run.load()), Path(path)
    with atomic_folder(path) as made:
        if isinstance(form, SpikingGenerator):
            if not isinstance(run.load(), SpikingGenerator):
                raise InputError("only a fully connected generator is written smaller; export it instead")
            small = RunFolder.create(made, run.preset, run.config, run.seed)
            small.save_model(networks.shrunk(whole(form, bits=bits, in_shape=None)[0], "stack."))
        else:
            network = integer(form, bits=bits)
            if not torch.equal(network.codes, integer(form.stack, bits=bits, in_shape=form.in_shape).codes):
                raise InputError("the run's encoder is not the neurons' own, which a file would not hold")
            inner = save_network(made / "run", form.stack, run.config.dataset, in_shape=form.in_shape)
            inner.save_model(networks.shrunk(network))
            for file in inner.path.iterdir():
                file.rename(made / file.name)
            inner.path.rmdir()
    return RunFolder.open(path)
