"""``reproduce cifar10``: deep and one-step networks on photographs, as far as the machine carries."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from firstspike.plot import learning_curves, save_figure
from firstspike.recipes import preset
from firstspike.recipes.one_step import OneStepRecipe
from firstspike.reproduce.pictures import add_curves
from firstspike.reproduce.plan import Job, Plan, train_all
from firstspike.reproduce.report import Report
from firstspike.reproduce.results import facts, keep_results, provenance, quick_look, show, spread
from firstspike.support import InputError
from firstspike.training.evaluation import evaluate

# In %, as printed; the window preset is our own.
PAPER = {"ettfs-cifar10": 90.56, "onestep-cifar10": 93.07, "onestep-lstm-cifar10": 92.68}
# Not below what is printed, and for window networks the best of the single-spike networks yet (PTTFS).
TARGETS = {
    "ettfs-cifar10": 0.906,
    "window-cifar10": 0.951,
    "onestep-cifar10": 0.931,
    "onestep-lstm-cifar10": 0.927,
}
# What one core does in about two hours; the presets' epochs take a GPU.
CPU_EPOCHS = {"ettfs-cifar10": 3, "window-cifar10": 4, "onestep-cifar10": 6, "onestep-lstm-cifar10": 2}
# A fixed number, as the last digits of sums depend on it.
MEASURING_THREADS = 4


def jobs(name: str, device: str, seeds: Sequence[int]) -> list[Job]:
    """Return the runs of a preset; on the CPU with as few epochs as a core does in about two hours."""
    if device != "cpu":
        return [Job(name, seed) for seed in seeds]
    start = replace(preset(name).recipe, epochs=CPU_EPOCHS[name])
    return [Job(name, seed, variant="start", recipe=start) for seed in seeds]


def reproduce(plan: Plan) -> Path:
    """Train and measure everything; write pictures, figures and the report; return the report."""
    named = {name: jobs(name, plan.device, plan.seeds) for name in TARGETS}
    train_all(plan, [job for chosen in named.values() for job in chosen])

    torch.set_num_threads(MEASURING_THREADS)
    runs = {name: [_measured(plan, job) for job in chosen] for name, chosen in named.items()}
    start = plan.device == "cpu"
    document = {
        "title": "CIFAR-10: the first epochs, on a CPU" if start else "CIFAR-10",
        "provenance": provenance(plan.seeds, plan.device),
        "split": "test set, 10,000 images",
        "tables": [_accuracy_table(runs, start=start), _epochs_table(runs, plan.jobs)],
        # A few epochs of hundreds are no figure to be known by.
        "headlines": [] if start else [_headline(name, entries) for name, entries in runs.items()],
        "runs": runs,
    }
    # Apart, so that a start never takes the place of the whole.
    keep_results(plan.out, plan.results, "cifar10-start" if start else "cifar10", document)
    return _report(plan, document, named)


def _measured(plan: Plan, job: Job) -> dict[str, Any]:
    """The job's figures on the test set, and its way there on the validation split."""
    run = job.open(plan)
    records = run.load_state().records
    if not records:
        raise InputError(
            f"{run.path} holds no state, which its learning curve is read from; train it again"
        )
    figures = evaluate(run, plan.data_dir)
    del figures["run"]
    kept = ("epoch", "loss", "validation_accuracy", "seconds")
    return {**figures, "records": [{key: record[key] for key in kept} for record in records]}


def _by_spikes(name: str) -> bool:
    return not isinstance(preset(name).recipe, OneStepRecipe)


def _mean(entries: Sequence[Mapping[str, Any]], figure: str, digits: int, scale: float = 1.0) -> str:
    return show(spread([entry[figure] for entry in entries]), digits, scale)


def _spikes(name: str, entries: Sequence[Mapping[str, Any]], digits: int) -> str:
    return _mean(entries, "spikes_per_hidden_neuron" if _by_spikes(name) else "spikes_per_neuron", digits)


def _paper(name: str) -> str:
    return f"paper: {PAPER[name]:.2f} %" if name in PAPER else "no paper"


def _headline(name: str, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    by = "spikes" if _by_spikes(name) else "membranes"
    return [
        f"CIFAR-10: {preset(name).summary}",
        f"{_mean(entries, 'accuracy', 2, 100)} % by {by}, {_mean(entries, 'steps_to_decision', 1)} steps, "
        f"{_spikes(name, entries, 2)} spikes per neuron",
        _paper(name),
    ]


def _accuracy_table(runs: Mapping[str, list[dict[str, Any]]], *, start: bool) -> dict[str, Any]:
    rows: list[list[str]] = []
    rules: dict[str, list[str]] = {}
    for name, entries in runs.items():
        accuracy = _mean(entries, "accuracy", 2, 100)
        by_spikes = _by_spikes(name)
        rows.append(
            [
                f"`{name}`",
                f"{len(entries[0]['records'])} of {preset(name).recipe.epochs}",
                accuracy if by_spikes else "-",
                _mean(entries, "accuracy_membrane", 2, 100) if by_spikes else accuracy,
                _paper(name),
                _mean(entries, "steps_to_decision", 2),
                _spikes(name, entries, 3),
            ]
        )
        rules.setdefault(entries[0]["decision_rule"], []).append(f"`{name}`")
    notes = [
        *(f"{', '.join(names)}: {rule}." for rule, names in rules.items()),
        "The epoch is chosen on 5,000 validation images of the official training set; the test set is read "
        "once. The rate falls to 0 within the epochs that are trained.",
    ]
    if start:
        notes.append("As many epochs as a core does in about two hours: a start, no result of the method.")
    return {
        "caption": "CIFAR-10, accuracy on the test set",
        "columns": [
            "preset",
            "epochs",
            "spikes decide, %",
            "membranes decide, %",
            "beside it",
            "steps to decision",
            "spikes per neuron",
        ],
        "rows": rows,
        "notes": notes,
    }


def _epochs_table(runs: Mapping[str, list[dict[str, Any]]], side_by_side: int) -> dict[str, Any]:
    rows = []
    for name, entries in runs.items():
        records = entries[0]["records"]
        # About ten rows, the last epoch among them.
        stride = -(-len(records) // 10)
        rows += [
            [
                f"`{name}`",
                str(record["epoch"]),
                f"{record['loss']:.3f}",
                f"{100 * record['validation_accuracy']:.2f}",
                f"{record['seconds'] / 60:.1f}",
            ]
            for record in records[::-stride][::-1]
        ]
    return {
        "caption": "CIFAR-10, epoch by epoch on the validation split, first seed",
        "columns": ["preset", "epoch", "training loss", "decision right, %", "minutes"],
        "rows": rows,
        "notes": [
            "Each network has a loss of its own, which does not compare with the others'. Minutes on the "
            f"clock, up to {side_by_side} runs side by side."
        ],
    }


def _report(plan: Plan, document: dict[str, Any], named: dict[str, list[Job]]) -> Path:
    pictures = plan.out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    runs = document["runs"]
    report = Report("CIFAR-10", "Deep networks of at most one spike per neuron on photographs")
    report.facts(facts(document["provenance"]) | {"split": document["split"]})
    if plan.epochs is not None:
        report.text(quick_look(plan.epochs))
    elif plan.device == "cpu":
        report.text("Trained on a CPU for a few epochs: the targets are not judged.")
    else:
        measured = {
            name: spread([entry["accuracy"] for entry in entries]) for name, entries in runs.items()
        }
        report.accuracy_targets(TARGETS, measured)
    report.result_tables(document["tables"])

    report.heading("Learning curves")
    records = [
        {"epoch": record["epoch"], name: record["validation_accuracy"]}
        for name, entries in runs.items()
        for record in entries[0]["records"]
    ]
    figure = learning_curves(records, {"validation accuracy": [*runs]})
    report.figure(
        save_figure(figure, pictures / "curves.png"), f"Seed {plan.seeds[0]}, as each network decides."
    )
    add_curves(
        report, plan, named, {"validation accuracy": ["validation_accuracy"], "training loss": ["loss"]}
    )
    return report.write(plan.out / "report.html")
