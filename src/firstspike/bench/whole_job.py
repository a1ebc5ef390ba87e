"""A whole job from the start of a process, ours or the same in plain torch; print its seconds, as JSON.

``python -m firstspike.bench.whole_job JOB SIDE THREADS [DATA_DIR]``

Plain torch is a dense network of the same layers in float32 and a loop of a few lines: no augmentation, no
checkpoints, no records. Both sides read the data with `firstspike.data`.
"""

import time

BEGAN = time.perf_counter()

import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, cast  # noqa: E402

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from firstspike.data import ImageSet, load  # noqa: E402

# Training and validation images.
Splits = tuple[ImageSet, ImageSet]

GOAL, EPOCHS = 0.98, 20
DIGIT, GAN_EPOCHS = 3, 20


class _Reached(Exception):
    pass


def our_classifier(data: Splits) -> None:
    """Train the preset ``aggressive-ttfs-window`` until `GOAL` of the validation images are right.

    Raises:
        RuntimeError: they are not after eight epochs, at whose end the rate is zero.
    """
    from firstspike.recipes import preset

    recipe = replace(cast(Any, preset("aggressive-ttfs-window").recipe), epochs=8)

    def watch(epoch: int, model: nn.Module) -> None:
        if epoch and recipe.judge(model, data[1])["validation_accuracy"] >= GOAL:
            raise _Reached

    try:
        _train("aggressive-ttfs-window", recipe, data, watch)
    except _Reached:
        return
    raise RuntimeError(f"{GOAL:.0%} were not reached")


def plain_classifier(data: Splits) -> None:
    """Train 784-400-10 with ReLU by Adam, rate 1e-3, until `GOAL` of the validation images are right.

    Raises:
        RuntimeError: they are not after `EPOCHS` epochs.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 10))
    (images, labels), (others, truth) = ((_pixels(part), part.labels) for part in data)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(EPOCHS):
        for chosen in _batches(len(images), 128):
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        with torch.no_grad():
            if float((model(others).argmax(1) == truth).float().mean()) >= GOAL:
                return
    raise RuntimeError(f"{GOAL:.0%} were not reached")


def our_epoch(data: Splits) -> None:
    """Train ``window-fashion-mnist`` for one epoch, with its validation."""
    from firstspike.recipes import preset

    _train("window-fashion-mnist", replace(preset("window-fashion-mnist").recipe, epochs=1), data)


def plain_epoch(data: Splits) -> None:
    """Train the same layers with ReLU by AdamW for one epoch, in the precision of the preset."""
    from firstspike.bench.rows_deep import dense_like
    from firstspike.recipes import preset

    recipe = cast(Any, preset("window-fashion-mnist").recipe)
    shape, classes = recipe.sizes()
    torch.manual_seed(0)
    network = recipe.build(shape, classes)
    model = dense_like(network.parts, network.shapes, classes)
    images = _pixels(data[0]).unflatten(1, shape)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.rate, fused=True)
    half = recipe.precision_on("cpu") == "bfloat16"
    for chosen in _batches(len(images), recipe.batch_size):
        batch = images[chosen].to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(batch)
        F.cross_entropy(logits.float(), data[0].labels[chosen]).backward()
        optimizer.step()


def our_gan(data: Splits) -> None:
    """Train ``spiking-gan-window`` on one digit for `GAN_EPOCHS` epochs."""
    from firstspike.recipes import preset

    recipe = preset("spiking-gan-window").configure(digit=DIGIT, epochs=GAN_EPOCHS)
    _train("spiking-gan-window", recipe, (_digit(data[0]), _digit(data[1])))


def plain_gan(data: Splits) -> None:
    """Train a GAN of 100-400-784 and 784-400-1 with ReLU by Adam, as many steps of the same batches."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(100, 400), nn.ReLU(), nn.Linear(400, 784), nn.Tanh())
    critic = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 1), nn.Sigmoid())
    images = _pixels(_digit(data[0])) * 2 - 1
    optimizers = [
        torch.optim.Adam(net.parameters(), 8e-4, betas=(0.5, 0.999)) for net in (critic, generator)
    ]
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


# Data set, ours and plain torch's of each job.
JOBS: dict[str, tuple[str, Callable[[Splits], None], Callable[[Splits], None]]] = {
    "classifier": ("mnist", our_classifier, plain_classifier),
    "epoch": ("fashion-mnist", our_epoch, plain_epoch),
    "gan": ("mnist", our_gan, plain_gan),
}


def main() -> None:
    """Run it."""
    job, side, threads, *folder = sys.argv[1:]
    torch.set_num_threads(int(threads))
    dataset, ours, theirs = JOBS[job]
    data_dir = Path(folder[0]) if folder else None
    data = load(dataset, "train", data_dir), load(dataset, "validation", data_dir)
    (ours if side == "ours" else theirs)(data)
    print(json.dumps({"seconds": time.perf_counter() - BEGAN}))


def _train(
    name: str, recipe: Any, data: Splits, watch: Callable[[int, nn.Module], None] | None = None
) -> None:
    from firstspike.training.loop import train_recipe
    from firstspike.training.run_folder import RunFolder

    with tempfile.TemporaryDirectory(prefix="firstspike-bench-") as folder:
        run = RunFolder.create(Path(folder) / "run", name, recipe, seed=0)
        train_recipe(run, *data, show_progress=False, watch=watch)


def _pixels(data: ImageSet) -> Tensor:
    return data.images.flatten(1).to(torch.float32) / 255


def _digit(data: ImageSet) -> ImageSet:
    chosen = data.labels == DIGIT
    return replace(data, images=data.images[chosen], labels=data.labels[chosen])


def _batches(count: int, size: int) -> Iterator[Tensor]:
    return iter(torch.randperm(count).split(size))


if __name__ == "__main__":
    main()
