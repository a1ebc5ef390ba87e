"""The loop that trains every classifier, in one process or in several under ``torchrun``."""

import copy
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from firstspike.data import ImageSet
from firstspike.nn.normed import renew_statistics
from firstspike.training import processes
from firstspike.training.deep import maps
from firstspike.training.optimizer import (
    expected_tensors,
    load_optimizer,
    module_tensors,
    optimizer_tensors,
    set_rate,
    tensors_under,
    update_average,
)
from firstspike.training.progress import epochs
from firstspike.training.run_folder import RunFolder, RunState
from firstspike.training.seeding import seeded

STATISTICS_IMAGES = 4096


class Schedule(Protocol):
    """What the loop reads of a configuration."""

    @property
    def batch_size(self) -> int: ...

    @property
    def epochs(self) -> int: ...

    @property
    def rate(self) -> float: ...

    @property
    def warmup(self) -> float: ...

    @property
    def ema(self) -> float: ...


class Task(Protocol):
    """What is trained: a network, its loss and how it is judged."""

    @property
    def config(self) -> Schedule:
        """The numbers of the recipe."""
        ...

    def build(self, train: ImageSet) -> torch.nn.Module:
        """Return a freshly drawn network; the weights come from torch's global random state."""
        ...

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of `model`."""
        ...

    def augment(self, images: Tensor) -> Tensor:
        """Return training images, changed at random."""
        ...

    def loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar."""
        ...

    def compilable(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the layers that gain by torch.compile."""
        ...

    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the epoch's figures on the validation split, "validation_accuracy" among them."""
        ...


def train_supervised(
    run: RunFolder,
    task: Task,
    train: ImageSet,
    validation: ImageSet,
    *,
    device: str = "cpu",
    compiled: bool = False,
    show_progress: bool = True,
    watch: Callable[[int, torch.nn.Module], None] | None = None,
) -> torch.nn.Module:
    """Train the run's network from where the run stands; return the epoch that validation chose.

    The kept weights are those after the epoch with the highest validation accuracy, the later of equals.
    What is judged and kept has batch normalisation's statistics of `STATISTICS_IMAGES` training images as
    they are, without the task's random changes; training itself never sees them.
    Under ``torchrun`` every process draws the same batches and takes its share of each; gradients are
    summed, so the result is that of one process up to rounding, and but for dropout and mixup, which each
    draws for itself. A last batch of fewer samples than processes is left out. The first process writes the
    run.

    Args:
        run: an open run.
        task: what is trained.
        train, validation: images and labels.
        device: where to compute.
        compiled: give the layers that `task` names to torch.compile.
        show_progress: draw a bar on stderr.
        watch: is shown the model before the first epoch and after each, with the number of epochs.
    """
    config = task.config
    with seeded(run.seed, "initial"):
        model = task.build(train).to(device)
    modules = {"model": model, "average": copy.deepcopy(model), "best": copy.deepcopy(model)}
    optimizer = task.optimizer(model)
    state = run.load_state(module_tensors(modules) | expected_tensors(optimizer, "optimizer"))
    if state.epoch:
        run.write_metrics(state)
        for name, module in modules.items():
            module.load_state_dict(tensors_under(state.tensors, name))
        load_optimizer(optimizer, state.tensors, "optimizer")

    if compiled:
        for layer in task.compilable(model):
            layer.compile()
    if watch is not None and not state.epoch and processes.first():
        watch(0, model)
    records = list(state.records)
    steps_per_epoch = math.ceil(len(train) / config.batch_size)
    total_steps = config.epochs * steps_per_epoch
    show = show_progress and processes.first()
    for epoch, move_bar in epochs(state.epoch, config.epochs, run.path.name, records, show=show):
        began = time.perf_counter()
        model.train()
        total = 0.0
        with seeded(run.seed, "epoch", epoch):
            for index, batch in enumerate(torch.randperm(len(train)).split(config.batch_size)):
                step = epoch * steps_per_epoch + index
                set_rate(optimizer, config.rate * _schedule(step, total_steps, config.warmup))
                images = task.augment(train.images[batch])
                if len(batch) < processes.count():
                    continue
                own = processes.share(len(batch))
                with processes.own_randomness():
                    loss = task.loss(model, images[own].to(device), train.labels[batch][own].to(device))
                loss = loss * (len(images[own]) / len(batch))
                optimizer.zero_grad()
                loss.backward()
                processes.sum_gradients(model)
                optimizer.step()
                update_average(modules["average"], model, config.ema)
                total += float(loss.detach()) * len(batch)
                # As much again as a batch is kept for the judging.
                move_bar((index + 1) / (steps_per_epoch + 1))
        plain = train.images[:STATISTICS_IMAGES].split(config.batch_size)
        renew_statistics(modules["average"], (maps(part).to(device) for part in plain))
        figures = task.judge(modules["average"], validation)
        if figures["validation_accuracy"] >= max((r["validation_accuracy"] for r in records), default=0.0):
            modules["best"].load_state_dict(modules["average"].state_dict())
        loss_sum = processes.total(total)
        records.append(
            {
                "epoch": epoch + 1,
                "loss": loss_sum / len(train),
                **figures,
                "seconds": time.perf_counter() - began,
            }
        )
        tensors = module_tensors(modules) | optimizer_tensors(optimizer, "optimizer")
        if processes.first():
            run.save_state(RunState({name: t.cpu() for name, t in tensors.items()}, records))
            if watch is not None:
                watch(epoch + 1, model)
    if processes.first():
        run.save_model({name: t.cpu() for name, t in modules["best"].state_dict().items()})
    return modules["best"]


def _schedule(step: int, total: int, warmup: float) -> float:
    """The rate's factor: up linearly over the share `warmup`, times a half cosine down to 0."""
    rise = min(1.0, (step + 1) / max(warmup * total, 1))
    return rise * 0.5 * (1 + math.cos(math.pi * step / total))
