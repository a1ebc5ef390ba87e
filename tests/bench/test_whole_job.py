"""Whole jobs: when they count as done."""

import pytest
import torch

from firstspike.bench import rows_jobs
from firstspike.bench.harness import Skipped
from firstspike.bench.setting import Setting
from firstspike.bench.suite import SPECS
from firstspike.bench.whole_job import JOBS, our_classifier, plain_classifier
from firstspike.data import ImageSet


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
def test_a_job_ends_with_its_goal_and_fails_without(job):
    job((bars(2560, wrong=False), bars(100, wrong=False)))
    with pytest.raises(RuntimeError, match="98% were not reached"):
        job((bars(640, wrong=True), bars(100, wrong=True)))


def test_every_job_has_a_row_and_says_what_data_it_needs(tmp_path):
    assert sum(spec.name.startswith("job-") for spec in SPECS) == len(JOBS)
    with Setting("digits", data_dir=tmp_path, quick=True) as setting:
        for job, (dataset, *_) in JOBS.items():
            with pytest.raises(Skipped, match=f"needs {dataset}"):
                rows_jobs.whole_job(job)(setting)
