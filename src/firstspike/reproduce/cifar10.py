"""``reproduce cifar10``: deep and one-step networks on photographs, as far as the machine carries."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from firstspike.plot import learning_curves, save_figure
from firstspike.reproduce.evaluation import evaluate
from firstspike.reproduce.plan import Job, Plan, train_all
from firstspike.reproduce.report import Cell, Column, Report
from firstspike.reproduce.results import facts, keep_results, provenance, quick_look, show, spread
from firstspike.training.config import Config
from firstspike.training.presets import preset

# In %, as printed; of window networks no paper reports this data set.
PAPER = {"ettfs-cifar10": 90.56, "onestep-cifar10": 93.07, "onestep-lstm-cifar10": 92.68}
TARGETS = {
    "ettfs-cifar10": 0.906,
    "window-cifar10": 0.951,
    "onestep-cifar10": 0.931,
    "onestep-lstm-cifar10": 0.927,
}
# What one core does in about two hours; the presets' epochs take a GPU.
CPU_EPOCHS = {"ettfs-cifar10": 3, "window-cifar10": 4, "onestep-cifar10": 6, "onestep-lstm-cifar10": 2}


def recipes(device: str) -> dict[str, Config]:
    """Return each preset's recipe; on the CPU with as few epochs as a core does in about two hours."""
    whole = {name: preset(name).config for name in TARGETS}
    if device != "cpu":
        return whole
    return {name: replace(config, epochs=CPU_EPOCHS[name]) for name, config in whole.items()}


def reproduce(plan: Plan) -> Path:
    """Train and measure everything; write the picture, figures and the report; return the report."""
    named = {
        name: [Job(name, seed, recipe=recipe) for seed in plan.seeds]
        for name, recipe in recipes(plan.device).items()
    }
    train_all(plan, [job for jobs in named.values() for job in jobs])

    runs = {name: [_measured(plan, job) for job in jobs] for name, jobs in named.items()}
    whole = {name: preset(name).config.epochs for name in named}
    document = {
        "title": "CIFAR-10",
        "provenance": provenance(plan.seeds, plan.device),
        "split": "test set, 10,000 images",
        "tables": [_accuracy_table(runs, whole), _epochs_table(runs)],
        # A few epochs of hundreds are no figure to be known by.
        "headlines": [
            [f"CIFAR-10: `{name}`", f"{_percent(runs[name], 'accuracy')} %", f"paper: {_paper(name)}"]
            for name in named
            if all(len(run["epochs"]) == whole[name] for run in runs[name])
        ],
        "runs": runs,
    }
    keep_results(plan.out, plan.results, "cifar10", document)
    return _report(plan, document)


def _measured(plan: Plan, job: Job) -> dict[str, Any]:
    """The job's figures on the test set, and its way there on the validation split."""
    run = job.open(plan)
    figures = evaluate(run, plan.data_dir)
    del figures["run"]
    return {**figures, "epochs": run.load_state().records}


def _percent(entries: list[dict[str, Any]], figure: str) -> str:
    return show(spread([entry[figure] for entry in entries]), 2, 100) if figure in entries[0] else "-"


def _paper(name: str) -> str:
    return f"{PAPER[name]:.2f} %" if name in PAPER else "no figure"


def _accuracy_table(runs: dict[str, list[dict[str, Any]]], whole: dict[str, int]) -> dict[str, Any]:
    rows = []
    for name, entries in runs.items():
        spikes_decide = "accuracy_membrane" in entries[0]
        accuracy = _percent(entries, "accuracy")
        per_neuron = "spikes_per_hidden_neuron" if spikes_decide else "spikes_per_neuron"
        rows.append(
            [
                f"`{name}`",
                f"{len(entries[0]['epochs'])} of {whole[name]}",
                accuracy if spikes_decide else "-",
                _percent(entries, "accuracy_membrane") if spikes_decide else accuracy,
                _paper(name),
                show(spread([entry["steps_to_decision"] for entry in entries]), 2),
                show(spread([entry[per_neuron] for entry in entries]), 3),
            ]
        )
    return {
        "caption": "Accuracy on the test set",
        "columns": [
            "preset",
            "epochs",
            "spikes decide, %",
            "membranes decide, %",
            "paper",
            "steps to decision",
            "spikes per neuron",
        ],
        "rows": rows,
        "notes": [
            *dict.fromkeys(f"`{name}`: {entries[0]['decision_rule']}." for name, entries in runs.items()),
            "The epoch is chosen on 5,000 validation images of the official training set; the test set is "
            "read once. The rate falls to 0 within the epochs that are trained. Without a GPU those are as "
            "many as a core does in about two hours: a start, no result of the method.",
        ],
    }


def _epochs_table(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    rows = []
    for name, entries in runs.items():
        records = entries[0]["epochs"]
        # About ten rows, the last epoch among them.
        stride = -(-len(records) // 10)
        rows += [
            [
                f"`{name}`",
                str(record["epoch"]),
                f"{record['loss']:.3f}",
                f"{100 * record['validation_accuracy']:.2f}",
                f"{record['seconds'] / 60:.0f}",
            ]
            for record in records[::-stride][::-1]
        ]
    return {
        "caption": "Epoch by epoch, on the validation split, first seed",
        "columns": ["preset", "epoch", "training loss", "decision right, %", "minutes"],
        "rows": rows,
        "notes": ["Minutes of a machine that trained the others at the same time."],
    }


def _report(plan: Plan, document: dict[str, Any]) -> Path:
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
        report.heading("Targets")
        rows = []
        for name, target in TARGETS.items():
            accuracy = spread([entry["accuracy"] for entry in runs[name]])
            met = accuracy["mean"] >= target
            rows.append([name, f">= {target:g}", Cell(show(accuracy, 4), "met" if met else "missed")])
        report.table(["preset", Column("target", "target"), Column("accuracy", "measured")], rows)
    report.result_tables(document["tables"])

    report.heading("Learning curves")
    records = [
        {"epoch": record["epoch"], name: record["validation_accuracy"], f"{name}, loss": record["loss"]}
        for name, entries in runs.items()
        for record in entries[0]["epochs"]
    ]
    panels = {"validation accuracy": [*runs], "training loss": [f"{name}, loss" for name in runs]}
    report.figure(
        save_figure(learning_curves(records, panels), pictures / "curves.png"),
        f"Seed {plan.seeds[0]}, as each network decides.",
    )
    return report.write(plan.out / "report.html")
