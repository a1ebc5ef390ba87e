"""``reproduce cifar10``: deep and one-step networks on natural images, whole on two cores."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

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
from firstspike.plot.deep import deadline_curves
from firstspike.recipes import preset
from firstspike.recipes.ann import AnnRecipe
from firstspike.recipes.one_step import OneStepRecipe
from firstspike.recipes.window import WindowRecipe

# What a run takes on one core with bfloat16 units, in minutes, from the time of its first epochs.
MINUTES = {
    "window-cifar10": 84.0,
    "ettfs-cifar10": 85.0,
    "onestep-cifar10": 45.0,
    "ann-cifar10": 75.0,
    "ann-quantised-cifar10": 84.0,
}
LARGE = (
    "window-cifar10-large",
    "ettfs-cifar10-large",
    "onestep-cifar10-large",
    "onestep-lstm-cifar10-large",
)
CONTROL = "one step without carry"
# The curve against the penalty is of a network of less than half the operations and a third of the epochs.
PENALTIES = (0.0, 0.25, 0.5, 1.0)
CURVE_LAYOUT = "W2-64C3-E2-64C3-256C3-E2-256C3-256C3-E2-256C3-E3"
CURVE_EPOCHS, CURVE_MINUTES = 8, 9.0


def cifar10(*, device: str = "cpu") -> Experiment:
    """Return the experiment: on a GPU the large presets too."""
    small = [
        *(Run(name, minutes=minutes) for name, minutes in MINUTES.items()),
        Run("onestep-cifar10", control(), variant=CONTROL, minutes=MINUTES["onestep-cifar10"]),
        *(
            Run("window-cifar10", recipe, variant=name, seeds=1, minutes=CURVE_MINUTES)
            for name, recipe in penalised().items()
        ),
    ]
    return Experiment(
        name="cifar10",
        # Apart, so that neither takes the place of the other.
        file="cifar10" if device == "cpu" else "cifar10-gpu",
        title="CIFAR-10" if device == "cpu" else "CIFAR-10 on a GPU",
        subtitle="Networks of at most one spike per neuron on natural images",
        split="test set, 10,000 images",
        runs=small if device == "cpu" else [*small, *map(Run, LARGE)],
        tables=_tables,
        others=_others,
        headlines=_headlines,
        pictures=_pictures,
        curves={"validation accuracy": ["validation_accuracy"], "training loss": ["loss"]},
        device=device,
        configure=cifar10,
    )


def control() -> OneStepRecipe:
    """Return the one-step preset with nothing carried from patch to patch or from layer to layer."""
    recipe = cast(OneStepRecipe, preset("onestep-cifar10").recipe)
    return replace(recipe, neuron=replace(recipe.neuron, carried="none"))


def penalised() -> dict[str, WindowRecipe]:
    """Return a smaller window network under spike penalties, by their names."""
    recipe = cast(WindowRecipe, preset("window-cifar10").recipe)
    small = replace(recipe, layout=CURVE_LAYOUT, epochs=CURVE_EPOCHS)
    return {f"spike penalty {p:g}": replace(small, spike_penalty=p) for p in PENALTIES}


def _others(finished: Finished) -> Mapping[str, Any]:
    """The validation split, epoch by epoch, by row and seed."""
    kept = ("epoch", "loss", "validation_accuracy", "seconds")
    return {
        "epochs": {
            name: {
                str(job.seed): [{key: record[key] for key in kept} for record in epochs_of(run)]
                for job, run in runs
            }
            for name, runs in finished.runs.items()
        }
    }


def _epochs(measured: Measured, name: str) -> list[Mapping[str, Any]]:
    """A row's epochs with its first seed."""
    found: list[Mapping[str, Any]] = measured.others["epochs"][name][str(measured.runs[name][0]["seed"])]
    return found


def _row(measured: Measured, name: str) -> dict[str, Any]:
    """Figures of a row under one name each, whether spikes or membranes decide."""
    row = measured.row(name)
    if "tie_rate" not in row:
        return row | {"by_membrane": row["accuracy"], "spikes": row.get("spikes_per_neuron")}
    return row | {
        "by_spikes": row["accuracy"],
        "by_membrane": row["accuracy_membrane"],
        "spikes": row["spikes_per_hidden_neuron"],
    }


def _label(name: str) -> str:
    return name if name == CONTROL else f"`{name}`"


def _tables(measured: Measured) -> list[Table]:
    penalties = [name for name in penalised() if name in measured]
    rows = [name for name in measured.runs if name not in penalties]
    rules: dict[str, list[str]] = {}
    for name in rows:
        rules.setdefault(measured.runs[name][0]["decision_rule"], []).append(_label(name))
    accuracy = Table(
        "CIFAR-10, accuracy on the test set, and what a decision costs",
        {_label(name): _row(measured, name) for name in rows},
        [
            Column("by_spikes", "accuracy (spikes), %", 2, 100),
            Column("by_membrane", "accuracy (membrane read-out), %", 2, 100),
            Column("paper.accuracy", "paper, %", 2),
            Column("tie_rate"),
            Column("steps_to_decision", digits=1),
            Column("spikes", "spikes per neuron", 3),
            Column("synops"),
            Column("energy_pj"),
            Column("training_seconds", "training, minutes", 0, 1 / 60),
        ],
        "preset",
        [
            *(f"{', '.join(names)}: {rule}." for rule, names in rules.items()),
            "One view of each image. The epoch is chosen on 5,000 validation images of the official "
            "training set; the test set is read once. The papers' networks are larger and trained for 150 "
            "to 300 epochs.",
            "Energy: additions at 0.9 pJ and multiply-adds at 4.6 pJ (45 nm, Horowitz 2014), no memory "
            "traffic. The ANNs have the window network's layers and its recipe, one with plain ReLUs, one "
            "with its neurons' clip and levels.",
        ],
    )
    tables = [accuracy]
    if penalties:
        tables.append(
            Table(
                "CIFAR-10, accuracy against the spike penalty",
                {name: measured.row(name) for name in penalties},
                [
                    Column("accuracy", "accuracy (spikes), %"),
                    Column("spikes_per_hidden_neuron"),
                    Column("synops"),
                ],
                "penalty",
                [
                    f"One seed of each; `window-cifar10` with the layout `{CURVE_LAYOUT}` and "
                    f"{CURVE_EPOCHS} epochs."
                ],
            )
        )
    return [*tables, _epochs_table(measured)]


def _epochs_table(measured: Measured) -> Table:
    rows: dict[str, Row] = {}
    for name in measured.runs:
        if name not in MINUTES and name not in LARGE:
            continue
        records = _epochs(measured, name)
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
        if name not in MINUTES and name not in LARGE:
            continue
        recipe = preset(name).recipe
        if isinstance(recipe, AnnRecipe):
            continue
        by = "membrane" if isinstance(recipe, OneStepRecipe) else "spikes"
        columns = [
            Column("accuracy", f"{{}} % by {by}"),
            Column("steps_to_decision", "{} steps"),
            Column("spikes", "{} spikes per neuron", 2),
        ]
        yield headline(f"CIFAR-10: {preset(name).summary}", _row(measured, name), columns)


def _pictures(finished: Finished) -> Iterator[Picture]:
    measured = finished.measured
    names = [name for name in measured.runs if name in MINUTES or name in LARGE]
    if not names:
        return
    reached: list[dict[str, float]] = []
    for name in names:
        seconds = 0.0
        for record in _epochs(measured, name):
            seconds += record["seconds"]
            reached.append({"minutes": seconds / 60, name: record["validation_accuracy"]})
    figure = learning_curves(reached, {"validation accuracy": names}, against="minutes")
    yield Picture(
        "Learning curves",
        "curves.png",
        "Against the minutes of training, first seeds, as each network decides.",
        figure,
    )
    curves = {
        name: (measured.runs[name][0]["accuracy_by_step"], measured.runs[name][0]["worst_accuracy_by_step"])
        for name in names
        if "accuracy_by_step" in measured.runs[name][0]
    }
    if curves:
        yield Picture(
            "Accuracy under a deadline",
            "deadline.png",
            "What has no decision by then is wrong. Test images, first seeds.",
            deadline_curves(curves),
        )


CIFAR10 = cifar10()
