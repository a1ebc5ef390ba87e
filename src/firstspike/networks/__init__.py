"""Small trained networks that come with the package: run folders whose weights are integers.

A tensor ``x`` of int8 beside one called ``x.step`` stands for their product.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from firstspike.export.integers import IntegerNetwork
from firstspike.export.rounding import per_weight
from firstspike.support import InputError

NAMES = ("mnist-classifier", "mnist-generator")

_STEP = ".step"


def find(path: str | Path) -> Path:
    """Return `path`, or the folder of the built-in network of that name where nothing lies there."""
    given = Path(path)
    return Path(__file__).parent / given if str(path) in NAMES and not given.exists() else given


def shrunk(whole: IntegerNetwork, prefix: str = "") -> dict[str, Tensor]:
    """Return the state of the network that `whole` was made from, its weights as integers.

    Args:
        whole: as `firstspike.integer` returns it.
        prefix: of the names.
    """
    tensors = {f"{prefix}{name}": tensor for name, tensor in whole.state_dict().items()}
    for depth, (layer, integers) in enumerate(zip(whole, whole.integers, strict=True)):
        for k, (one, integer) in enumerate(
            zip((layer, *layer.shortcuts), integers.connections, strict=True)
        ):
            name = f"{prefix}layers.{depth}.{f'shortcuts.{k - 1}.' if k else ''}weight"
            if name in tensors:
                tensors[name] = integer.weight
                tensors[name + _STEP] = per_weight(one.wiring, integer.step).to(torch.float32)
    return tensors


def grown(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with those multiplied that are integer multiples of steps.

    Raises:
        InputError: steps that do not fit their integers.
    """
    found = {}
    for name, tensor in tensors.items():
        step = tensors.get(name + _STEP)
        if name.endswith(_STEP) and name.removesuffix(_STEP) in tensors:
            continue
        if step is None:
            found[name] = tensor
            continue
        ones = zip(step.shape, tensor.shape, strict=False)
        if step.dim() != tensor.dim() or any(own not in (1, size) for own, size in ones):
            raise InputError(
                f"{name} of {tuple(tensor.shape)} has steps of {tuple(step.shape)}, which do not fit; the "
                "weights are damaged"
            )
        found[name] = tensor.to(torch.float32) * step
    return found
