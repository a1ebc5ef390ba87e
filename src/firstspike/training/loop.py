"""The loop that trains every recipe, in one process or in several under ``torchrun``."""

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from firstspike.nn.normed import renew_statistics
from firstspike.recipes.base import Recipe, maps
from firstspike.support import Diverged, InputError, option
from firstspike.training import processes
from firstspike.training.memory import keep_freed_memory
from firstspike.training.optimizer import (
    decay_within,
    expected_tensors,
    load_optimizer,
    module_tensors,
    of_stepped,
    optimizer_tensors,
    set_rate,
    tensors_under,
    update_average,
)
from firstspike.training.progress import epochs
from firstspike.training.run_folder import RunFolder, RunState
from firstspike.training.seeding import seeded

STATISTICS_IMAGES = 4096
# Steps from one look for losses that are not finite to the next; on a GPU each look waits for it.
_LOOK_EVERY = 100

_training = threading.RLock()


def train_recipe(
    run: RunFolder,
    train: Any,
    validation: Any = None,
    *,
    recipe: Recipe | None = None,
    model: torch.nn.Module | None = None,
    device: str = "cpu",
    compiled: bool = False,
    show_progress: bool = True,
    watch: Callable[[int, torch.nn.Module], None] | None = None,
) -> torch.nn.Module:
    """Train the run's recipe from where the run stands; return the network of the epoch that was chosen.

    Kept are the averaged weights after the epoch with the highest `Recipe.score`, the later of equals.
    What is judged and kept has batch normalisation's statistics of `STATISTICS_IMAGES` training images as
    they are, without random changes; training itself never sees them.
    Under ``torchrun`` every process draws the same batches and takes its share of each; gradients are
    summed, so the result is that of one process up to rounding, except for dropout and mixup, which each
    draws for itself. A last batch of fewer samples than processes is left out. The first process writes the
    run.

    Args:
        run: an open run.
        train, validation: `ImageSet`, or what the recipe's `examples` and `judge` take; no validation where
            no epoch is judged.
        recipe: instead of the run's, with what no file holds.
        model: instead of a freshly drawn one; its weights are the initial ones.
        device: where to compute.
        compiled: give the layers that the recipe names to torch.compile.
        show_progress: draw a bar on stderr.
        watch: is shown the model before the first epoch and after each, with the number of epochs.

    Raises:
        InputError: another thread of this process trains.
        Diverged: a loss or a weight is not finite, or a validation gives NaN; finished epochs are kept.
    """
    with alone_in_process():
        return _train(
            run, train, validation, recipe or run.recipe, model, device, compiled, show_progress, watch
        )


def _train(
    run: RunFolder,
    train: Any,
    validation: Any,
    recipe: Recipe,
    model: torch.nn.Module | None,
    device: str,
    compiled: bool,
    show_progress: bool,
    watch: Callable[[int, torch.nn.Module], None] | None,
) -> torch.nn.Module:
    if model is None:
        with seeded(run.seed, "initial"):
            model = recipe.build(tuple(maps(train.images[:1]).shape[1:]), train.num_classes)
            recipe.prepare(model, train)
    if device == "cpu":
        keep_freed_memory()
    model = model.to(device)
    kept = recipe.kept(model)
    modules = {"model": model, "average": copy.deepcopy(kept), "best": copy.deepcopy(kept)}
    optimizers = recipe.optimizers(model)
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in optimizers.items()}
    expected, there = module_tensors(modules), run.load_state().tensors
    for name, optimizer in optimizers.items():
        expected |= of_stepped(expected_tensors(optimizer, name), there)
    state = run.load_state(expected)
    if state.epoch:
        run.write_metrics(state)
        for name, module in modules.items():
            module.load_state_dict(tensors_under(state.tensors, name))
        for name, optimizer in optimizers.items():
            load_optimizer(optimizer, state.tensors, name)

    if compiled:
        for layer in recipe.compilable(model):
            layer.compile()
    if watch is not None and not state.epoch and processes.first():
        watch(0, model)
    records = list(state.records)
    inputs, labels = recipe.examples(train)
    show = show_progress and processes.first()
    for epoch, move_bar in epochs(state.epoch, recipe.epochs, run.path.name, records, show=show):
        began = time.perf_counter()
        model.train()
        losses = _Losses(epoch + 1)
        with seeded(run.seed, "epoch", epoch):
            batches = list(torch.randperm(len(inputs)).split(recipe.batch_size))
            if recipe.drops_last and len(batches) > 1 and len(batches[-1]) < recipe.batch_size:
                batches = batches[:-1]
            batches = [batch for batch in batches if len(batch) >= processes.count()]
            steps = recipe.epochs * len(batches)
            decay = recipe.ema if recipe.look_ahead else decay_within(steps, recipe.ema)
            for index, batch in enumerate(batches):
                factor = recipe.rate_factor(epoch * len(batches) + index, steps)
                for name, optimizer in optimizers.items():
                    set_rate(optimizer, rates[name] * factor)
                changed = recipe.augment(inputs[batch], batch, epoch)
                own = processes.share(len(batch))
                part, part_labels = changed[own].to(device), labels[batch][own].to(device)
                descend = _descent(model, optimizers, len(part) / len(batch))
                with processes.own_randomness(index), losses.blamed(model):
                    losses.add(recipe.step(model, part, part_labels, descend), len(part))
                last = index + 1 == len(batches)
                if not recipe.look_ahead or (index + 1) % recipe.look_ahead == 0 or last:
                    update_average(modules["average"], kept, decay)
                    if recipe.look_ahead:
                        kept.load_state_dict(modules["average"].state_dict())
                # As much again as a batch is kept for the judging.
                move_bar((index + 1) / (len(batches) + 1))
        losses.check(model)
        plain = inputs[:STATISTICS_IMAGES].split(recipe.batch_size)
        with seeded(run.seed, "statistics", epoch):
            renew_statistics(modules["average"], (recipe.plain(part).to(device) for part in plain))
        figures = {} if validation is None else recipe.judge(modules["average"], validation)
        score = recipe.score(figures)
        if math.isnan(score):
            raise Diverged(
                f"the validation of epoch {epoch + 1} gives NaN, by which no epoch can be chosen; look at "
                f"its data, or train again with a lower rate into another {option('out')}; finished "
                "epochs are kept"
            )
        if score >= max(map(recipe.score, records), default=float("-inf")):
            modules["best"].load_state_dict(modules["average"].state_dict())
        records.append(
            {"epoch": epoch + 1, **losses.means(), **figures, "seconds": time.perf_counter() - began}
        )
        tensors = module_tensors(modules)
        for name, optimizer in optimizers.items():
            tensors |= optimizer_tensors(optimizer, name)
        if processes.first():
            run.save_state(RunState({name: t.cpu() for name, t in tensors.items()}, records))
            if watch is not None:
                watch(epoch + 1, model)
    if processes.first():
        run.save_model({name: t.cpu() for name, t in modules["best"].state_dict().items()})
    return modules["best"]


def _descent(
    model: torch.nn.Module, optimizers: dict[str, torch.optim.Optimizer], share: float
) -> Callable[[str, Tensor], None]:
    """What a recipe's step updates by, for this process's `share` of the batch."""

    def descend(name: str, loss: Tensor) -> None:
        _check_loss(loss)
        optimizers[name].zero_grad()
        (loss * share).backward()
        processes.sum_gradients(model)
        optimizers[name].step()

    return descend


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, Tensor):
        raise TypeError(f"the loss must be a tensor, found {type(loss).__name__}")
    if not torch.is_grad_enabled():
        raise ValueError("gradients are switched off; train outside of torch.no_grad and inference_mode")
    if loss.dim():
        raise ValueError(
            f"the loss must be a scalar, a mean over the batch, found {tuple(loss.shape)}; average it"
        )
    if not loss.requires_grad:
        raise ValueError(
            "the loss depends on no parameter that is trained, so nothing can be learnt from it"
        )


class _Losses:
    """Sums an epoch's losses on the device that computes them, for which each step would have to wait."""

    def __init__(self, epoch: int) -> None:
        self._epoch, self._steps, self._count = epoch, 0, 0
        self._sums: dict[str, Tensor] = {}

    def add(self, losses: dict[str, Tensor], count: int) -> None:
        """Add the mean losses of `count` samples."""
        for name, loss in losses.items():
            total = loss.detach().to(torch.float64) * count
            self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._steps, self._count = self._steps + 1, self._count + count
        if self._steps % _LOOK_EVERY == 0:
            self._refuse_if(not all(bool(torch.isfinite(total)) for total in self._sums.values()))

    @contextmanager
    def blamed(self, model: torch.nn.Module) -> Iterator[None]:
        """Raise Diverged in place of a layer's refusal of weights that are not finite."""
        try:
            yield
        except ValueError:
            self.check(model)
            raise

    def check(self, model: torch.nn.Module) -> None:
        """Raise Diverged if a loss so far, or a weight, is not finite."""
        floating = [t for t in model.state_dict().values() if t.is_floating_point()]
        finite = torch.stack([torch.isfinite(t).all() for t in (*self._sums.values(), *floating)])
        self._refuse_if(not bool(finite.all()))

    def _refuse_if(self, diverged: bool) -> None:
        if diverged:
            raise Diverged(
                f"the training diverged in epoch {self._epoch}: a loss or a weight is no finite number any "
                "more; finished epochs are kept; train again with a lower rate into another "
                f"{option('out')}"
            )

    def means(self) -> dict[str, float]:
        """Return the mean of each loss over all samples of all processes."""
        count = processes.total(self._count)
        return {name: processes.total(float(total)) / count for name, total in self._sums.items()}


@contextmanager
def alone_in_process(*, wait: bool = False) -> Iterator[None]:
    """Refuse a training while another thread trains: they would share torch's random numbers.

    With `wait` it is waited for instead.
    """
    if not _training.acquire(blocking=wait):
        raise InputError(
            "another thread of this process trains already, and torch has one random state for all of "
            "them; train one after the other, or each in a process of its own"
        )
    try:
        yield
    finally:
        _training.release()
