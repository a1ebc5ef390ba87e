"""``reproduce cifar10``: deep and one-step networks on natural images, as far as the machine carries."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from firstspike.experiments.jobs import Run, epochs_of
from firstspike.experiments.spec import (
    Column,
    Experiment,
    Finished,
    Measured,
    Picture,
    Row,
    Table,
    headline,
)
from firstspike.plot import learning_curves
from firstspike.recipes import preset
from firstspike.recipes.one_step import OneStepRecipe

# What one core does in about two hours; the presets' epochs take a GPU.
CPU_EPOCHS = {"ettfs-cifar10": 3, "window-cifar10": 4, "onestep-cifar10": 6, "onestep-lstm-cifar10": 2}


def cifar10(*, device: str = "cpu") -> Experiment:
    """Return the experiment: on a GPU the presets, on a CPU their first epochs."""
    start = device == "cpu"
    return Experiment(
        name="cifar10",
        # Apart, so that a start never takes the place of the whole.
        file="cifar10-start" if start else "cifar10",
        title="CIFAR-10: the first epochs, on a CPU" if start else "CIFAR-10",
        subtitle="Deep networks of at most one spike per neuron on natural images",
        split="test set, 10,000 images",
        runs=[_start(name) if start else Run(name) for name in CPU_EPOCHS],
        tables=_tables,
        others=_others,
        # A few of hundreds of epochs are too few for a headline, and for a verdict.
        headlines=(lambda _: ()) if start else _headlines,
        judged=not start,
        pictures=_pictures,
        curves={"validation accuracy": ["validation_accuracy"], "training loss": ["loss"]},
        device=device,
        measuring_threads=4,
        configure=cifar10,
    )


def _start(name: str) -> Run:
    return Run(name, replace(preset(name).recipe, epochs=CPU_EPOCHS[name]), variant="start", row=name)


def _others(finished: Finished) -> Mapping[str, Any]:
    """The validation split, epoch by epoch, of the first seeds."""
    kept = ("epoch", "loss", "validation_accuracy", "seconds")
    return {
        "epochs": {
            name: [{key: record[key] for key in kept} for record in epochs_of(finished.open(name))]
            for name in finished.runs
        }
    }


def _row(measured: Measured, name: str) -> dict[str, Any]:
    """Figures of a row under one name each, whether spikes or membranes decide."""
    row = measured.row(name)
    if isinstance(preset(name).recipe, OneStepRecipe):
        return row | {"by_membrane": row["accuracy"], "spikes": row["spikes_per_neuron"]}
    return row | {
        "by_spikes": row["accuracy"],
        "by_membrane": row["accuracy_membrane"],
        "spikes": row["spikes_per_hidden_neuron"],
    }


def _tables(measured: Measured) -> list[Table]:
    epochs = measured.others["epochs"]
    wanted = {name: preset(name).recipe.epochs for name in measured.runs}
    rules: dict[str, list[str]] = {}
    for name, runs in measured.runs.items():
        rules.setdefault(runs[0]["decision_rule"], []).append(f"`{name}`")
    notes = [
        *(f"{', '.join(names)}: {rule}." for rule, names in rules.items()),
        "The epoch is chosen on 5,000 validation images of the official training set; the test set is read "
        "once. The rate falls to 0 within the epochs that are trained.",
    ]
    if any(len(epochs[name]) < wanted[name] for name in wanted):
        notes.append("As many epochs as a core does in about two hours: a start, no result of the method.")
    accuracy = Table(
        "CIFAR-10, accuracy on the test set",
        {
            f"`{name}`": _row(measured, name) | {"epochs": f"{len(epochs[name])} of {wanted[name]}"}
            for name in measured.runs
        },
        [
            Column("epochs"),
            Column("by_spikes", "accuracy (spikes), %", 2, 100),
            Column("by_membrane", "accuracy (membrane read-out), %", 2, 100),
            Column("paper.accuracy", "paper, %", 2),
            Column("steps_to_decision", digits=2),
            Column("spikes", "spikes per neuron", 3),
        ],
        "preset",
        notes,
    )
    return [accuracy, _epochs_table(epochs)]


def _epochs_table(epochs: Mapping[str, list[Mapping[str, Any]]]) -> Table:
    rows: dict[str, Row] = {}
    for name, records in epochs.items():
        # About ten rows, the last epoch among them.
        stride = -(-len(records) // 10)
        for record in records[::-stride][::-1]:
            rows[f"`{name}`, epoch {record['epoch']}"] = record
    return Table(
        "CIFAR-10, epoch by epoch on the validation split, first seed",
        rows,
        [
            Column("loss", "training loss", 3),
            Column("validation_accuracy", "accuracy of its decision, %", 2, 100),
            Column("seconds", "minutes", 1, 1 / 60),
        ],
        "preset and epoch",
        [
            "Each network has a loss of its own, which does not compare with the others'. Minutes on the "
            "clock, with as many runs side by side as the command says."
        ],
    )


def _headlines(measured: Measured) -> Iterator[list[str]]:
    for name in measured.runs:
        by = "membrane" if isinstance(preset(name).recipe, OneStepRecipe) else "spikes"
        columns = [
            Column("accuracy", f"{{}} % by {by}"),
            Column("steps_to_decision", "{} steps"),
            Column("spikes", "{} spikes per neuron", 2),
        ]
        yield headline(f"CIFAR-10: {preset(name).summary}", _row(measured, name), columns)


def _pictures(finished: Finished) -> Iterator[Picture]:
    epochs = finished.measured.others["epochs"]
    records = [
        {"epoch": record["epoch"], name: record["validation_accuracy"]}
        for name, curve in epochs.items()
        for record in curve
    ]
    figure = learning_curves(records, {"validation accuracy": [*epochs]})
    yield Picture("Learning curves", "curves.png", "First seeds, as each network decides.", figure)


CIFAR10 = cifar10()
