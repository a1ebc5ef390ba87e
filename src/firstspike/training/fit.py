"""Training of any torch module on any data, by the loop and into the run folder of the recipes."""

import functools
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from firstspike.data import Dataset, ImageSet, Source, load, own
from firstspike.data.own_data import fingerprint, pair
from firstspike.metrics.report import Progress, Report, report
from firstspike.recipes import Fit
from firstspike.recipes.base import Recipe
from firstspike.spikes import Spikes
from firstspike.support import InputError, check_integer
from firstspike.training import processes
from firstspike.training.loop import alone_in_process, train_recipe
from firstspike.training.run import alone_in
from firstspike.training.run_folder import RunFolder, RunState
from firstspike.training.threads import threads_kept

# Where an object lies in memory, in what Python prints of it.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")

# What every module of torch has, its mode among it.
_OF_TORCH = frozenset(vars(torch.nn.Module()))

# Takes what the module returns and the labels or targets; returns a mean over the batch, a scalar.
Loss = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Fitted:
    """What `fit` made.

    Attributes:
        model: the module that was given, with the weights of the epoch that was chosen, in evaluation mode.
        records: one record of figures per epoch.
        path: the run folder.
    """

    model: torch.nn.Module
    records: list[dict[str, Any]] = field(repr=False)
    path: Path


@dataclass(frozen=True, kw_only=True)
class _Fitting(Fit):
    """The same with the loss function."""

    function: Loss

    def examples(self, train: Any) -> tuple[Any, Any]:
        """Return inputs and targets."""
        inputs, targets = train
        return inputs, targets

    def plain(self, inputs: Any) -> Any:
        """Return inputs as they are."""
        return inputs

    def batch_loss(self, model: torch.nn.Module, images: Any, labels: Tensor) -> Tensor:
        """Return the function's value."""
        return self._value(model(images), labels)

    def _value(self, out: Any, targets: Tensor) -> Tensor:
        """The loss; one that asks for numbers gets a word on spikes."""
        try:
            return self.function(out, targets)
        except (TypeError, AttributeError) as error:
            if isinstance(out, Spikes) and "Spikes" in str(error):
                raise TypeError(
                    f"the network gives Spikes, which loss does not take: {error}; take a loss of spike "
                    "times, first_spike_cross_entropy for instance, or read the spikes as numbers: lambda "
                    "out, labels: loss(out.values, labels)"
                ) from error
            raise

    @torch.no_grad()
    def judge(self, model: torch.nn.Module, validation: Any) -> dict[str, Any]:
        """Return the mean loss on the validation data."""
        model.eval()
        inputs, targets = validation
        device, total = _device(model), 0.0
        for start in range(0, len(inputs), self.batch_size):
            part = slice(start, start + self.batch_size)
            loss = self._value(model(inputs[part].to(device)), targets[part].to(device))
            total += float(loss) * len(targets[part])
        return {"validation_loss": total / len(inputs)}

    def report(
        self,
        model: torch.nn.Module,
        test: ImageSet,
        data_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> Report:
        """Return accuracy and cost on images."""
        return report(model, test.images, test.labels, progress=progress)


def fit(
    net: torch.nn.Module,
    data: Source,
    *,
    loss: Loss,
    out: str | Path,
    validation: Source = None,
    epochs: int = 20,
    batch_size: int = 128,
    rate: float = 1e-3,
    weight_decay: float = 0.0,
    warmup: float = 0.05,
    ema: float = 0.0,
    seed: int = 0,
    resume: bool = False,
    show_progress: bool = True,
) -> Fitted:
    """Train a module from its own weights on its own device; return it with those of the best epoch.

    AdamW; the rate rises over the share `warmup` of all steps and falls to 0 along a cosine. Each finished
    epoch is kept in the run folder: killed at any moment, the same call with `resume` goes on to the same
    weights to the bit.

    Args:
        net: any module; it is trained in place.
        data: inputs and targets, indexed along their first axis: tensors (or `Spikes`, say) as `net` takes
            them, or arrays, which become tensors, float64 in torch's default type. Or an `ImageSet`, or a
            map-style ``torch.utils.data.Dataset`` of (input, target), whose items are read once and held in
            memory: one that changes them at random gives these in every epoch. Or a path, as
            `firstspike.data.own` takes it, or a `Dataset`: then `net` is given the images of its training
            split, uint8, and those of its validation split validate, unless `validation` is given.
        loss: of what `net` returns and the targets, a mean over the batch.
        out: the run folder.
        validation: like `data`; of a path or a `Dataset` it is the validation split. The epoch of the
            lowest loss on it is chosen, without it the last.
        epochs, batch_size, rate, weight_decay, warmup, ema: as in `firstspike.recipes.base.Classifier`.
        seed: of everything random.
        resume: go on with the run in `out`, if there is one. Compared are all settings, the data, what
            `net` prints of itself (build it anew: one that prints its weights is another after its
            training), and of `loss` the name, the fields of a module, or the arguments of a
            ``functools.partial``. Other settings are not known: change the run folder with them.
        show_progress: draw a bar on stderr.

    Raises:
        InputError: `out` holds something else or a run of other settings or data; another thread or process
            trains; several processes were started to train together; the data cannot be used.
        TypeError: `net` is no module, `loss` no function or its value no tensor, or arrays or lists of
            something else than numbers.
        ValueError: a number out of range, inputs and targets of different lengths, an empty validation, a
            network without anything to train, or a loss that is no scalar which depends on it.
        Diverged: a loss or a weight is not finite, or a validation loss NaN; finished epochs are kept.
    """
    seed = check_integer("fit", "seed", seed, low=0)
    if processes.asked_for() > 1:
        raise InputError(
            "fit trains in one process, and torchrun started several; take firstspike.train with a recipe"
        )
    data, validation = (
        own(source) if isinstance(source, str | os.PathLike) else source for source in (data, validation)
    )
    if isinstance(data, Dataset):
        validation = data if validation is None else validation
        data = load(data, "train")
    if isinstance(validation, Dataset):
        validation = load(validation, "validation")
    train, judged = pair(data), None if validation is None else pair(validation)
    recipe, settings = _fitting(
        net,
        train,
        judged,
        loss,
        dataset=data.name if isinstance(data, ImageSet) else "own",
        epochs=epochs,
        batch_size=batch_size,
        rate=rate,
        weight_decay=weight_decay,
        warmup=warmup,
        ema=ema,
    )
    path = Path(out)
    RunFolder.find(path, "fit", settings, seed, resume=resume)
    path.mkdir(parents=True, exist_ok=True)
    with alone_in_process(), alone_in(path), threads_kept():
        run = RunFolder.create(path, "fit", settings, seed, resume=resume)
        if not run.finished:
            torch.set_num_threads(run.threads)
            train_recipe(
                run,
                train,
                judged,
                recipe=recipe,
                model=net,
                device=str(_device(net)),
                show_progress=show_progress,
            )
        run.load_model(net)
    return Fitted(net.eval(), run.load_state().records, path)


class _Nowhere(RunFolder):
    """A run that is kept nowhere, and starts anew."""

    def load_state(self, expected: Mapping[str, Tensor] | None = None) -> RunState:
        """Return an empty state."""
        return RunState({}, [])

    def save_state(self, state: RunState) -> None:
        """Keep nothing."""

    def save_model(self, tensors: dict[str, Tensor]) -> None:
        """Keep nothing."""


def fit_in_memory(
    net: torch.nn.Module,
    data: Source,
    *,
    loss: Loss,
    seed: int,
    show_progress: bool = False,
    **settings: Any,
) -> None:
    """Train a module from its own weights as `fit` does, without a run folder.

    Another thread that trains is waited for.

    Args:
        net, data, loss, seed, show_progress: as for `fit`; `net` has the weights of the last epoch.
        settings: further fields of `firstspike.recipes.base.Classifier`.

    Raises:
        ValueError, Diverged: as for `fit`.
    """
    train = pair(data)
    recipe, _ = _fitting(net, train, None, loss, dataset="own", **settings)
    train_in_memory(net, recipe, train, seed=seed, show_progress=show_progress)


def train_in_memory(
    net: torch.nn.Module,
    recipe: Recipe,
    train: Any,
    validation: Any = None,
    *,
    seed: int,
    show_progress: bool = False,
) -> None:
    """Train a module from its own weights by a recipe, without a run folder.

    Args:
        net: what the recipe builds; it has the weights of the epoch that was chosen.
        recipe: how.
        train, validation: as `firstspike.training.loop.train_recipe` takes them.
        seed: of everything random.
        show_progress: draw a bar on stderr.
    """
    run = _Nowhere(Path(type(net).__name__), "fit", recipe, seed, torch.get_num_threads(), "float32")
    with alone_in_process(wait=True):
        best = train_recipe(
            run,
            train,
            validation,
            recipe=recipe,
            model=net,
            device=str(_device(net)),
            show_progress=show_progress,
        )
    net.load_state_dict(best.state_dict())


def _fitting(
    net: torch.nn.Module,
    train: tuple[Any, Any],
    judged: tuple[Any, Any] | None,
    loss: Loss,
    **settings: Any,
) -> tuple[_Fitting, Fit]:
    """The recipe, and as much of it as a file holds."""
    if not isinstance(net, torch.nn.Module):
        raise TypeError(f"fit trains a torch.nn.Module, found {type(net).__name__}")
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise ValueError(f"{type(net).__name__} has nothing to train: no parameter, or all are frozen")
    if not callable(loss):
        raise TypeError(f"the loss must be a function of outputs and targets, found {loss!r}")
    if judged is not None and not len(judged[0]):
        raise ValueError("validation holds no samples; give some, or leave it out")
    for inputs, targets in (train, judged or train):
        if len(inputs) != len(targets):
            raise ValueError(f"expected one target for each input, found {len(inputs)} and {len(targets)}")
    asked = {
        "network": type(net).__name__,
        "printed": _ADDRESS.sub("", repr(net)),
        "loss": _named(loss),
        "parameters": sum(p.numel() for p in net.parameters()),
        "samples": len(train[0]),
        "sha256": fingerprint(_tensors((train, judged))),
        **settings,
    }
    kept = Fit(**asked)
    return _Fitting(function=loss, **asked), kept


def _tensors(values: Any) -> list[Tensor]:
    """All tensors of a tree; of spikes the times and the window."""
    leaves: list[Tensor] = []
    for leaf in tree_leaves(values, is_leaf=_is_spikes):
        if isinstance(leaf, Spikes):
            leaves += leaf.times, torch.tensor(leaf.steps)
        elif isinstance(leaf, Tensor):
            leaves.append(leaf)
    return leaves


def _named(loss: Loss) -> str:
    """The name of a function; of a partial function also its arguments, of a module its fields."""
    if isinstance(loss, functools.partial):
        given = list(map(_shown, loss.args))
        given += (f"{name}={_shown(value)}" for name, value in sorted(loss.keywords.items()))
        return f"{_named(loss.func)}({', '.join(given)})"
    if isinstance(loss, torch.nn.Module):
        return "; ".join(f"{place} {_fields(part)}".strip() for place, part in loss.named_modules())
    return str(getattr(loss, "__qualname__", type(loss).__qualname__))


def _fields(module: torch.nn.Module) -> str:
    """A module's class with the fields of its own, tensors among them; not with the parts it holds."""
    tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    held = {name: value for name, value in vars(module).items() if name not in _OF_TORCH} | tensors
    fields = [f"{name}={_shown(value)}" for name, value in sorted(held.items())]
    return f"{type(module).__qualname__}({', '.join(fields)})"


def _shown(value: Any) -> str:
    """An argument in words; of what is a tensor, spikes or an array within it the SHA-256."""

    def summed(leaf: Any) -> Any:
        numbers = isinstance(leaf, np.ndarray) and leaf.dtype != object
        tensors = [torch.from_numpy(leaf)] if numbers else _tensors(leaf)
        return f"sha256 {fingerprint(tensors)}" if tensors else leaf

    return _ADDRESS.sub("", repr(tree_map(summed, value, is_leaf=_is_spikes)))


def _is_spikes(value: Any) -> bool:
    return isinstance(value, Spikes)


def _device(module: torch.nn.Module) -> torch.device:
    return next(iter(module.parameters()), torch.empty(0)).device
