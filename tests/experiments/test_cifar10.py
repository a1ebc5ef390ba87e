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
    "ettfs-cifar10": "4C3s2-A2-F8",
    "window-cifar10": "4C3s2-E2-F8",
    "onestep-cifar10": "4C3-4G-4C3",
    "onestep-lstm-cifar10": "4L3-4G-4L3",
}
OPTIONS = Options(Path(), seeds=(3,))


def test_a_gpu_trains_the_presets_and_a_cpu_the_same_for_fewer_epochs():
    whole, start = cifar10.cifar10(device="cuda"), cifar10.cifar10()
    assert (whole.file, start.file) == ("cifar10", "cifar10-start")
    assert [run.name for run in whole.runs] == [run.name for run in start.runs] == list(LAYOUTS)
    for all_epochs, few_epochs in zip(whole.runs, start.runs, strict=True):
        recipe = preset(all_epochs.name).recipe
        (long,), (short,) = all_epochs.jobs(OPTIONS), few_epochs.jobs(OPTIONS)
        assert long.config(OPTIONS) == recipe
        assert short.config(OPTIONS).epochs < recipe.epochs
        assert dataclasses.replace(short.config(OPTIONS), epochs=recipe.epochs) == recipe
        # Neither stands in the other's way.
        assert long.folder(OPTIONS) != short.folder(OPTIONS)


@pytest.mark.parametrize(("device", "threads"), [("cpu", 1), ("cuda", 6)])
def test_runs_are_trained_on_the_device(monkeypatch, device, threads):
    asked = {}
    monkeypatch.setattr(jobs, "train", lambda *a, **named: asked.update(named))
    monkeypatch.setattr(jobs.os, "cpu_count", lambda: 12)
    (job,) = cifar10.cifar10(device=device).runs[1].jobs(OPTIONS)
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
    monkeypatch.setattr(cifar10, "CPU_EPOCHS", dict.fromkeys(LAYOUTS, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a made GPU")
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    report = run_experiment(
        cifar10.cifar10(device=device), out=tmp_path / "out", seeds=[0, 1, 0], results=results
    )
    page = report.read_text(encoding="utf-8")
    start = device == "cpu"
    document = json.loads((results / f"cifar10{'-start' if start else ''}.json").read_text())
    accuracy, epochs = document["tables"]
    assert [row[0] for row in accuracy["rows"]] == [f"`{name}`" for name in LAYOUTS]
    for row, name in zip(accuracy["rows"], LAYOUTS, strict=True):
        # A network of one step decides by membranes alone.
        assert (row[2] == "-") == name.startswith("onestep")
        mean = sum(run["accuracy"] for run in document["runs"][name]) / 2
        assert f"{100 * mean:.2f} ±" in row[3 if name.startswith("onestep") else 2]
        assert row[1] == ("1 of 2" if start else "2 of 2")
    trained = "1" if start else "12"
    assert [row[0] for row in epochs["rows"]] == [f"`{n}`, epoch {e}" for n in LAYOUTS for e in trained]
    assert str(tmp_path) not in json.dumps(document)
    for name in ("curves", "curves-window-cifar10"):
        assert (tmp_path / "out" / "pictures" / f"{name}.png").stat().st_size > 1000
    assert ("a made GPU" in document["provenance"]["machine"]) == (not start)
    # The targets, and a word on epochs that are none of the method's.
    assert (">= 95.1" in page.replace("&gt;", ">")) == (not start)
    assert ("a start, no result" in page) == start
    if start:
        assert document["headlines"] == []
    else:
        first, _, third, _ = document["headlines"]
        assert first[0] == f"CIFAR-10: {preset('ettfs-cifar10').summary}"
        assert " % by spikes, " in first[1]
        assert first[2] == "paper: 90.56 % by spikes"
        assert " % by membrane, 1.0" in third[1]


def test_ten_of_many_epochs_are_listed_the_last_among_them():
    records = [
        {"epoch": e, "loss": 1.0, "validation_accuracy": 0.5, "seconds": 60.0} for e in range(1, 151)
    ]
    figures = {"seed": 0, "decision_rule": "any", "accuracy": 0.5, "accuracy_membrane": 0.5}
    figures |= {"spikes_per_hidden_neuron": 0.1, "steps_to_decision": 1.0}
    measured = Measured({"window-cifar10": [figures]}, {"epochs": {"window-cifar10": records}})
    _, epochs = cifar10.CIFAR10.tables(measured)
    listed = [f"`window-cifar10`, epoch {e}" for e in range(15, 151, 15)]
    assert [row[0] for row in epochs.written()["rows"]] == listed
