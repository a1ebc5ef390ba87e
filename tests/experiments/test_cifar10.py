"""``reproduce cifar10``: its runs, and the whole of it on a handful of made images."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from firstspike.experiments import cifar10, jobs, run_experiment
from firstspike.experiments.jobs import Options
from firstspike.experiments.spec import Measured
from firstspike.recipes import preset

LAYOUTS = {
    "window-cifar10": "W2-4C3-E2-F8",
    "ettfs-cifar10": "4C3s2-E2-F8",
    "onestep-cifar10": "4C3-E2-4C3",
    "ann-cifar10": "W2-4C3-E2-F8",
    "ann-quantised-cifar10": "W2-4C3-E2-F8",
    "window-cifar10-large": "4C3s2-E2-F8",
    "ettfs-cifar10-large": "4C3s2-A2-F8",
    "onestep-cifar10-large": "4C3-4G-4C3",
    "onestep-lstm-cifar10-large": "4L3-4G-4L3",
}
SMALL = [name for name in LAYOUTS if not name.endswith("-large")]
PENALISED = [f"spike penalty {penalty:g}" for penalty in cifar10.PENALTIES]
OPTIONS = Options(Path(), seeds=(3, 4))


def test_a_gpu_trains_the_large_presets_too():
    whole, small = cifar10.cifar10(device="cuda"), cifar10.cifar10()
    assert (whole.file, small.file) == ("cifar10-gpu", "cifar10")
    rows = [*SMALL, cifar10.CONTROL, *PENALISED]
    assert [run.name for run in small.runs] == rows
    assert [run.name for run in whole.runs] == rows + [name for name in LAYOUTS if name not in SMALL]
    for run in small.runs:
        # The curve of penalties is drawn through one seed.
        assert len(run.jobs(OPTIONS)) == (1 if run.name in PENALISED else 2)
        assert run.minutes > 0
    recipes = {run.name: run.jobs(OPTIONS)[0].config(OPTIONS) for run in small.runs}
    assert all(recipes[name] == preset(name).recipe for name in SMALL)
    assert recipes[cifar10.CONTROL].neuron.carried == "none"
    assert [recipes[name].spike_penalty for name in PENALISED] == list(cifar10.PENALTIES)
    assert {recipes[name].epochs for name in PENALISED} == {cifar10.CURVE_EPOCHS}


def test_the_expected_time_is_that_of_what_waits(monkeypatch):
    monkeypatch.setattr(jobs, "fast_precision", lambda device: "bfloat16")
    run = jobs.Run("window-cifar10", minutes=90.0)
    two = Options(Path(), seeds=(0, 1, 2, 3), jobs=2)
    assert jobs.expected_time(run.jobs(two), two) == "; about 3.0 hours on as many idle cores"
    assert jobs.expected_time(run.jobs(two)[:1], two) == "; about 0.8 hours on as many idle cores"
    # Nobody measured these.
    few = dataclasses.replace(two, epochs=3)
    assert jobs.expected_time(run.jobs(few), few) == jobs.expected_time([], two) == ""
    assert jobs.expected_time([*run.jobs(two), *jobs.Run("window-mnist").jobs(two)], two) == ""
    monkeypatch.setattr(jobs, "fast_precision", lambda device: "float32")
    assert jobs.expected_time(run.jobs(two), two).endswith("five to ten times as long without, as here")


@pytest.mark.parametrize(("device", "threads"), [("cpu", 1), ("cuda", 6)])
def test_runs_are_trained_on_the_device(monkeypatch, device, threads):
    asked = {}
    monkeypatch.setattr(jobs, "train", lambda *a, **named: asked.update(named))
    monkeypatch.setattr(jobs.os, "cpu_count", lambda: 12)
    job, _ = cifar10.cifar10(device=device).runs[1].jobs(OPTIONS)
    jobs._train_one(job, OPTIONS, device)
    assert (asked["device"], asked["threads"]) == (device, threads)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_report_and_figures(monkeypatch, made_images, tmp_path, device):
    made_images()
    small = {
        name: dataclasses.replace(
            preset(name), recipe=dataclasses.replace(preset(name).recipe, layout=layout, epochs=2)
        )
        for name, layout in LAYOUTS.items()
    }
    monkeypatch.setattr(cifar10, "preset", small.get)
    monkeypatch.setattr(jobs, "preset", small.get)
    monkeypatch.setattr(cifar10, "CURVE_LAYOUT", LAYOUTS["window-cifar10"])
    monkeypatch.setattr(cifar10, "CURVE_EPOCHS", 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a made GPU")
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    report = run_experiment(
        cifar10.cifar10(device=device), out=tmp_path / "out", seeds=[0, 1, 0], results=results
    )
    on_gpu = device == "cuda"
    names = list(LAYOUTS) if on_gpu else SMALL
    page = report.read_text(encoding="utf-8")
    document = json.loads((results / f"cifar10{'-gpu' if on_gpu else ''}.json").read_text())
    accuracy, penalties, epochs = document["tables"]
    labels = [f"`{name}`" for name in SMALL] + [cifar10.CONTROL]
    labels += [f"`{name}`" for name in names if name not in SMALL]
    assert [row[0] for row in accuracy["rows"]] == labels
    for row in accuracy["rows"]:
        name = row[0].strip("`")
        by_spikes = name.startswith(("window", "ettfs"))
        assert (row[1] != "-") == by_spikes
        mean = sum(run["accuracy"] for run in document["runs"][name]) / 2
        assert f"{100 * mean:.2f} ±" in row[1 if by_spikes else 2]
    assert [row[0] for row in penalties["rows"]] == PENALISED
    assert [row[0] for row in epochs["rows"]] == [f"`{n}`, epoch {e}" for n in names for e in (1, 2)]
    assert str(tmp_path) not in json.dumps(document)
    for name in ("curves", "deadline", "curves-window-cifar10"):
        assert (tmp_path / "out" / "pictures" / f"{name}.png").stat().st_size > 1000
    assert ("a made GPU" in document["provenance"][0]["machine"]) == on_gpu
    assert (">= 95.1" in page.replace("&gt;", ">")) == on_gpu
    assert ">= 90.6" in page.replace("&gt;", ">")
    first, second, third, *_ = document["headlines"]
    assert first[0] == f"CIFAR-10: {preset('window-cifar10').summary}"
    assert " % by spikes, " in first[1]
    assert second[2] == "paper: 90.56 % by spikes"
    assert " % by membrane, 1.0" in third[1]


def test_ten_of_many_epochs_are_listed_the_last_among_them():
    records = [
        {"epoch": e, "loss": 1.0, "validation_accuracy": 0.5, "seconds": 60.0} for e in range(1, 151)
    ]
    figures = {"seed": 0, "decision_rule": "any", "accuracy": 0.5, "accuracy_membrane": 0.5}
    figures |= {"spikes_per_hidden_neuron": 0.1, "steps_to_decision": 1.0, "tie_rate": 0.0}
    measured = Measured({"window-cifar10": [figures]}, {"epochs": {"window-cifar10": {"0": records}}})
    *_, epochs = cifar10.CIFAR10.tables(measured)
    listed = [f"`window-cifar10`, epoch {e}" for e in range(15, 151, 15)]
    assert [row[0] for row in epochs.written()["rows"]] == listed
