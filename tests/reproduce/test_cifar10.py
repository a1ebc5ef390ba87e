"""``reproduce cifar10``: its recipes, and the whole of it on a handful of made images."""

import dataclasses
import json

import pytest

from firstspike.reproduce import cifar10
from firstspike.reproduce.plan import Plan
from firstspike.training.presets import preset

LAYOUTS = {
    "ettfs-cifar10": "4C3s2-A2-F8",
    "window-cifar10": "4C3s2-E2-F8",
    "onestep-cifar10": "4-P4-4",
    "onestep-lstm-cifar10": "L4-P4-L4",
}


def test_a_gpu_trains_the_presets_and_a_cpu_the_same_for_fewer_epochs():
    whole, few = cifar10.recipes("cuda"), cifar10.recipes("cpu")
    assert whole == {name: preset(name).config for name in LAYOUTS}
    for name, recipe in few.items():
        assert recipe.epochs < whole[name].epochs
        assert dataclasses.replace(recipe, epochs=whole[name].epochs) == whole[name]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_report_and_figures(monkeypatch, made_images, tmp_path, device):
    small = {
        name: dataclasses.replace(recipe, layout=LAYOUTS[name], epochs=2)
        for name, recipe in cifar10.recipes("cpu").items()
    }
    made_images(cifar10)
    monkeypatch.setattr(cifar10, "recipes", lambda device: small)
    # What a GPU's presets would be; there is none here.
    if device == "cuda":
        monkeypatch.setattr(
            cifar10, "preset", lambda name: dataclasses.replace(preset(name), config=small[name])
        )
        monkeypatch.setattr(
            cifar10,
            "provenance",
            lambda seeds, device: {"command": "x", "seeds": seeds, "machine": device, "versions": {}},
        )
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    plan = Plan(tmp_path / "out", None, (0, 1), (), None, 1, results, device)
    page = cifar10.reproduce(plan).read_text(encoding="utf-8")
    document = json.loads((results / "cifar10.json").read_text())
    accuracy, epochs = document["tables"]
    assert [row[0] for row in accuracy["rows"]] == [f"`{name}`" for name in LAYOUTS]
    for row, name in zip(accuracy["rows"], LAYOUTS, strict=True):
        # A network of one step decides by membranes alone.
        assert (row[2] == "-") == name.startswith("onestep")
        mean = sum(run["accuracy"] for run in document["runs"][name]) / 2
        assert f"{100 * mean:.2f} ±" in row[3 if name.startswith("onestep") else 2]
    assert [row[:2] for row in epochs["rows"]] == [[f"`{n}`", e] for n in LAYOUTS for e in "12"]
    assert str(tmp_path) not in json.dumps(document)
    assert (tmp_path / "out" / "pictures" / "curves.png").stat().st_size > 1000
    assert ("0.951" in page) == (device == "cuda")
    if device == "cpu":
        assert document["headlines"] == []
        assert accuracy["rows"][0][1] == "2 of 150"
        assert "the targets are not judged" in page
    else:
        assert [row[0] for row in document["headlines"]] == [f"CIFAR-10: `{name}`" for name in LAYOUTS]


def test_ten_of_many_epochs_are_listed_the_last_among_them():
    records = [
        {"epoch": e, "loss": 1.0, "validation_accuracy": 0.5, "seconds": 60.0} for e in range(1, 151)
    ]
    rows = cifar10._epochs_table({"window-cifar10": [{"epochs": records}]})["rows"]
    assert [row[1] for row in rows] == [str(e) for e in range(15, 151, 15)]
