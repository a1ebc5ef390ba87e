"""``reproduce aggressive-ttfs``: the classifiers, their accuracy and what a decision costs."""

from collections.abc import Iterator

import torch
from torch import Tensor

from firstspike.data import load
from firstspike.experiments.jobs import Run
from firstspike.experiments.pictures import ANIMATION_COLOURS, RASTER_COLOURS, decision_pictures
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
from firstspike.nn import Stack
from firstspike.plot import paper
from firstspike.training.run_folder import RunFolder

AGGRESSIVE, RELATIVE = "aggressive-ttfs-causal", "s4nn-causal"
# What each is called in the README.
LABELS = {
    "aggressive-ttfs-window": "classifier 784-400-10, window neurons",
    "aggressive-ttfs-window-1000": "the same, 784-1000-10",
    AGGRESSIVE: "classifier 784-400-10, causal neurons, aggressive loss",
    "aggressive-ttfs-causal-1000": "the same, 784-1000-10",
    RELATIVE: "classifier 784-400-10, causal neurons, S4NN's loss",
    "s4nn-causal-1000": "the same, 784-1000-10",
}


def _tables(measured: Measured) -> list[Table]:
    first = next(iter(measured.runs.values()))[0]
    constants = first["energy_constants_pj"]
    return [
        Table(
            "MNIST test set; in brackets the paper's figure",
            measured.rows(LABELS),
            [
                Column("accuracy", "accuracy (strict), %"),
                Column("accuracy_papers_rule"),
                Column("paper.accuracy_papers_rule", "paper, %", 1),
                Column("tie_rate"),
                Column("silent_rate"),
                Column("steps_to_decision", paper=True),
                Column("spikes_to_decision", paper=True),
                Column("energy_pj", "energy, nJ", 1, 1e-3),
            ],
            "preset",
            [
                f"Strict: {first['decision_rule']}. Papers' rule: {first['papers_rule']}. Steps count from "
                "the first input step; spikes are those of all layers up to the decision.",
                f"Energy: additions at {constants['add']} pJ (spikes x fan-out and membrane updates; 45 "
                "nm, Horowitz 2014), no memory traffic; the ANN of the same shape takes "
                f"{first['dense_energy_pj'] / 1e3:.0f} nJ at {constants['multiply_add']} pJ per "
                "multiply-add.",
                "Data: 55,000 training and 5,000 validation images of the official 60,000; the epoch is "
                "chosen by strict validation accuracy; each figure is of the 10,000 test images.",
            ],
        ),
        Table(
            "Saved by the aggressive loss over the relative one, causal 784-400-10",
            _saved(measured),
            [Column("share", "measured, %", 1, 100), Column("paper.share", "paper, %", 1, 100)],
        ),
    ]


def _saved(measured: Measured) -> dict[str, Row]:
    """What the aggressive loss saves, as a share of the relative loss's; nothing unless both are there."""
    if AGGRESSIVE not in measured or RELATIVE not in measured:
        return {}
    ours, theirs = measured.row(AGGRESSIVE), measured.row(RELATIVE)
    return {
        name.replace("_", " "): {
            "share": 1 - ours[name]["mean"] / theirs[name]["mean"],
            "paper.share": 1 - ours[f"paper.{name}"] / theirs[f"paper.{name}"],
        }
        for name in ("steps_to_decision", "spikes_to_decision")
    }


def _headlines(measured: Measured) -> Iterator[list[str]]:
    columns = [
        Column("accuracy", "{} % strict"),
        Column("accuracy_papers_rule", "{} % by the papers' rule"),
        Column("steps_to_decision", "{} steps"),
        Column("spikes_to_decision", "{} spikes"),
    ]
    for name, label in LABELS.items():
        if name in measured:
            yield headline(label, measured.row(name), columns)
    saved = _saved(measured)
    if not saved:
        return
    steps, spikes = saved.values()
    both = {"steps": steps["share"], "spikes": spikes["share"]}
    both |= {"paper.steps": steps["paper.share"], "paper.spikes": spikes["paper.share"]}
    shares = [Column("steps", "{} % of the steps", 1, 100), Column("spikes", "{} % of the spikes", 1, 100)]
    yield headline("saved by the aggressive loss over S4NN's, 784-400-10", both, shares)


def _pictures(finished: Finished) -> Iterator[Picture]:
    if AGGRESSIVE in finished.runs and RELATIVE in finished.runs:
        yield from _compared(finished)
    test = load("mnist", "test", finished.options.data_dir)
    for name in ("aggressive-ttfs-window", AGGRESSIVE):
        if name not in finished.runs:
            continue
        raster, animation = decision_pictures(finished.open(name), test)
        section = "A decision, step by step"
        caption = f"All spikes of the first test image, `{name}`, first seed. {RASTER_COLOURS}"
        yield Picture(section, f"raster-{name}.png", caption, raster)
        caption = f"The same decision as it is made, `{name}`. {ANIMATION_COLOURS}"
        yield Picture(section, f"decision-{name}.gif", caption, animation)


def _compared(finished: Finished) -> Iterator[Picture]:
    """Both losses, side by side."""
    losses = {"aggressive": AGGRESSIVE, "relative": RELATIVE}
    steps, spikes = (
        {
            label: torch.tensor([run[figure] for run in finished.measured.runs[name]]).mean(0)
            for label, name in losses.items()
        }
        for figure in ("steps_by_class", "spikes_by_class")
    )
    yield Picture(
        "Digit by digit",
        "figure6-digit-costs.png",
        "The paper's figure 6: mean steps and spikes to the decision for each digit, mean over seeds, both "
        "losses, causal 784-400-10.",
        paper.digit_costs(steps, spikes),
    )
    weights = {
        label: _input_weights(finished.open(name)).reshape(-1, 28, 28) for label, name in losses.items()
    }
    yield Picture(
        "What the hidden layer learned",
        "figure7-hidden-filters.png",
        "The paper's figure 7: input weights of hidden neurons.",
        paper.hidden_filters(weights),
    )


def _input_weights(run: RunFolder) -> Tensor:
    stack = run.load()
    assert isinstance(stack, Stack)
    return stack[0].weight.detach()


AGGRESSIVE_TTFS = Experiment(
    name="aggressive-ttfs",
    title="Classifiers: Aggressive TTFS and S4NN",
    subtitle="They decide at the first output spike",
    split="MNIST test, 10,000 images",
    runs=[Run(name) for name in LABELS],
    tables=_tables,
    headlines=_headlines,
    pictures=_pictures,
    curves={
        "validation accuracy": ["validation_accuracy", "validation_accuracy_papers_rule"],
        "steps to decision": ["steps_to_decision"],
        "spikes to decision": ["spikes_to_decision"],
    },
)
