"""Experiments on a handful of made images, trained in this process."""

import pytest
from noise import made

from firstspike.experiments import jobs
from firstspike.recipes import base
from firstspike.training.loop import train_recipe
from firstspike.training.run_folder import RunFolder


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
