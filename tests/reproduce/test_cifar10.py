"""``reproduce cifar10``: its runs, and the whole of it on a handful of made images."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from firstspike.recipes import preset
from firstspike.reproduce import cifar10, plan, run_experiment
from firstspike.reproduce.plan import Plan
from firstspike.support import InputError

LAYOUTS = {
    "ettfs-cifar10": "4C3s2-A2-F8",
    "window-cifar10": "4C3s2-E2-F8",
    "onestep-cifar10": "4C3-4G-4C3",
    "onestep-lstm-cifar10": "4L3-4G-4L3",
}


def options(out, device="cpu", results=None, seeds=(0, 1)):
    return Plan(out, None, seeds, (), None, 2, results, device)


def test_a_gpu_trains_the_presets_and_a_cpu_the_same_for_fewer_epochs():
    for name in LAYOUTS:
        whole, start = cifar10.jobs(name, "cuda", (3,)), cifar10.jobs(name, "cpu", (3,))
        recipe = preset(name).recipe
        assert whole[0].config(options(Path())) == recipe
        few = start[0].config(options(Path()))
        assert few.epochs < recipe.epochs
        assert dataclasses.replace(few, epochs=recipe.epochs) == recipe
        # Neither stands in the other's way.
        assert whole[0].folder(options(Path())) != start[0].folder(options(Path()))


@pytest.mark.parametrize(("device", "threads"), [("cpu", 1), ("cuda", 6)])
def test_runs_are_trained_on_the_device(monkeypatch, tmp_path, device, threads):
    asked = {}
    monkeypatch.setattr(plan, "train", lambda *a, **named: asked.update(named))
    monkeypatch.setattr(plan.os, "cpu_count", lambda: 12)
    plan._train_one(options(tmp_path, device), cifar10.jobs("window-cifar10", device, (0,))[0])
    assert (asked["device"], asked["threads"]) == (device, threads)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_report_and_figures(monkeypatch, made_images, tmp_path, device):
    made_images(cifar10)
    small = {
        name: dataclasses.replace(
            preset(name), recipe=dataclasses.replace(preset(name).recipe, layout=layout, epochs=2)
        )
        for name, layout in LAYOUTS.items()
    }
    monkeypatch.setattr(cifar10, "preset", small.get)
    monkeypatch.setattr(plan, "preset", small.get)
    monkeypatch.setattr(cifar10, "CPU_EPOCHS", dict.fromkeys(LAYOUTS, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a made GPU")
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    page = cifar10.reproduce(options(tmp_path / "out", device, results)).read_text(encoding="utf-8")
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
    assert [row[:2] for row in epochs["rows"]] == [[f"`{n}`", e] for n in LAYOUTS for e in trained]
    assert str(tmp_path) not in json.dumps(document)
    for name in ("curves", "curves-window-cifar10"):
        assert (tmp_path / "out" / "pictures" / f"{name}.png").stat().st_size > 1000
    assert ("a made GPU" in document["provenance"]["machine"]) == (not start)
    # The targets, and a word on epochs that are none of the method's.
    assert ("0.951" in page) == (not start)
    assert ("a start, no result" in page) == ("not judged" in page) == start
    if start:
        assert document["headlines"] == []
    else:
        first, _, third, _ = document["headlines"]
        assert first[0] == f"CIFAR-10: {preset('ettfs-cifar10').summary}"
        assert " % by spikes, " in first[1]
        assert first[2] == "paper: 90.56 %"
        assert " % by membranes, 1.0" in third[1]


def test_ten_of_many_epochs_are_listed_the_last_among_them():
    records = [
        {"epoch": e, "loss": 1.0, "validation_accuracy": 0.5, "seconds": 60.0} for e in range(1, 151)
    ]
    rows = cifar10._epochs_table({"window-cifar10": [{"records": records}]}, 1)["rows"]
    assert [row[1] for row in rows] == [str(e) for e in range(15, 151, 15)]


@pytest.mark.parametrize("name", ["aggressive-ttfs", "ettfs", "one-step", "spiking-gan"])
def test_no_other_experiment_takes_a_device(tmp_path, name):
    with pytest.raises(InputError, match=f"--device is for cifar10; {name} trains on the CPU"):
        run_experiment(
            name, out=tmp_path, data_dir=None, seeds=[0], digits=[], epochs=None, jobs=1, results=None,
            device="cuda",
        )  # fmt: skip
