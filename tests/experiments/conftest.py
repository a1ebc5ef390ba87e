"""Experiments on a handful of made images, trained in this process."""

import pytest
import torch

from firstspike.data import ImageSet, dataset
from firstspike.experiments import jobs
from firstspike.recipes import base
from firstspike.training.loop import train_recipe
from firstspike.training.run_folder import RunFolder


def made(name, split, data_dir=None):
    """Forty images of noise, ten classes, of the size that `name` has."""
    source = torch.Generator().manual_seed(len(split))
    channels, *side = dataset(name).shape
    shape = (40, *side) if channels == 1 else (40, channels, *side)
    images = torch.randint(0, 256, shape, generator=source).to(torch.uint8)
    return ImageSet(name, split, images, torch.arange(40) % 10, 10)


@pytest.fixture
def made_images(monkeypatch):
    """Let experiments load made images and train on them here; further modules that load are named."""

    def train(waiting, total, options, device):
        for job in waiting:
            config = job.config(options)
            run = RunFolder.create(job.folder(options), job.run.preset, config, job.seed, resume=True)
            data = [made(config.dataset, split) for split in ("train", "validation")]
            train_recipe(run, *data, show_progress=False)

    def patch(*modules):
        monkeypatch.setattr(jobs, "_train", train)
        for module in (jobs, base, *modules):
            monkeypatch.setattr(module, "load", made)

    return patch
