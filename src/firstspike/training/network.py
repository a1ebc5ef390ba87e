"""A finished network, made without a training here, as a run folder."""

from dataclasses import replace
from pathlib import Path

from firstspike.data import Dataset, dataset
from firstspike.nn import Stack
from firstspike.nn.description import describe
from firstspike.recipes import Converted
from firstspike.recipes.converted import check_takes
from firstspike.support import atomic_folder
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
