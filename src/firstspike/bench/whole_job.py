"""A whole job, ours or the same in plain torch; print whether it reached its goal, as JSON.

``python -m firstspike.bench.whole_job JOB SIDE THREADS PRECISION [DATA_DIR]``

Plain torch is a dense network of the same layers and a loop of a few lines: no augmentation, no
checkpoints, no records. Its network of convolutions computes in PRECISION, that of ours on this machine;
everything else is float32. Both sides read the data with `firstspike.data`.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstspike.data import ImageSet, load

GOAL, EPOCHS = 0.98, 8
MISSED = f"{GOAL:.0%} were not reached"
DIGIT, GAN_EPOCHS = 3, 20
_EPOCH_BATCH, _EPOCH_RATE = 128, 2e-3


@dataclass(frozen=True)
class Task:
    """What a job is given: training and validation images, and "float32" or "bfloat16"."""

    train: ImageSet
    validation: ImageSet
    precision: str = "float32"


class _Reached(Exception):
    pass


def our_classifier(task: Task) -> bool:
    """Train ``aggressive-ttfs-window`` until `GOAL` of the validation images are right, or `EPOCHS` epochs.

    Its rate falls to zero over these epochs.
    """
    from firstspike.recipes import preset

    recipe = replace(cast(Any, preset("aggressive-ttfs-window").recipe), epochs=EPOCHS)

    def watch(epoch: int, model: nn.Module) -> None:
        if epoch and recipe.judge(model, task.validation)["validation_accuracy"] >= GOAL:
            raise _Reached

    try:
        _train("aggressive-ttfs-window", recipe, task, watch)
    except _Reached:
        return True
    return False


def plain_classifier(task: Task) -> bool:
    """Train 784-400-10 with ReLU by Adam as long; its rate falls from 2e-3 to zero over these epochs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 10))
    images, labels = _pixels(task.train), task.train.labels
    others, truth = _pixels(task.validation), task.validation.labels
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(EPOCHS):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - epoch / EPOCHS)
        for chosen in _batches(len(images), 128):
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        with torch.no_grad():
            if float((model(others).argmax(1) == truth).float().mean()) >= GOAL:
                return True
    return False


def our_epoch(task: Task) -> bool:
    """Train ``window-fashion-mnist`` for one epoch, with its validation."""
    from firstspike.recipes import preset

    _train("window-fashion-mnist", replace(preset("window-fashion-mnist").recipe, epochs=1), task)
    return True


def plain_epoch(task: Task) -> bool:
    """Train the same layers with ReLU by AdamW for one epoch."""
    torch.manual_seed(0)
    model = plain_layers()
    images, labels = _pixels(task.train).unflatten(1, (1, 28, 28)), task.train.labels
    optimizer = torch.optim.AdamW(model.parameters(), _EPOCH_RATE, fused=True)
    for chosen in _batches(len(images), _EPOCH_BATCH):
        batch = images[chosen].to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=task.precision == "bfloat16"):
            logits = model(batch)
        F.cross_entropy(logits.float(), labels[chosen]).backward()
        optimizer.step()
    return True


def plain_layers() -> nn.Sequential:
    """Return the layers of ``window-fashion-mnist`` with torch's ReLU."""
    layers: list[nn.Module] = []
    before = 1
    for maps in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(before, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU()]
            before = maps
        if maps < 128:
            layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(128 * 7 * 7, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU()]
    layers += [nn.Dropout(0.2), nn.Linear(128, 10)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def our_gan(task: Task) -> bool:
    """Train ``spiking-gan-window`` on one digit for `GAN_EPOCHS` epochs, without shifts, validated."""
    from firstspike.recipes import preset
    from firstspike.recipes.spiking_gan import GanRecipe

    recipe = preset("spiking-gan-window").configure(digit=DIGIT, epochs=GAN_EPOCHS)
    recipe = replace(cast(GanRecipe, recipe), shift_px=0)
    digit = replace(task, train=_digit(task.train), validation=_digit(task.validation))
    _train("spiking-gan-window", recipe, digit)
    return True


def plain_gan(task: Task) -> bool:
    """Train a GAN of 100-400-784 and 784-400-1 with ReLU by Adam, as many steps of the same batches."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(100, 400), nn.ReLU(), nn.Linear(400, 784), nn.Tanh())
    critic = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 1), nn.Sigmoid())
    images = _pixels(_digit(task.train)) * 2 - 1
    nets = critic, generator
    optimizers = [torch.optim.Adam(net.parameters(), 8e-4, betas=(0.5, 0.999)) for net in nets]
    for _ in range(GAN_EPOCHS):
        for chosen in _batches(len(images), 64):
            real = images[chosen]
            fake = generator(torch.rand(len(real), 100) * 2 - 1)
            loss = (critic(real) - 1).square().mean() + critic(fake.detach()).square().mean()
            optimizers[0].zero_grad()
            loss.backward()
            optimizers[0].step()
            optimizers[1].zero_grad()
            (critic(fake) - 1).square().mean().backward()
            optimizers[1].step()
    return True


# Data set, ours and plain torch's of each job; they return whether the goal was reached.
JOBS: dict[str, tuple[str, Callable[[Task], bool], Callable[[Task], bool]]] = {
    "classifier": ("mnist", our_classifier, plain_classifier),
    "epoch": ("fashion-mnist", our_epoch, plain_epoch),
    "gan": ("mnist", our_gan, plain_gan),
}


def main() -> None:
    """Run it."""
    job, side, threads, precision, *folder = sys.argv[1:]
    torch.set_num_threads(int(threads))
    dataset, ours, theirs = JOBS[job]
    data_dir = Path(folder[0]) if folder else None
    train, validation = (load(dataset, split, data_dir) for split in ("train", "validation"))
    reached = (ours if side == "ours" else theirs)(Task(train, validation, precision))
    print(json.dumps({"reached": reached}))


def _train(
    name: str, recipe: Any, task: Task, watch: Callable[[int, nn.Module], None] | None = None
) -> None:
    from firstspike.training.loop import train_recipe
    from firstspike.training.run_folder import RunFolder

    with tempfile.TemporaryDirectory(prefix="firstspike-bench-") as folder:
        run = RunFolder.create(Path(folder) / "run", name, recipe, seed=0)
        train_recipe(run, task.train, task.validation, show_progress=False, watch=watch)


def _pixels(data: ImageSet) -> Tensor:
    return data.images.flatten(1).to(torch.float32) / 255


def _digit(data: ImageSet) -> ImageSet:
    chosen = data.labels == DIGIT
    return replace(data, images=data.images[chosen], labels=data.labels[chosen])


def _batches(count: int, size: int) -> Iterator[Tensor]:
    return iter(torch.randperm(count).split(size))


if __name__ == "__main__":
    main()
