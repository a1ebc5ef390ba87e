"""Images from a trained generator, with the spikes that they took."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from firstspike.data import dataset
from firstspike.metrics.cost import spikes_per_layer, synaptic_operations
from firstspike.models.gan import SpikingGenerator
from firstspike.support import InputError, atomic_path
from firstspike.training.config import GanConfig
from firstspike.training.gan import Generator, build_gan
from firstspike.training.run_folder import RunFolder


@dataclass(frozen=True)
class Samples:
    """Generated images.

    Attributes:
        images: uint8 ``(count, height, width)``.
        labels: int64 ``(count,)``, the class asked for, -1 where unconditional.
        spikes: int64 ``(count, layers + 1)``, spikes of the noise and of each layer; empty along the
            layers for an ordinary network.
        synops: float32 ``(count,)``, synaptic operations of each image, 0 for an ordinary network.
    """

    images: Tensor
    labels: Tensor
    spikes: Tensor
    synops: Tensor


def load_generator(run: RunFolder) -> Generator:
    """Return the run's averaged generator.

    Raises:
        InputError: the run is no GAN, is not finished or is damaged.
    """
    config = run.config
    if not isinstance(config, GanConfig):
        raise InputError(f"{run.path} holds a classifier ({run.preset}); give the folder of a GAN")
    data = dataset(config.dataset)
    generator, _ = build_gan(config, data.shape[1:], data.classes)
    run.load_model(generator)
    return generator.eval()


@torch.no_grad()
def sample(generator: Generator, count: int, seed: int = 0, label: int | None = None) -> Samples:
    """Return `count` samples; the noise is a function of `seed`.

    Args:
        generator: spiking or ordinary.
        count: number of images.
        seed: of the noise.
        label: class for a conditional generator; None takes all classes in turn.

    Raises:
        InputError: a label for an unconditional generator, or one that does not exist.
    """
    classes = generator.num_classes
    if label is not None and not classes:
        raise InputError("this GAN is not conditional; leave out --label")
    if label is not None and not 0 <= label < classes:
        raise InputError(f"--label must be 0 ... {classes - 1}, found {label}")
    source = torch.Generator().manual_seed(seed)
    noise = generator.noise(count, source)
    asked = torch.arange(count) % classes if classes and label is None else torch.full((count,), label or 0)
    labels = asked if classes else None
    images, spikes, synops = [], [], []
    for start in range(0, count, 1000):
        part = slice(start, start + 1000)
        part_labels = None if labels is None else labels[part]
        if isinstance(generator, SpikingGenerator):
            traced = generator.trace(noise[part], part_labels)
            images.append(generator.images(traced[-1]))
            spikes.append(spikes_per_layer(generator.stack, traced).to(torch.int64))
            synops.append(synaptic_operations(generator.stack, traced, until_decision=False))
        else:
            images.append(generator.images(generator(noise[part], part_labels)))
            spikes.append(torch.empty((len(images[-1]), 0), dtype=torch.int64))
            synops.append(torch.zeros(len(images[-1])))
    return Samples(
        torch.cat(images),
        torch.full((count,), -1) if labels is None else labels,
        torch.cat(spikes),
        torch.cat(synops),
    )


def write_samples(samples: Samples, path: Path) -> None:
    """Write the samples: a grid as ``.png``, or arrays images, labels, spikes as ``.npz``."""
    if path.suffix == ".png":
        from firstspike.plot import sample_grid, save_figure

        columns = min(10, len(samples.images))
        save_figure(sample_grid(samples.images, columns), path)
        return
    total = samples.spikes.sum(1) if samples.spikes.shape[1] else torch.full((len(samples.images),), -1)
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary, images=samples.images.numpy(), labels=samples.labels.numpy(), spikes=total.numpy()
        )
