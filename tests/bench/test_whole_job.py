"""Whole jobs: when they count as done."""

import pytest
import torch

from firstspike.bench import rows_jobs, whole_job
from firstspike.bench.harness import Skipped
from firstspike.bench.setting import Setting
from firstspike.bench.suite import SPECS
from firstspike.bench.whole_job import (
    JOBS,
    Task,
    our_classifier,
    our_epoch,
    our_gan,
    plain_classifier,
    plain_epoch,
    plain_gan,
    plain_layers,
)
from firstspike.data import ImageSet
from firstspike.recipes import preset


def bars(count: int, *, wrong: bool) -> ImageSet:
    """Return images whose bright rows tell the class, or labels that have nothing to do with them."""
    generator = torch.Generator().manual_seed(count)
    labels = torch.randint(0, 10, (count,), generator=generator)
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    for row in range(2):
        images[torch.arange(count), 4 + 2 * labels + row, 4:24] = 255
    if wrong:
        labels = torch.randint(0, 10, (count,), generator=generator)
    return ImageSet("bars", "train", images, labels, 10)


@pytest.mark.parametrize("job", [our_classifier, plain_classifier])
def test_a_job_ends_with_its_goal_or_says_that_it_missed_it(job, monkeypatch):
    monkeypatch.setattr(whole_job, "EPOCHS", 3)
    assert job(Task(bars(2560, wrong=False), bars(100, wrong=False)))
    assert not job(Task(bars(640, wrong=True), bars(100, wrong=True)))


@pytest.mark.parametrize("job", [our_epoch, plain_epoch, our_gan, plain_gan])
def test_the_other_jobs_run(job, monkeypatch):
    monkeypatch.setattr(whole_job, "GAN_EPOCHS", 1)
    assert job(Task(bars(640, wrong=False), bars(320, wrong=False)))


def test_plain_layers_are_those_of_the_preset():
    recipe = preset("window-fashion-mnist").recipe
    network = recipe.build((1, 28, 28), 10)
    plain = plain_layers()
    # Normalisations have the same parameters; connections lie in the same order.
    ours = [tuple(p.shape) for p in network.parameters() if p.dim() > 1]
    assert ours == [tuple(p.shape) for p in plain.parameters() if p.dim() > 1]
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in plain.parameters())
    assert (recipe.batch_size, recipe.rate) == (whole_job._EPOCH_BATCH, whole_job._EPOCH_RATE)


def test_every_job_has_a_row_and_says_what_data_it_needs(tmp_path):
    assert sum(spec.name.startswith("job-") for spec in SPECS) == len(JOBS)
    with Setting("digits", data_dir=tmp_path, quick=True) as setting:
        for job, (dataset, *_) in JOBS.items():
            with pytest.raises(Skipped, match=f"needs {dataset}"):
                rows_jobs.whole_job(job)(setting)
