"""An experiment's parts: columns and tables in writing, targets, and what is left out."""

import pytest
from builders import refused

from firstspike.experiments import (
    EXPERIMENTS,
    Column,
    Experiment,
    Measured,
    Run,
    Table,
    Target,
    find,
    headline,
)
from firstspike.experiments.spec import sentence
from firstspike.metrics.figures import describe
from firstspike.recipes import PRESETS
from firstspike.support import InputError

SPREAD = {"mean": 0.98456, "sd": 0.0012}


@pytest.mark.parametrize(
    ("column", "row", "written"),
    [
        (Column("accuracy"), {"accuracy": SPREAD}, "98.46 ± 0.12"),
        (Column("accuracy", digits=1), {"accuracy": {"mean": 0.98456, "sd": None}}, "98.5"),
        (Column("accuracy", factor=1, digits=4), {"accuracy": SPREAD}, "0.9846 ± 0.0012"),
        (Column("accuracy"), {"recall": SPREAD}, "-"),
        (Column("accuracy"), {"accuracy": None}, "-"),
        (Column("epochs"), {"epochs": "3 of 150"}, "3 of 150"),
        (Column("steps_to_decision"), {"steps_to_decision": 1}, "1"),
        (Column("energy_pj"), {"energy_pj": 2_000_000}, "2.00"),
        (Column("steps_to_decision", digits=2), {"steps_to_decision": 1}, "1.00"),
        (Column("steps_to_decision", signed=True), {"steps_to_decision": 1}, "+1"),
        (Column("change", digits=2, factor=100, signed=True), {"change": 0.0034}, "+0.34"),
        (Column("change", digits=2, factor=100, signed=True), {"change": -0.0034}, "-0.34"),
        # The paper's figure has the paper's digits.
        (
            Column("accuracy", paper=True),
            {"accuracy": SPREAD, "paper.accuracy": 0.967},
            "98.46 ± 0.12 (96.7)",
        ),
        (Column("accuracy", paper=True), {"accuracy": SPREAD}, "98.46 ± 0.12"),
        (Column("paper.accuracy", digits=2), {"paper.accuracy": 0.929}, "92.90"),
        (Column("paper.accuracy"), {"paper.accuracy": 0.929}, "92.9"),
    ],
)
def test_a_figure_in_writing(column, row, written):
    assert column.cell(row) == written


def test_a_column_is_called_as_its_figure_is_unless_it_says_otherwise():
    assert Column("accuracy").heading == "accuracy, %"
    assert Column("accuracy", "accuracy (spikes), %").heading == "accuracy (spikes), %"
    assert Column("my_own_figure").heading == "my own figure"


def test_a_table_in_writing():
    table = Table("All", {"a": {"recall": 0.5}, "b": {}}, [Column("recall")], "network", ["A note."])
    assert table.written() == {
        "caption": "All",
        "columns": ["network", "recall"],
        "rows": [["a", "0.500"], ["b", "-"]],
        "notes": ["A note."],
    }


def test_a_headline_says_the_papers_figures_in_the_same_words():
    columns = [Column("accuracy", "{} % by spikes"), Column("steps_to_decision", "{} steps")]
    row = {"accuracy": SPREAD, "steps_to_decision": {"mean": 15.0, "sd": None}, "paper.accuracy": 0.967}
    assert headline("mine", row, columns) == [
        "mine",
        "98.46 ± 0.12 % by spikes, 15.0 steps",
        "paper: 96.7 % by spikes",
    ]
    assert headline("mine", {"accuracy": SPREAD}, columns)[2] == "no published figure"
    assert sentence({}, columns) == ""


@pytest.mark.parametrize(
    ("figure", "mean", "bound", "met"),
    [
        ("accuracy", 0.98, 0.98, True),
        ("accuracy", 0.979, 0.98, False),
        ("spikes_per_hidden_neuron", 0.3, 0.3, True),
        ("spikes_per_hidden_neuron", 0.31, 0.3, False),
    ],
)
def test_a_target_is_met_from_its_figures_better_side(figure, mean, bound, met):
    assert Target("a", figure, {"mean": mean, "sd": 0.1}, bound).met is met


def test_a_figure_without_a_better_side_is_no_target():
    with refused(ValueError, "my_figure", "firstspike.metrics.figures"):
        _ = Target("mine", "my_figure", {"mean": 1.0, "sd": None}, 2.0).met


def test_rows_are_presets_with_their_papers_figures_or_variants_and_missing_ones_are_left_out():
    run = {"seed": 0, "digit": None, "accuracy": 0.99}
    measured = Measured({"ettfs-mnist": [run], "all parts": [run]})
    rows = measured.rows(["ettfs-mnist", "window-mnist", "all parts"])
    assert list(rows) == ["`ettfs-mnist`", "all parts"]
    assert rows["`ettfs-mnist`"]["paper.accuracy"] == PRESETS["ettfs-mnist"].paper["accuracy"]
    assert "paper.accuracy" not in rows["all parts"]
    assert "window-mnist" not in measured


def test_one_digit_of_a_row():
    runs = [{"seed": 0, "digit": digit, "recall": value} for digit, value in ((1, 0.2), (2, 0.4))]
    measured = Measured({"ann-gan": runs})
    assert measured.row("ann-gan", digit=2)["recall"]["mean"] == 0.4
    assert measured.row("ann-gan")["recall"]["mean"] == pytest.approx(0.3)


def test_every_target_of_a_preset_has_a_better_side():
    for entry in PRESETS.values():
        for figure, bound in entry.target.items():
            assert Target(entry.name, figure, {"mean": bound, "sd": None}, bound).met


def test_figures_in_words():
    assert describe({"accuracy": 0.9948, "steps_to_decision": 59.7}) == (
        "accuracy 99.48 %, steps to decision 59.7"
    )
    bounds = describe({"accuracy": 0.9945, "spikes_per_hidden_neuron": 1.0}, bounds=True)
    assert bounds == "accuracy >= 99.45 %, spikes per hidden neuron <= 1"


def test_experiments_are_found_by_name():
    for experiment in EXPERIMENTS:
        assert find(experiment.name) is experiment
    with refused(InputError, "'nothing'", "choose from", "one-step"):
        find("nothing")


def test_own_options_are_taken_by_the_experiment_that_has_them_and_by_no_other():
    few = find("spiking-gan").with_options(digits=[7, 3, 7])
    digits = {run.preset: run.digits for run in few.runs}
    assert digits["ann-gan"] == (7, 3)
    assert digits["spiking-gan-causal"] == (3,)
    assert digits["ann-gan-conditional"] is None
    assert find("cifar10").with_options(device="cuda").device == "cuda"
    for name, option in (("ettfs", "device"), ("cifar10", "digits")):
        with refused(InputError, name, f"--{option}", "leave it out"):
            find(name).with_options(**{option: "cuda"})


def made(*runs):
    return Experiment(name="mine", title="", split="", runs=runs, tables=lambda _: [])


def test_runs_of_one_row_or_folder_are_refused():
    base, other = "aggressive-ttfs-window", "fashion-mnist"
    with refused(ValueError, "mine", f"row {base}", "variant"):
        made(Run(base, dataset="digits"), Run(base, dataset=other))
    # Another row would lie in the same folder.
    with refused(ValueError, "mine", f"folder {base}-seed0", "variant"):
        made(Run(base, dataset="digits"), Run(base, dataset=other, row="clothes"))
    with refused(ValueError, "folder"):
        made(Run(base, variant="One, two"), Run(base, variant="one two"))
    with refused(ValueError, "ann-gan-digit3-seed0"):
        made(Run("ann-gan", digits=(3, 4)), Run("ann-gan", digits=(3,), row="three"))
    made(Run(base, dataset="digits"), Run(base, dataset=other, variant="clothes"))


def test_a_target_that_was_not_measured_is_no_target_met():
    name = "aggressive-ttfs-window"
    run = {"seed": 0, "digit": None, "accuracy": 0.99, "steps_to_decision": 20.0}
    with refused(ValueError, "'spikes_to_decision'", name, "not measured"):
        made(Run(name)).all_targets(Measured({name: [run]}))
    whole = Measured({name: [run | {"spikes_to_decision": 100.0}]})
    assert [target.met for target in made(Run(name)).all_targets(whole)] == [True] * 3
    # It is of all runs together, and the experiment's own.
    assert made(Run("spiking-gan-window")).all_targets(Measured({"spiking-gan-window": [run]})) == []
