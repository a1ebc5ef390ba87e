"""``reproduce ettfs``: deep networks with at most one spike per neuron, and what each part of them does."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from firstspike.data.events import EventSet, frames
from firstspike.data.n_mnist import load_n_mnist
from firstspike.decision import Membrane, Votes
from firstspike.experiments.jobs import Run
from firstspike.experiments.spec import Column, Experiment, Finished, Measured, Picture, Table, headline
from firstspike.metrics.stability import input_spread
from firstspike.models.raster.settings import RasterNeuron, RasterWeights
from firstspike.plot.deep import depth_curves, latency_shares, layer_bars
from firstspike.recipes import preset
from firstspike.recipes.base import SpikeClassifier
from firstspike.recipes.ettfs import EttfsRecipe

PRESETS = ("ettfs-mnist", "ettfs-fashion-mnist", "window-mnist", "window-fashion-mnist")
EVENT_PRESETS = ("ettfs-n-mnist", "window-n-mnist")
STARTS = {
    "ETTFS, last-step firing": ("ettfs", True),
    "ETTFS": ("ettfs", False),
    "Kaiming, last-step firing": ("kaiming", True),
    "Kaiming": ("kaiming", False),
}
BY_SPIKES = Column("accuracy", "accuracy (spikes), %")


def ablations() -> dict[str, EttfsRecipe]:
    """Return the ablation's recipes by what each changes, the whole first: a small network, few epochs."""
    whole = cast(EttfsRecipe, preset("ettfs-fashion-mnist").recipe)
    whole = replace(whole, layout="16C5s2-32C3-A2-64C3-F64", epochs=3, weights=RasterWeights())
    return {
        "all parts": whole,
        "Kaiming initialisation": replace(whole, weights=RasterWeights(init="kaiming")),
        "no normalisation": replace(whole, weights=RasterWeights(norm="none")),
        "no normalisation, Kaiming": replace(whole, weights=RasterWeights(norm="none", init="kaiming")),
        "batch normalisation": replace(whole, weights=RasterWeights(norm="batch")),
        "no affine": replace(whole, weights=RasterWeights(affine="none")),
        "affine per layer": replace(whole, weights=RasterWeights(affine="layer")),
        "shift at every step (paper)": replace(whole, weights=RasterWeights(shift="per_step")),
        "linear votes": replace(whole, decoder=Votes(weighting="linear", gamma=2)),
        "first spike decides": replace(
            whole, decoder=Votes(weighting="earliest", gamma=2, neurons_per_class=1)
        ),
        "membrane decides": replace(whole, decoder=Membrane(neurons_per_class=10)),
        "earliest-spike pooling": replace(whole, layout=whole.layout.replace("A2", "E2")),
        "last-step firing (paper)": replace(whole, neuron=replace(whole.neuron, fire_last=True)),
        "gradient at the firing step": replace(whole, neuron=replace(whole.neuron, gradient="firing_step")),
        "full BPTT": replace(whole, neuron=replace(whole.neuron, gradient="bptt")),
        # As high at the threshold as the whole's.
        "sigmoid surrogate": replace(whole, neuron=RasterNeuron(surrogate="sigmoid", width=2)),
        "triangular surrogate": replace(whole, neuron=RasterNeuron(surrogate="triangular", width=2)),
        "narrower surrogate": replace(whole, neuron=RasterNeuron(width=0.5)),
        "latency input": replace(whole, code="latency"),
    }


def linear_readout(train: EventSet, validation: EventSet, test: EventSet) -> float:
    """Return the test accuracy of logistic regression on each pixel's event counts, both polarities.

    Its regularisation is chosen on the validation split; counts enter as ``log(1 + n)``.
    """
    from sklearn.linear_model import LogisticRegression

    def counts(events: EventSet) -> np.ndarray:
        return np.log1p(frames(events.recordings, 1).flatten(1).numpy())

    fits = [
        LogisticRegression(C=strength, max_iter=10_000).fit(counts(train), train.labels.numpy())
        for strength in (1e-3, 1e-2, 1e-1, 1.0)
    ]
    best = max(fits, key=lambda fit: fit.score(counts(validation), validation.labels.numpy()))
    return float(best.score(counts(test), test.labels.numpy()))


def _others(finished: Finished) -> Mapping[str, Any]:
    spreads = {
        name: input_spread(init, fire_last=last)  # type: ignore[arg-type]
        for name, (init, last) in STARTS.items()
    }
    if not any(name in finished.measured for name in EVENT_PRESETS):
        return {"input_spread": spreads}
    train, validation, test = (
        load_n_mnist(split, finished.options.data_dir) for split in ("train", "validation", "test")
    )
    return {
        "input_spread": spreads,
        "recordings": {"training": len(train), "test": len(test)},
        "linear_readout_of_event_counts": linear_readout(train, validation, test),
    }


def _tables(measured: Measured) -> list[Table]:
    accuracy = _accuracy_table(measured)
    tables = [accuracy, _ablation_table(measured), _start_table(measured.others["input_spread"])]
    if any(name in measured for name in EVENT_PRESETS):
        tables.append(_event_table(measured))
    return tables


def _accuracy_table(measured: Measured) -> Table:
    rules: dict[str, str] = {}
    for kind, words in (("ettfs", "Causal networks"), ("window", "Window networks")):
        for name in (*PRESETS, *EVENT_PRESETS):
            if name.startswith(kind) and name in measured:
                rules[words] = measured.runs[name][0]["decision_rule"]
    return Table(
        "Accuracy on the test sets, and what a decision costs",
        measured.rows((*PRESETS, *EVENT_PRESETS)),
        [
            BY_SPIKES,
            Column("paper.accuracy", "paper, %", 2),
            Column("accuracy_membrane"),
            Column("tie_rate"),
            Column("steps_to_decision", digits=2),
            Column("spikes_per_hidden_neuron"),
            Column("energy_pj"),
            Column("dense_energy_pj"),
        ],
        "preset",
        [
            f"{' '.join(f'{words}: {rule}.' for words, rule in rules.items())} Steps "
            "count from the first input step; a causal decision is made once no other class can catch up. "
            "A membrane read-out is no spike decision and stands apart.",
            "Energy: additions at 0.9 pJ and multiply-adds at 4.6 pJ (45 nm, Horowitz 2014), no memory "
            "traffic. Networks whose first layer receives a current do that layer in multiply-adds.",
            "The epoch is chosen on 5,000 validation images of the official training set (N-MNIST: 15 % of "
            "the training recordings); the test set is read once.",
        ],
    )


def _ablation_table(measured: Measured) -> Table:
    recipes = ablations()
    rows = measured.rows(recipes)
    whole = next(iter(recipes))
    for row in rows.values() if whole in rows else ():
        row["difference"] = row["accuracy"]["mean"] - rows[whole]["accuracy"]["mean"]
    return Table(
        f"Ablation on Fashion-MNIST: {recipes[whole].layout}, {recipes[whole].epochs} epochs, one change "
        "each",
        rows,
        [
            BY_SPIKES,
            Column("difference", f"against {whole}", 2, 100, signed=True),
            Column("accuracy_membrane"),
            Column("tie_rate", digits=1),
            Column("steps_to_decision", digits=2),
            Column("spikes_per_hidden_neuron"),
        ],
        "change",
        ["A small network trained shortly: for comparing the parts, not for a headline."],
    )


def _start_table(spreads: Mapping[str, list[float]]) -> Table:
    rows = {name: {f"layer {k}": sd for k, sd in enumerate(sds, 1)} for name, sds in spreads.items()}
    return Table(
        "Standard deviation of the input per step, 8 layers of 512, T = 8, freshly drawn",
        rows,
        [Column(layer) for layer in next(iter(rows.values()))],
        "start",
    )


def _event_table(measured: Measured) -> Table:
    recordings = measured.others["recordings"]
    linear = {"accuracy": measured.others["linear_readout_of_event_counts"]}
    return Table(
        f"N-MNIST, {recordings['training']} training recordings, {recordings['test']} test recordings",
        {**measured.rows(EVENT_PRESETS), "logistic regression on event counts": linear},
        [Column("accuracy", digits=1)],
        "network",
        ["The subset of a hundred test recordings shows that the path works, and no more."],
    )


def _headlines(measured: Measured) -> Iterator[list[str]]:
    columns = [
        Column("accuracy", "{} % by spikes"),
        Column("steps_to_decision", "{} steps"),
        Column("spikes_per_hidden_neuron", "{} spikes per neuron", 2),
    ]
    for dataset, data in (("mnist", "MNIST"), ("fashion-mnist", "Fashion-MNIST")):
        for kind, what in (("ettfs", "deep causal network"), ("window", "deep window network")):
            if f"{kind}-{dataset}" not in measured:
                continue
            recipe = cast(SpikeClassifier, preset(f"{kind}-{dataset}").recipe)
            row = measured.row(f"{kind}-{dataset}")
            yield headline(f"{data}: {what}, T = {recipe.steps}", row, columns)


def _pictures(finished: Finished) -> Iterator[Picture]:
    measured = finished.measured
    yield Picture(
        "Initial state over depth",
        "stability.png",
        "Freshly drawn networks: the spread of the input from layer to layer.",
        depth_curves(measured.others["input_spread"], quantity="sd of the input per step"),
    )
    shares = {
        name: measured.runs[name][0]["steps_share"]
        for name in (*PRESETS, *EVENT_PRESETS)
        if name in measured
    }
    for kind, file, caption in (
        ("ettfs", "latency-causal.png", "Share of test images whose decision can no longer change."),
        ("window", "latency-window.png", "The same for window networks: each layer adds its window."),
    ):
        of_kind = {name: share for name, share in shares.items() if name.startswith(kind)}
        if of_kind:
            yield Picture("When decisions are final", file, caption, latency_shares(of_kind))
    bars = {
        name: measured.runs[name][0]["spikes_per_neuron_by_layer"] for name in PRESETS if name in measured
    }
    if not bars:
        return
    yield Picture(
        "Spikes per neuron",
        "spikes.png",
        "Mean spikes of a neuron over the whole window, layer by layer.",
        layer_bars(bars, quantity="spikes per neuron"),
    )


ETTFS = Experiment(
    name="ettfs",
    title="Deep networks: ETTFS and window neurons",
    subtitle="At most one spike per neuron",
    split="test sets: MNIST and Fashion-MNIST 10,000 images each, the N-MNIST recordings that there are",
    runs=[
        *(Run(name) for name in PRESETS),
        *(Run(name, optional=True) for name in EVENT_PRESETS),
        *(Run("ettfs-fashion-mnist", recipe, variant=name) for name, recipe in ablations().items()),
    ],
    tables=_tables,
    others=_others,
    headlines=_headlines,
    pictures=_pictures,
    curves={
        "validation accuracy": ["validation_accuracy_spikes", "validation_accuracy_membrane"],
        "loss": ["loss"],
        "spikes per hidden neuron": ["spikes_per_hidden_neuron"],
    },
)
