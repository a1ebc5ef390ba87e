"""Experiments trained in this process, on their data sets or on a handful of made images."""

import pytest
from noise import made

from firstspike.experiments import jobs
from firstspike.recipes import base
from firstspike.training.loop import train_recipe
from firstspike.training.run_folder import RunFolder


@pytest.fixture
def train_here(monkeypatch, one_thread):
    """Let experiments train in this process, without the start of another for each run."""

    def train(waiting, total, options, device):
        for job in waiting:
            config = job.config(options)
            run = RunFolder.create(job.folder(options), job.run.preset, config, job.seed, resume=True)
            data = [jobs.load(config.dataset, split) for split in ("train", "validation")]
            train_recipe(run, *data, show_progress=False)

    monkeypatch.setattr(jobs, "_train", train)


@pytest.fixture
def made_images(monkeypatch, train_here):
    """Let experiments load made images and train on them here; further modules that load are named."""

    def patch(*modules):
        for module in (jobs, base, *modules):
            monkeypatch.setattr(module, "load", made)

    return patch
