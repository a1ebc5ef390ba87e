"""The weights of plain torch modules in a stack, matched by order and shape."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from firstspike.nn import Stack
from firstspike.support import InputError
from firstspike.weights.files import read_tensors


@dataclass(frozen=True)
class Match:
    """What became of one tensor.

    Attributes:
        name, shape: in the stack; of one of the source's that is left over, there.
        source: the name of what it was filled from, "" if it was not.
        problem: why it was not filled, or not used, "" where all is well.
    """

    name: str
    shape: tuple[int, ...]
    source: str = ""
    problem: str = ""

    def __str__(self) -> str:
        """Return it in one line."""
        said = self.problem if self.problem else f"from {self.source}"
        return f"{self.name} {self.shape}: {said}"


@dataclass(frozen=True)
class Loaded:
    """What `load` did, a line for each tensor; prints as a table.

    Attributes:
        matches: of the stack's tensors in its order, then what the source has left over.
    """

    matches: tuple[Match, ...]

    @property
    def complete(self) -> bool:
        """Whether every tensor of either side was used."""
        return not any(match.problem for match in self.matches)

    def __str__(self) -> str:
        """Return the table."""
        rows = [(match.name, str(match.shape), match.problem or match.source) for match in self.matches]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        return "\n".join(f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {rest}" for name, shape, rest in rows)


def load(stack: Stack, source: str | Path | Mapping[str, Any], *, strict: bool = True) -> Loaded:
    """Fill a stack with the weights of a plain torch network; return what went where.

    The names of torch's modules are not ours, so weights are matched by shape: each layer takes the first
    that fits and is left, in the order of the source. A file keeps no order; there it is that of the names,
    with numbers counted: ``conv2`` before ``conv10``. Where that could mix up layers of one shape, look at
    the table, or give a dictionary in the right order. ``Linear``, ``Conv2d`` and ``ConvTranspose2d`` keep
    their weights as torch does, so nothing is transposed.

    Numbers are copied as they are: a window neuron cuts a membrane off at ``high`` and takes values
    ``input_low ... input_high``, which a ReLU network was not trained for; `firstspike.from_torch` sets
    both.

    Args:
        stack: changed in place, all or nothing.
        source: a safetensors file, or a ``state_dict``.
        strict: refuse a source that does not fit as a whole; otherwise what fits is copied.

    Raises:
        InputError: something does not fit and `strict`, or nothing fits; the source has batch
            normalisation, which must be folded into the weights; weights that are not finite; a file that
            is no safetensors file, as that of torch.save, which is a pickle.
        TypeError: another type of source, such as a module.
        OSError: the file cannot be read.

    >>> import torch, firstspike as fs
    >>> plain = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> net = fs.Stack(fs.Linear(4, 8), fs.Linear(8, 2, fs.Window.output()), steps=16)
    >>> print(fs.weights.load(net, plain.state_dict()))
    layers.0.weight  (8, 4)  0.weight
    layers.0.bias    (8,)    0.bias
    layers.1.weight  (2, 8)  2.weight
    layers.1.bias    (2,)    2.bias
    """
    tensors = _tensors(source)
    modules = _modules(tensors)
    normed = [name for name, module in modules.items() if "running_mean" in module]
    if normed:
        raise InputError(
            f"{_named(source)} has batch normalisation ({', '.join(normed)}), which a stack has not; "
            "convert the module by firstspike.from_torch, which folds it into the weights"
        )
    own = stack.state_dict()
    matches, used = [], set()
    for name, module in _modules(own).items():
        weight = module["weight"]
        found = next(
            (key for key, other in modules.items() if key not in used and _fits(other, weight)), None
        )
        if found is None:
            matches += [
                Match(f"{name}.{leaf}", _shape(t), problem=_nothing(leaf)) for leaf, t in module.items()
            ]
            continue
        used.add(found)
        prefix = f"{found}." if found else ""
        for leaf in sorted(module.keys() | modules[found].keys(), reverse=True):
            matches.append(_match(f"{name}.{leaf}", f"{prefix}{leaf}", own, tensors))
    matches += [
        Match(
            f"{name}.{leaf}" if name else leaf,
            _shape(tensor),
            problem="left over: no layer has such weights",
        )
        for name, module in modules.items()
        if name not in used
        for leaf, tensor in module.items()
    ]
    loaded = Loaded(tuple(matches))
    taken = [match for match in matches if match.source]
    if not taken or (strict and not loaded.complete):
        wrong = "; ".join(str(match) for match in matches if match.problem)
        advice = "; give a stack of the same layers" + (", or strict=False for what fits" if taken else "")
        raise InputError(f"{_named(source)} does not fit the stack: {wrong}{advice}")
    for match in taken:
        if not torch.isfinite(tensors[match.source]).all():
            raise InputError(
                f"{_named(source)} holds NaN or infinity in {match.source}; nothing was loaded"
            )
    # Not into `own`: the weights of some neurons are kept in another memory layout, and it holds copies.
    stack.load_state_dict(own | {match.name: tensors[match.source] for match in taken})
    return loaded


def _tensors(source: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    if isinstance(source, Mapping):
        return {name: torch.as_tensor(value) for name, value in source.items()}
    if not isinstance(source, str | os.PathLike):
        advice = "; give its state_dict()" if isinstance(source, torch.nn.Module) else ""
        raise TypeError(
            f"expected a safetensors file or a state_dict, found a {type(source).__name__}{advice}"
        )
    found, _ = read_tensors(Path(source), "give a safetensors file")
    return dict(sorted(found.items(), key=lambda item: _counted(item[0])))


def _counted(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers within names by their size."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _modules(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each module by their last name."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        modules.setdefault(module, {})[leaf] = tensor
    return modules


def _fits(module: dict[str, Tensor], weight: Tensor) -> bool:
    return (
        "weight" in module
        and module["weight"].is_floating_point()
        and module["weight"].shape == weight.shape
    )


def _nothing(leaf: str) -> str:
    return "no weights of this shape are left" if leaf == "weight" else "nor is there a bias for it"


def _match(name: str, source: str, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Match:
    """The match of two tensors of a pair of modules whose weights fit."""
    if source not in tensors:
        return Match(name, _shape(own[name]), problem="the source has none; make the layer with bias=False")
    shape = _shape(tensors[source])
    if name not in own:
        advice = "; make it with bias=True" if name.endswith(".bias") else ""
        return Match(source, shape, problem=f"{name.rpartition('.')[0]} has none{advice}")
    if shape != _shape(own[name]):
        return Match(name, _shape(own[name]), problem=f"{source} has the shape {shape}")
    return Match(name, shape, source)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _named(source: Any) -> str:
    return "the state_dict" if isinstance(source, Mapping) else str(source)
