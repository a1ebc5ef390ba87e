"""``reproduce one-step``: its recipes, and the whole of it on a handful of made images."""

import dataclasses
import json

import pytest

from firstspike.experiments import Run, one_step, run_experiment
from firstspike.models.patches.network import OneStepNetwork


def test_compared_recipes_differ_in_the_neuron_only():
    first, *others = one_step.comparison().values()
    for recipe in others:
        assert recipe.neuron != first.neuron
        assert dataclasses.replace(recipe, neuron=first.neuron) == first


def test_every_ablation_builds_and_changes_the_printed_rule():
    printed = one_step.comparison()[one_step.PRINTED]
    assert len(one_step.ablations()) == 14
    assert len(set(one_step.ablations().values())) == len(one_step.ablations())
    for name, recipe in one_step.ablations().items():
        assert dataclasses.replace(recipe, neuron=printed.neuron, epochs=printed.epochs) == printed, name
        OneStepNetwork(recipe.layout, (1, 28, 28), 10, recipe.neuron, head_size=recipe.head_size)


@pytest.fixture
def quick(monkeypatch, made_images):
    """Few and small runs, trained here."""

    def small(recipes):
        return {
            name: dataclasses.replace(recipe, layout="4C3-4C3-4G-4C3", head_size=2, epochs=1)
            for name, recipe in list(recipes.items())[:3]
        }

    compared, tried = small(one_step.comparison()), small(one_step.ablations())
    monkeypatch.setattr(one_step, "comparison", lambda: compared)
    monkeypatch.setattr(one_step, "ablations", lambda: tried)
    made_images(one_step)
    base = compared[one_step.CONTROL]
    return dataclasses.replace(
        one_step.ONE_STEP,
        runs=[
            *(Run(name, base, seeds=3) for name in one_step.PRESETS),
            *(Run(one_step.BASE, recipe, variant=name) for name, recipe in compared.items()),
            *(Run(one_step.BASE, recipe, variant=name, seeds=1) for name, recipe in tried.items()),
        ],
    )


def test_report_and_figures(quick, tmp_path):
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    ettfs = {"steps_to_decision": 2.0, "synops": 1e6, "energy_pj": 1e6, "dense_energy_pj": 4e6}
    one = {key: {"mean": value, "sd": None} for key, value in ettfs.items()}
    other = {
        "title": "Deep",
        "provenance": [
            {
                "command": "firstspike reproduce ettfs",
                "seeds": [0],
                "machine": "x",
                "versions": {},
                "date": "2026-01-01",
            }
        ],
        "split": "test",
        "tables": [],
        "headlines": [["a", "b", "c"]],
        "summary": {"ettfs-fashion-mnist": one},
        "runs": {},
    }
    (results / "ettfs.json").write_text(json.dumps(other))
    report = run_experiment(quick, out=tmp_path / "out", seeds=(0, 1), results=results)
    page = report.read_text(encoding="utf-8")
    document = json.loads((results / "one-step.json").read_text())
    assert document["runs"][one_step.CONTROL][1]["seed"] == 1
    tables = {table["caption"].split(",")[0]: table for table in document["tables"]}
    # The single-spike network stands beside with its own figures.
    energy = next(t for caption, t in tables.items() if caption.startswith("Operations"))
    assert ["`ettfs-fashion-mnist`", "2.0", "1.00", "-", "1.00", "4.00", "-"] in energy["rows"]
    assert "no spike decision" in json.dumps(document)
    integral = next(t for caption, t in tables.items() if caption.startswith("Over-activation"))
    assert integral["rows"][0][1:] == integral["rows"][1][1:]
    for name in ("spikes", "features", "curves-onestep-mnist"):
        assert (tmp_path / "out" / "pictures" / f"{name}.png").stat().st_size > 1000
    assert "What the layers see" in page
