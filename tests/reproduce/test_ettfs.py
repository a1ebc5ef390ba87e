"""The parts of ``reproduce ettfs`` that need no training."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from firstspike.data.events import EventSet, Recording
from firstspike.metrics.stability import input_spread
from firstspike.reproduce.ettfs import ablations, linear_readout
from firstspike.reproduce.plan import Job, Plan


def test_every_ablation_changes_one_thing_and_builds():
    whole, *others = ablations().items()
    for name, recipe in others:
        changed = [
            field.name
            for field in dataclasses.fields(recipe)
            if getattr(recipe, field.name) != getattr(whole[1], field.name)
        ]
        assert len(changed) == 1, name
        recipe.build((1, 28, 28), 10)


def test_each_has_a_folder_of_its_own():
    plan = Plan(Path("out"), None, (0, 1), (), 2, 1, None)
    jobs = [
        Job("ettfs-fashion-mnist", seed, variant=name, recipe=recipe)
        for seed in plan.seeds
        for name, recipe in ablations().items()
    ]
    assert len({job.folder(plan) for job in jobs}) == len(jobs)
    assert jobs[1].folder(plan).name == "ettfs-fashion-mnist-kaiming-initialisation-seed0"
    # A quick look trains its own number of epochs.
    assert {job.config(plan).epochs for job in jobs} == {2}
    assert Job("window-mnist", 0).config(plan).dataset == "mnist"


def test_a_linear_read_out_reads_where_events_are():
    def events(count, seed):
        rng = np.random.default_rng(seed)
        labels = torch.arange(count) % 3
        recordings = []
        for label in labels.tolist():
            # Class k has its events in column k, and noise elsewhere.
            x = np.concatenate([np.full(30, label), rng.integers(0, 4, 10)])
            size = len(x)
            recordings.append(
                Recording(x, rng.integers(0, 4, size), rng.integers(0, 2, size), np.arange(size), (4, 4))
            )
        return EventSet("made", "train", tuple(recordings), labels, 3)

    assert linear_readout(events(60, 0), events(30, 1), events(30, 2)) > 0.95


def test_spread_over_depth():
    kept = input_spread("ettfs", fire_last=True, depth=6, width=256, samples=32)
    assert kept == pytest.approx([1.0] * 6, abs=0.1)
    lost = input_spread("kaiming", fire_last=False, depth=6, width=256, samples=32)
    assert lost[-1] == 0
    assert kept == input_spread("ettfs", fire_last=True, depth=6, width=256, samples=32)
