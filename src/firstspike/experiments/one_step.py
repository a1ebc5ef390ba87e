"""``reproduce one-step``: networks that decide in one time step, and whether the carried membrane helps."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

from firstspike.data import load
from firstspike.experiments.jobs import Run
from firstspike.experiments.results import read_results
from firstspike.experiments.spec import Column, Experiment, Finished, Measured, Picture, Table, headline
from firstspike.metrics.cost import ADD_PJ, MULTIPLY_ADD_PJ
from firstspike.metrics.operations import FUNCTION_PJ, MULTIPLY_PJ
from firstspike.metrics.report import ONE_STEP_RULE
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.settings import over_activation
from firstspike.plot import sample_comparison
from firstspike.plot.deep import depth_curves
from firstspike.recipes import preset
from firstspike.recipes.base import maps
from firstspike.recipes.one_step import OneStepRecipe

PRESETS = {"onestep-mnist": "MNIST", "onestep-fashion-mnist": "Fashion-MNIST"}
BASE = "onestep-fashion-mnist"
# Section 4 of the paper: S(theta) as printed.
PAPER_OVER_ACTIVATION = {0.1: 0.058, 0.3: 0.162, 0.5: 0.228, 0.7: 0.243, 0.9: 0.204}
# Of the single-spike networks that the table of energies compares with.
TTFS = ("ettfs-fashion-mnist", "window-fashion-mnist")
CONTROL = "no carry, one patch (control)"
PRINTED = "rule as printed, g = 2"
LINEAR = "membrane of the previous layer, linear, g = 1"
BY_MEMBRANE = Column("accuracy", "accuracy (membrane read-out), %")


def comparison() -> dict[str, OneStepRecipe]:
    """Return the recipes that are compared with all seeds, by name; they differ in the neuron only."""
    whole = cast(OneStepRecipe, preset(BASE).recipe)
    small = replace(whole, layout="16C3-D-16C3-32G-32C3-D-32C3", epochs=5)
    return {
        CONTROL: _with(small, grid=1, carried="none"),
        PRINTED: _with(small, grid=2, projection="sine_patch", carried="both", alpha=0.5),
        LINEAR: small,
    }


def ablations() -> dict[str, OneStepRecipe]:
    """Return the recipes of the paper's ablations, on a small network trained shortly."""
    short = replace(comparison()[PRINTED], epochs=2)
    variants = {"as printed, alternating, g = 2": short}
    variants |= {
        f"{kind}, g = {grid}": _with(short, grid=grid, patches=kind)
        for kind in ("plain", "dilated")
        for grid in (1, 2, 4)
        if grid > 1 or kind == "plain"
    }
    variants |= {
        f"{projection} of both membranes, g = 2": _with(short, projection=projection)
        for projection in ("linear", "sigmoid", "tanh", "relu")
    }
    for grid in (1, 2):
        variants[f"roles of sine and cosine swapped, g = {grid}"] = _with(
            short, projection="sine_layer", grid=grid
        )
    variants["fractional spikes (-MSp), g = 2"] = _with(short, fractional=True)
    variants["membrane of the previous patch only, g = 2"] = _with(short, carried="patch")
    return variants


def _with(config: OneStepRecipe, **neuron: Any) -> OneStepRecipe:
    return replace(config, neuron=replace(config.neuron, **neuron))


def _others(finished: Finished) -> Mapping[str, Any]:
    """The costs of the single-spike networks, as their own experiment has measured them."""
    results = finished.options.results
    known = {} if results is None else read_results(results).get("ettfs", {}).get("summary", {})
    figures = ("steps_to_decision", "synops", "energy_pj", "dense_energy_pj")
    return {
        "single_spike": {
            name: {figure: known[name][figure] for figure in figures} for name in TTFS if name in known
        }
    }


def _tables(measured: Measured) -> list[Table]:
    compared, tried = comparison(), ablations()
    control, short = compared[CONTROL], next(iter(tried.values()))
    return [
        Table(
            "Accuracy in one step",
            measured.rows(PRESETS),
            [BY_MEMBRANE, Column("spikes_to_decision", "spikes per image", 0), Column("spikes_per_neuron")],
            "preset",
            [
                f"Decision: {ONE_STEP_RULE}. The epoch is chosen on 5,000 validation images of the "
                "official training set; the test set is read once. The paper has no figures for these "
                "data sets. "
                "Both networks have one patch and carry the previous layer's membrane, which beat the "
                "printed rule on validation."
            ],
        ),
        Table(
            f"Does the carry help? Fashion-MNIST, {control.layout}, {control.epochs} epochs",
            _against_control(measured),
            [
                BY_MEMBRANE,
                Column("difference", "against the control", 2, 100, signed=True),
                Column("seed_spreads", "in seed spreads", 1, signed=True),
                Column("spikes_per_neuron"),
            ],
            "neuron",
            [
                "One layout, one recipe, the same seeds; only the neuron differs. A seed spread is the "
                "larger standard deviation of the two rows that are compared."
            ],
        ),
        Table(
            f"Patches and projections, {short.layout}, {short.epochs} epochs, one seed",
            measured.rows(tried),
            [BY_MEMBRANE, Column("spikes_per_neuron"), Column("energy_pj")],
            "neuron",
            [
                "The first row is the rule as printed, the others have one change each; with one patch "
                "its projection is 0. A short training, for comparing the parts."
            ],
        ),
        _energy_table(measured),
        _integral_table(),
    ]


def _against_control(measured: Measured) -> dict[str, dict[str, Any]]:
    rows = measured.rows(comparison())
    if CONTROL not in rows:
        return rows
    control = rows[CONTROL]["accuracy"]
    for name, row in rows.items():
        if name != CONTROL:
            row["difference"] = row["accuracy"]["mean"] - control["mean"]
            spread = max(row["accuracy"]["sd"] or 0.0, control["sd"] or 0.0)
            row["seed_spreads"] = row["difference"] / spread if spread else None
    return rows


def _energy_table(measured: Measured) -> Table:
    rows = measured.rows((BASE, PRINTED, CONTROL))
    rows = {label: row | {"steps_to_decision": 1} for label, row in rows.items()}
    rows |= {f"`{name}`": figures for name, figures in measured.others["single_spike"].items()}
    return Table(
        "Operations and energy per image of Fashion-MNIST",
        rows,
        [
            Column("steps_to_decision", "steps"),
            Column("synops"),
            Column("energy_of_inputs_pj", "energy by inputs alone, as papers count, uJ"),
            Column("energy_pj", "energy, everything counted, uJ"),
            Column("dense_energy_pj"),
            Column("dense_energy_paper_pj", "the same as the paper counts it, uJ", 2, 1e-6),
        ],
        "network",
        [
            f"Constants (45 nm, Horowitz 2014): addition {ADD_PJ} pJ, multiplication {MULTIPLY_PJ} pJ, "
            f"multiply-add {MULTIPLY_ADD_PJ} pJ; a sine, cosine or exponential {FUNCTION_PJ:g} pJ, five "
            "multiply-adds (our own figure). No memory traffic. The first layer receives the image in "
            "multiply-adds.",
            "The paper leaves the carry out, prints its spiking rows in mJ where they are uJ, and adds an "
            "addition to every multiply-add of its ANNs.",
        ],
    )


def _integral_table() -> Table:
    return Table(
        "Over-activation S(theta): the projection where both membranes are above the threshold",
        {
            "here": {f"{theta:g}": over_activation(theta) for theta in PAPER_OVER_ACTIVATION},
            "paper": {f"{theta:g}": value for theta, value in PAPER_OVER_ACTIVATION.items()},
        },
        [Column(f"{theta:g}", digits=3) for theta in PAPER_OVER_ACTIVATION],
        "theta",
    )


def _headlines(measured: Measured) -> Iterator[list[str]]:
    columns = [
        Column("accuracy", "{} % by membrane"),
        Column("spikes_per_neuron", "{} spikes per neuron", 2),
    ]
    for name, data in PRESETS.items():
        if name in measured:
            yield headline(f"{data}: one-step network, T = 1", measured.row(name), columns)


def _pictures(finished: Finished) -> Iterator[Picture]:
    runs = finished.measured.runs
    bars = {
        name: runs[name][0]["spikes_per_neuron_by_layer"]
        for name in (*PRESETS, PRINTED, CONTROL)
        if name in runs
    }
    if bars:
        yield Picture(
            "Spikes per neuron, layer by layer",
            "spikes.png",
            "Mean over the test images.",
            depth_curves(bars, quantity="spikes per neuron"),
        )
    if BASE not in runs:
        return
    yield Picture(
        "What the layers see",
        "features.png",
        "One test image and the spikes of eight maps of each layer.",
        _feature_maps(finished),
    )


@torch.no_grad()
def _feature_maps(finished: Finished) -> Figure:
    """A test image above the spikes that it causes, layer by layer, at the image's size."""
    run = finished.open(BASE)
    network = run.load()
    assert isinstance(network, OneStepNetwork)
    image = maps(load(run.config.dataset, "test", finished.options.data_dir).images[:1])
    side = image.shape[-1]
    rows = {"image": image[0, 0].expand(8, side, side)}
    names = [
        f"{k}  {type(part).__name__.lower()} {part.out_shape(shape)[0]}"
        for k, (part, shape) in enumerate(zip(network.parts, network.shapes, strict=False), 1)
    ]
    for name, spikes in zip(names, network.trace(image)[1:], strict=True):
        # The maps that spike most, so that something is seen.
        chosen = spikes[0].flatten(1).sum(1).topk(min(8, spikes.shape[1])).indices
        scale = math.ceil(side / spikes.shape[-1])
        large = F.interpolate(spikes[:, chosen], scale_factor=scale, mode="nearest")[0, :, :side, :side]
        rows[name] = (255 * large).to(torch.uint8)
    return sample_comparison(rows, 8)


ONE_STEP = Experiment(
    name="one-step",
    title="The one-step network: patches instead of time",
    subtitle="Networks that decide in one time step",
    split="test sets: MNIST and Fashion-MNIST, 10,000 images each",
    runs=[
        # Three seeds give a spread; a comparison takes all, a first look one.
        *(Run(name, seeds=3) for name in PRESETS),
        *(Run(BASE, recipe, variant=name) for name, recipe in comparison().items()),
        *(Run(BASE, recipe, variant=name, seeds=1) for name, recipe in ablations().items()),
    ],
    tables=_tables,
    others=_others,
    headlines=_headlines,
    pictures=_pictures,
    curves={
        "validation accuracy": ["validation_accuracy"],
        "loss": ["loss"],
        "spikes per neuron": ["spikes_per_neuron"],
    },
)
