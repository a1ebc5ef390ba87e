"""``reproduce ettfs``: its parts, and the whole of it on a handful of made images."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from firstspike.data.events import EventSet, Recording
from firstspike.experiments import Run, ettfs, run_experiment
from firstspike.experiments.ettfs import ETTFS, ablations, linear_readout
from firstspike.experiments.jobs import Options
from firstspike.metrics.stability import input_spread
from firstspike.recipes import preset


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
    options = Options(Path("out"), seeds=(0, 1), epochs=2)
    jobs = [job for run in ETTFS.runs for job in run.jobs(options)]
    assert len({job.folder(options) for job in jobs}) == len(jobs) == 2 * (6 + len(ablations()))
    named = {(job.run.name, job.seed): job for job in jobs}
    changed = named["Kaiming initialisation", 0].folder(options)
    assert changed == Path("out/runs/ettfs-fashion-mnist-kaiming-initialisation-seed0")
    # A quick look trains its own number of epochs.
    assert {job.config(options).epochs for job in jobs} == {2}
    assert named["window-mnist", 0].config(options).dataset == "mnist"


def test_only_n_mnist_may_be_missing():
    assert {run.name for run in ETTFS.runs if run.optional} == {"ettfs-n-mnist", "window-n-mnist"}


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


def test_report_and_figures(monkeypatch, made_images, tmp_path):
    made_images()

    def small(recipe):
        return dataclasses.replace(recipe, layout="4C3s2-A2-F8", epochs=1)

    recipes = {name: small(recipe) for name, recipe in list(ablations().items())[:3]}
    monkeypatch.setattr(ettfs, "ablations", lambda: recipes)
    experiment = dataclasses.replace(
        ETTFS,
        runs=[
            *(Run(name, small(preset(name).recipe)) for name in ettfs.PRESETS),
            *(Run("ettfs-fashion-mnist", recipe, variant=name) for name, recipe in recipes.items()),
        ],
    )
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    page = run_experiment(experiment, out=tmp_path / "out", seeds=[0], results=results).read_text("utf-8")
    document = json.loads((results / "ettfs.json").read_text())
    # Without recordings of N-MNIST there is no table of them.
    accuracy, ablation, start = document["tables"]
    assert [row[0] for row in accuracy["rows"]] == [f"`{name}`" for name in ettfs.PRESETS]
    assert [row[2] for row in accuracy["rows"]] == ["99.48", "92.90", "-", "-"]
    for row, name in zip(ablation["rows"], recipes, strict=True):
        change = document["runs"][name][0]["accuracy"] - document["runs"]["all parts"][0]["accuracy"]
        assert row[:3:2] == [name, f"{100 * change:+.2f}"]
    assert len(start["rows"]) == 4
    assert [row[2] for row in document["headlines"]].count("no published figure") == 2
    for name in ("stability", "latency-causal", "latency-window", "spikes", "curves-window-mnist"):
        assert (tmp_path / "out" / "pictures" / f"{name}.png").stat().st_size > 1000
    assert page.count('aria-label="target') == 8
