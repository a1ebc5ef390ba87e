"""The weights that S4NN's authors publish, as a network that decides as their program does."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from firstspike.decision import FirstSpike, Verdict
from firstspike.neurons import Causal
from firstspike.nn import Linear, Stack
from firstspike.online import S4NNRule
from firstspike.support import InputError
from firstspike.weights.pickled_arrays import read_arrays

# The digit of each output neuron in the authors' program, which takes the classes in this order.
S4NN_DIGITS = (4, 1, 0, 7, 9, 2, 3, 5, 8, 6)
# The program reads silent outputs by their membrane at this many steps before T.
_READ_EARLY = 3


def s4nn(
    path: str | Path,
    *,
    rule: S4NNRule = S4NNRule(),  # noqa: B008 - a frozen value
    classes: Sequence[int] | None = S4NN_DIGITS,
) -> Stack:
    """Return the network of a weight file of S4NN's program (arXiv 1910.09495, github.com/SRKH/S4NN).

    The file is what ``numpy.save`` makes of the list of the layers' weights, each ``(neurons, ...)``, as
    CuPy or NumPy arrays. It is a pickle; nothing of it is run, and neither CuPy nor `pickle` is needed.
    The file's precision, float64, is kept.

    Give it images by `Stack.encode`; its output spikes name the class, see `s4nn_decide`. Its weights are
    those that `firstspike.s4nn_epoch` goes on with.

    Args:
        path: such as the authors' ``weights_pretrained.npy``.
        rule: steps and the threshold of each layer that the weights were learnt with; by default the
            program's. Neurons fire one step after ``V > threshold``.
        classes: the class of each output neuron; its row is moved there. By default the program's order of
            the digits. None leaves the rows where they are.

    Raises:
        InputError: the file holds something else, or layers that do not follow each other, as many as
            there are thresholds; `classes` do not number the outputs.
        OSError: it cannot be read.
    """
    path = Path(path)
    arrays = read_arrays(path)
    shapes = [(array.shape[0], math.prod(array.shape[1:])) for array in arrays if array.ndim > 1]
    if len(shapes) != len(arrays) or len(shapes) != len(rule.thresholds) or not _follow(shapes):
        raise InputError(
            f"{path} holds arrays {[array.shape for array in arrays[:4]]}; expected weights (neurons, "
            f"inputs) of {len(rule.thresholds)} layers, each with as many inputs as the one before has "
            "neurons; give the rule that they were learnt with"
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise InputError(f"{path} holds weights that are NaN or infinite; fetch it again")
    if classes is not None:
        if sorted(classes) != list(range(shapes[-1][0])):
            raise InputError(
                f"{path} has {shapes[-1][0]} outputs, and classes must give each its number; found "
                f"{list(classes)}; classes=None leaves them in the file's order"
            )
        arrays[-1] = arrays[-1][np.argsort(classes)]
    layers = [
        _layer(array.reshape(len(array), -1), threshold)
        for array, threshold in zip(arrays, rule.thresholds, strict=True)
    ]
    return Stack(*layers, steps=rule.steps).eval()


def _follow(shapes: list[tuple[int, int]]) -> bool:
    return all(two[1] == one[0] for one, two in pairwise(shapes))


@torch.no_grad()
def _layer(weight: np.ndarray, threshold: float) -> Linear:
    neuron = Causal(threshold=threshold, strict=True, delay=1)
    # In this machine's byte order; half precision counts no steps.
    weights = torch.from_numpy(weight.astype(np.float64 if weight.itemsize == 8 else np.float32))
    layer = Linear(weight.shape[1], weight.shape[0], neuron, generator=torch.Generator()).to(weights.dtype)
    layer.weight.copy_(weights)
    return layer


@torch.no_grad()
def s4nn_decide(network: Stack, images: Any) -> Verdict:
    """Return what S4NN's program decides on images: its rule to the letter.

    The first spike decides; a tie that holds the label counts as right, and has no label. Where all outputs
    are silent, the largest membrane decides, at step ``T - 3``: later input spikes are not counted.

    Args:
        network: of `s4nn`, or another of causal neurons.
        images: as `Stack.encode` takes them.

    >>> net = s4nn("weights_pretrained.npy")                          # doctest: +SKIP
    >>> print(s4nn_decide(net, images).score(labels))                 # doctest: +SKIP
    """
    *_, received, out = network.trace(network.encode(images))
    early = received.times <= received.steps - _READ_EARLY
    counted = received.with_times(torch.where(early, received.times, float(received.steps)))
    membrane = network[len(network) - 1].membrane(counted)
    return FirstSpike(ties="label", silent="membrane").decide(out, membrane)
