"""Print the golden values of every preset, to hold a rebuild to the bit.

``python tests/golden.py VALUES.json`` writes them; ``python tests/golden.py VALUES.json --check`` compares.

For each preset: the SHA-256 of its initial weights, of the weights after two training steps, and of spike
times (logits of the one-step networks, pixels of the ANN GANs) on the embedded digits, enlarged for MNIST's
presets, or on drawn images. Sums of floating-point numbers differ between processors and versions of
torch, so the values are no part of the repository: write them before a change, and check them after it.
"""

import argparse
import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.data import ImageSet, dataset, load
from firstspike.models.gan import SpikingGenerator
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.spiking_form import spiking_form
from firstspike.models.window import AnnNetwork
from firstspike.nn import Stack
from firstspike.recipes import PRESETS
from firstspike.recipes.base import maps
from firstspike.recipes.presets import Preset
from firstspike.training.seeding import seeded

LARGE = ("cifar-10", "cifar-100", "tiny-imagenet", "dvs-gesture")


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("values", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.check:
        expected = json.loads(options.values.read_text(encoding="utf-8"))
        differ = {name: compared(golden(PRESETS[name]), values) for name, values in expected.items()}
        for name, parts in differ.items():
            print(f"{name}: {'differs in ' + ', '.join(parts) if parts else 'equal'}")
        raise SystemExit(any(differ.values()))
    values = {name: golden(entry) for name, entry in PRESETS.items()}
    options.values.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def compared(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Return the names of the values that differ."""
    return [name for name, value in expected.items() if found.get(name) != value]


def golden(entry: Preset) -> dict[str, str]:
    """Return the golden values of a preset."""
    recipe = entry.configure(digit=3 if entry.takes_digit else None)
    size = 4 if recipe.dataset in LARGE else 32
    train = drawn(recipe.dataset, 2 * size)
    with seeded(0, "initial"):
        model = recipe.build(tuple(maps(train.images[:1]).shape[1:]), train.num_classes)
        recipe.prepare(model, train)
    values = {"initial": weights(model)}
    optimizers = recipe.optimizers(model)
    # All classes, also for a recipe that learns one digit: two batches of it are more than are drawn.
    learns_all = replace(recipe, digit=None) if entry.takes_digit else recipe
    inputs, labels = learns_all.examples(train)
    model.train()

    def descend(name: str, loss: Tensor) -> None:
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    with seeded(0, "epoch", 0):
        for batch in torch.arange(2 * size).split(size):
            recipe.step(model, recipe.augment(inputs[batch], batch, 0), labels[batch], descend)
    values["stepped"] = weights(model)
    model.eval()
    with torch.no_grad():
        return values | activity(recipe, recipe.kept(model), train)


def activity(recipe, network: torch.nn.Module, train: ImageSet) -> dict[str, str]:  # type: ignore[no-untyped-def]
    """Return the golden values of what a trained network does."""
    if isinstance(network, Stack):
        traced, membrane = network.read(recipe.encode(train.images[:8]))
        return {"times": ordered(s.times for s in traced), "membrane": ordered([membrane])}
    if isinstance(network, OneStepNetwork | AnnNetwork):
        network.dtype = torch.float32
        return {"times": ordered([network(maps(train.images[:2]))])}
    if hasattr(network, "noise"):
        noise = network.noise(8, torch.Generator().manual_seed(1))
        labels = torch.arange(8) if network.num_classes else None
        made = network(noise, labels)
        traced = (
            [s.times for s in network.trace(noise, labels)]
            if isinstance(network, SpikingGenerator)
            else [made]
        )
        return {"times": ordered(traced), "images": ordered([network.images(made)])}
    form = spiking_form(network)
    traced, membrane = form.stack.read(form.encode(maps(train.images[:2])))
    return {"times": ordered(s.times for s in traced), "membrane": ordered([membrane])}


def drawn(name: str, count: int) -> ImageSet:
    """Return images of the data set's shape: the digits, the digits enlarged, or random ones."""
    known = dataset(name)
    if name in ("digits", "mnist"):
        digits = load("digits", "train")
        images = digits.images[:count]
        if name == "mnist":
            images = F.pad(images.repeat_interleave(3, 1).repeat_interleave(3, 2), (2, 2, 2, 2))
        return ImageSet(name, "train", images, digits.labels[:count], 10)
    shape = known.shape[1:] if known.shape[0] == 1 else known.shape
    source = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (count, *shape), generator=source, dtype=torch.uint8)
    return ImageSet(name, "train", images, torch.arange(count) % known.classes, known.classes)


def weights(*modules: torch.nn.Module) -> str:
    """Return one digest of all weights and buffers, whatever their names and order."""
    return _joined(sorted(_digests(t for module in modules for t in module.state_dict().values())))


def ordered(tensors: Iterable[Tensor]) -> str:
    """Return one digest of tensors in their order."""
    return _joined(_digests(tensors))


def _digests(tensors: Iterable[Tensor]) -> list[str]:
    exact = ((tuple(t.shape), t.detach().to(torch.float64).contiguous().numpy()) for t in tensors)
    return [f"{shape}:{hashlib.sha256(values.tobytes()).hexdigest()}" for shape, values in exact]


def _joined(digests: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


if __name__ == "__main__":
    main()
