"""Experiments on a handful of made images, trained in this process."""

import pytest
import torch
from firstspike.data.shapes import input_shape

from firstspike.data import ImageSet
from firstspike.recipes import base
from firstspike.training.loop import train_recipe
from firstspike.training.run_folder import RunFolder


def made(name, split, data_dir=None):
    """Forty images of noise, ten classes, of the size that `name` has."""
    source = torch.Generator().manual_seed(len(split))
    channels, *side = input_shape(name)
    shape = (40, *side) if channels == 1 else (40, channels, *side)
    images = torch.randint(0, 256, shape, generator=source).to(torch.uint8)
    return ImageSet(name, split, images, torch.arange(40) % 10, 10)


@pytest.fixture
def made_images(monkeypatch):
    """Return a function that lets an experiment's module load made images and train them here."""

    def train_all(options, jobs):
        for job in jobs:
            config = job.config(options)
            run = RunFolder.create(job.folder(options), job.preset, config, job.seed, resume=True)
            data = [made(config.dataset, split) for split in ("train", "validation")]
            train_recipe(run, *data, show_progress=False)

    def patch(module):
        monkeypatch.setattr(module, "train_all", train_all)
        monkeypatch.setattr(base, "load", made)
        if hasattr(module, "load"):
            monkeypatch.setattr(module, "load", made)

    return patch
