"""What a call for some rows keeps of a result file: checked on the committed ones."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest

from firstspike.experiments import find
from firstspike.experiments.jobs import Options
from firstspike.experiments.run import _added
from firstspike.recipes.fields import to_json

RESULTS = Path(__file__).parents[2] / "docs" / "results"
OPTIONS = Options(Path(), seeds=(0,))


def published(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def call(document, runs, **others):
    """A document of these runs alone, measured by one more call."""
    origin = document["provenance"][-1]
    return {"provenance": [origin | {"command": "another"}], "runs": runs, **others}


def test_rows_that_an_option_leaves_out_are_kept():
    """A call for digit 4 knows of no causal GAN, which is for others."""
    earlier = published("spiking-gan")
    (old,) = [r for r in earlier["runs"]["spiking-gan-window"] if (r["digit"], r["seed"]) == (4, 0)]
    new = call(earlier, {"spiking-gan-window": [{**old, "frechet_distance": 1.0}]})
    found = _added(find("spiking-gan").with_options(digits=(4,)), OPTIONS, earlier, new)
    assert list(found["runs"]) == list(earlier["runs"])
    assert found["runs"]["spiking-gan-causal"] == earlier["runs"]["spiking-gan-causal"]
    before, after = (document["runs"]["spiking-gan-window"] for document in (earlier, found))
    changed = [(was, now) for was, now in zip(before, after, strict=True) if was != now]
    calls = len(earlier["provenance"])
    assert changed == [(old, {**old, "frechet_distance": 1.0, "call": calls})]
    assert found["provenance"][:calls] == earlier["provenance"]
    assert [origin["command"] for origin in found["provenance"][calls:]] == ["another"]


@pytest.mark.parametrize("figure", ["feature_sha256", "second_feature_sha256"])
def test_distances_of_another_feature_network_are_not_mixed_in(figure, capsys):
    earlier = published("spiking-gan")
    new = call(
        earlier, {"ann-gan-conditional": [{**earlier["runs"]["ann-gan-conditional"][0], figure: "0"}]}
    )
    found = _added(find("spiking-gan"), OPTIONS, earlier, new)
    assert {name: len(runs) for name, runs in found["runs"].items()} == {"ann-gan-conditional": 1}
    assert found["recipes"].keys() == {"ann-gan-conditional"}
    said = capsys.readouterr().err
    assert said.count("measured with another feature network") == len(earlier["runs"])


def test_a_row_of_another_recipe_goes_and_the_others_stay(capsys):
    earlier = published("ramp")
    changed = copy.deepcopy(earlier)
    changed["recipes"]["yin-yang-ramp"]["epochs"] += 1
    new = call(earlier, {"ramp-mnist": earlier["runs"]["ramp-mnist"][:1]})
    found = _added(find("ramp"), OPTIONS, changed, new)
    assert list(found["runs"]) == [name for name in earlier["runs"] if name != "yin-yang-ramp"]
    assert [run["call"] for run in found["runs"]["ramp-mnist"]] == [1, 0, 0]
    assert (
        capsys.readouterr().err
        == "yin-yang-ramp: earlier figures are left out, they are of another recipe\n"
    )


def test_a_row_that_is_no_more_is_named(capsys):
    earlier = published("ramp")
    earlier["runs"]["forgotten"] = earlier["runs"]["yin-yang-ramp"]
    found = _added(find("ramp"), OPTIONS, earlier, call(earlier, {}))
    assert list(found["runs"]) == list(found["recipes"]) == list(published("ramp")["runs"])
    assert (
        "forgotten: earlier figures are left out, the experiment has no such row" in capsys.readouterr().err
    )


def test_a_row_of_one_seed_keeps_one():
    """A comparison whose tables say one seed stays one, whatever the calls."""
    earlier, experiment = published("one-step"), find("one-step")
    name = next(run.name for run in experiment.runs if run.seeds == 1)
    (first,) = earlier["runs"][name]
    found = _added(experiment, OPTIONS, earlier, call(earlier, {name: [{**first, "seed": 1}]}))
    assert found["runs"][name] == [first]
    assert len(found["provenance"]) == 1
    whole = next(run.name for run in experiment.runs if run.seeds is None)
    run = earlier["runs"][whole][0]
    found = _added(experiment, OPTIONS, earlier, call(earlier, {whole: [{**run, "seed": 9}]}))
    assert [run["seed"] for run in found["runs"][whole]] == [0, 1, 2, 3, 4, 9]


def test_curves_of_other_seeds_are_kept():
    earlier = published("cifar10")
    name = "window-cifar10"
    one = {**earlier["runs"][name][0], "seed": 1}
    records = [{**record, "loss": 0.0} for record in earlier["epochs"][name]["0"]]
    new = call(earlier, {name: [one]}, epochs={name: {"1": records}})
    experiment = find("cifar10")
    found = _added(experiment, OPTIONS, earlier, new)
    assert found["epochs"][name] == {"0": earlier["epochs"][name]["0"], "1": records}
    assert found["epochs"].keys() == earlier["epochs"].keys()


def test_a_seed_that_lacks_digits_does_not_enter_the_mean():
    from firstspike.experiments.results import summarise

    runs = published("spiking-gan")["runs"]["spiking-gan-window"]
    partial = {**runs[0], "seed": 3, "frechet_distance": 1000.0}
    assert summarise([*runs, partial])["frechet_distance"] == summarise(runs)["frechet_distance"]


def test_a_named_row_needs_its_data():
    """Left out by a whole call where there are none; who names it wants it."""
    experiment = find("ettfs")
    (run,) = experiment.of_rows(["ettfs-n-mnist"])
    assert not run.optional
    assert run == replace(next(r for r in experiment.runs if r.name == "ettfs-n-mnist"), optional=False)


def test_a_files_recipes_are_those_of_its_rows():
    earlier = published("ramp")
    found = _added(find("ramp"), OPTIONS, earlier, call(earlier, {}))
    assert found["recipes"] == {run.name: to_json(run.recipe(OPTIONS)) for run in find("ramp").runs}
