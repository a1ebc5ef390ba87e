"""``reproduce spiking-gan``: the GANs beside their controls, and the paper's pictures."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from firstspike.data import ImageSet, load
from firstspike.experiments.jobs import Run
from firstspike.experiments.results import show
from firstspike.experiments.spec import (
    Column,
    Experiment,
    Finished,
    Measured,
    Picture,
    Row,
    Table,
    Target,
    sentence,
)
from firstspike.metrics.controls import mean_image_control
from firstspike.plot import paper, sample_comparison, sample_grid
from firstspike.plot.paper.coding_cost import PAPER_SPIKES
from firstspike.recipes import preset
from firstspike.training.run_folder import RunFolder

WINDOW, ANN = "spiking-gan-window", "ann-gan"
CONDITIONAL, ANN_CONDITIONAL = "spiking-gan-conditional", "ann-gan-conditional"
CAUSAL, PUBLISHED = "spiking-gan-causal", "spiking-gan-causal-published"
CAUSAL_DIGITS = (0, 3, 8)
SPIKING_LABEL, ANN_LABEL = "Spiking-GAN, window", "ANN GAN"
# What one GAN per digit is to reach: the mean over all ten digits, and the digit covered least.
MEAN_DISTANCE, LOWEST_RECALL = 11.0, 0.6
# The controls' names in `firstspike evaluate --json`, and what they are.
CONTROLS = {"real": "training images", "mean image": "pixels of the class mean"}
QUALITY = [
    Column(name)
    for name in ("frechet_distance", "kid", "precision", "recall", "density", "coverage", "diversity")
]
SHORT = [
    Column("frechet_distance", "FD {}"),
    Column("recall", "recall {}"),
    Column("median", "median FD {}", 1),
]


def spiking_gan(*, digits: Sequence[int] = range(10)) -> Experiment:
    """Return the experiment with the per-digit GANs of these `digits`."""
    digits = tuple(dict.fromkeys(digits))
    causal = tuple(digit for digit in digits if digit in CAUSAL_DIGITS)
    return Experiment(
        name="spiking-gan",
        title="Generation: Spiking-GAN and the ANN GAN",
        subtitle="Images from networks whose neurons spike at most once, on MNIST",
        split="MNIST test images of the class; as many generated as real",
        runs=[
            *(Run(name, digits=digits) for name in (WINDOW, ANN)),
            *(Run(name, digits=causal) for name in (CAUSAL, PUBLISHED) if causal),
            *(Run(name) for name in (CONDITIONAL, ANN_CONDITIONAL)),
        ],
        tables=_tables,
        others=_others,
        headlines=_headlines,
        targets=_targets,
        pictures=_pictures,
        curves={"loss": ["generator_loss", "discriminator_loss"]},
        configure=spiking_gan,
    )


def _others(finished: Finished) -> Mapping[str, Any]:
    images = load("mnist", "train", finished.options.data_dir).images
    return {"input_spikes": paper.coding_spikes(images)}


def _digits(measured: Measured, name: str = WINDOW) -> list[int]:
    return list(dict.fromkeys(run["digit"] for run in measured.runs.get(name, ())))


def _controls(measured: Measured, name: str, keys: Sequence[Any]) -> Row:
    """Figures of a control, the mean over these digits, or of a whole data set by its name."""
    controls = [measured.others["controls"][str(key)][name] for key in keys]
    figures = [*(column.figure for column in QUALITY), "right_label_rate"]
    return {figure: sum(control[figure] for control in controls) / len(controls) for figure in figures}


def _beside_controls(measured: Measured, names: Sequence[str], keys: Sequence[Any]) -> dict[str, Row]:
    rows = dict(zip((SPIKING_LABEL, ANN_LABEL), map(measured.row, names), strict=True))
    return rows | {label: _controls(measured, control, keys) for control, label in CONTROLS.items()}


def _tables(measured: Measured) -> list[Table]:
    tables = []
    if _both(measured, WINDOW, ANN):
        tables += [_summary_table(measured), _digit_table(measured)]
    if _both(measured, CONDITIONAL, ANN_CONDITIONAL):
        tables.append(_conditional_table(measured))
    if _both(measured, CAUSAL, PUBLISHED):
        tables.append(_causal_table(measured))
    return [*tables, _coding_table(measured)]


def _both(measured: Measured, *names: str) -> bool:
    """Whether rows that are compared were measured, on the same digits."""
    digits = {tuple(_digits(measured, name)) for name in names}
    return all(name in measured for name in names) and len(digits) == 1


def _summary_table(measured: Measured) -> Table:
    digits = _digits(measured)
    first = measured.runs[WINDOW][0]
    spikes = show(measured.row(WINDOW)["spikes_per_image"])
    agreement = statistics.fmean(
        run["stepped_agreement"]
        for runs in measured.runs.values()
        for run in runs
        if "stepped_agreement" in run
    )
    return Table(
        "One GAN per digit, mean over digits " + ", ".join(map(str, digits)),
        _beside_controls(measured, (WINDOW, ANN), digits),
        QUALITY,
        notes=[
            f"{first['feature_label']}: 64 features of the package's own CNN (validation accuracy "
            f"{100 * first['feature_accuracy']:.2f} %, SHA-256 {first['feature_sha256'][:12]}); not "
            "comparable with Inception features. All distances use as many generated as test images of the "
            "class.",
            f"An image takes {spikes} spikes of 1,284 neurons (noise, hidden, pixels), at most one "
            "each: a neuron has one spike time, and a simulation step by step, in which it fires once, "
            f"gives {100 * agreement:.3f} % of the times of all spiking runs. It takes "
            f"{first['steps_per_image']} steps. Longest training of one digit: {_longest(measured):.0f} s "
            "on one thread.",
            "Training images: as many as there are test images, since validation has half as many; the "
            "feature network was trained on them.",
            f"{_median_and_worst('Window', measured.runs[WINDOW])} "
            f"{_median_and_worst('ANN', measured.runs[ANN])}",
            "Both GANs: same sizes, epochs, batch, optimiser, learning rate and moving average.",
        ],
    )


def _longest(measured: Measured) -> float:
    return float(max(run["training_seconds"] for run in measured.runs[WINDOW]))


def _median(runs: Sequence[Mapping[str, Any]]) -> float:
    return statistics.median(run["frechet_distance"] for run in runs)


def _median_and_worst(label: str, runs: Sequence[Mapping[str, Any]]) -> str:
    if len(runs) == 1:
        return f"{label}: one run."
    worst = max(runs, key=lambda run: run["frechet_distance"])
    others = [run["frechet_distance"] for run in runs if run is not worst]
    return (
        f"{label}: median distance of all {len(runs)} runs {_median(runs):.1f}; worst run "
        f"{worst['frechet_distance']:.1f} (digit {worst['digit']}, seed {worst['seed']}), mean without it "
        f"{statistics.fmean(others):.1f}."
    )


def _digit_table(measured: Measured) -> Table:
    columns = [
        Column("window.frechet_distance", "FD window", 1),
        Column("ann.frechet_distance", "FD ANN", 1),
        Column("window.recall", "recall window", 3),
        Column("ann.recall", "recall ANN", 3),
        Column("real.frechet_distance", "FD training images", 1),
        Column("mean.frechet_distance", "FD class mean", 0),
    ]
    rows = {
        str(digit): _named(
            window=measured.row(WINDOW, digit=digit),
            ann=measured.row(ANN, digit=digit),
            real=_controls(measured, "real", [digit]),
            mean=_controls(measured, "mean image", [digit]),
        )
        for digit in _digits(measured)
    }
    return Table("Digit by digit: Frechet distance and recall", rows, columns, "digit")


def _named(**rows: Row) -> Row:
    """One row of several, each figure behind its row's name."""
    return {f"{name}.{figure}": value for name, row in rows.items() for figure, value in row.items()}


def _conditional_table(measured: Measured) -> Table:
    return Table(
        "One conditional GAN for all ten digits, against all 10,000 test images",
        _beside_controls(measured, (CONDITIONAL, ANN_CONDITIONAL), ["mnist"]),
        [*QUALITY, Column("right_label_rate")],
        notes=[
            "The right-digit rate alone is no measure of quality: pixels of the class mean have one too."
        ],
    )


def _causal_table(measured: Measured) -> Table:
    rows = {
        str(digit): _named(
            best=measured.row(CAUSAL, digit=digit),
            published=measured.row(PUBLISHED, digit=digit),
            mean=_controls(measured, "mean image", [digit]),
        )
        for digit in _digits(measured, CAUSAL)
    }
    columns = [
        Column("best.frechet_distance", "FD best", 1),
        Column("best.recall", "recall best", 3),
        Column("published.frechet_distance", "FD published", 1),
        Column("published.recall", "recall published", 3),
        Column("mean.frechet_distance", "FD class mean", 0),
    ]
    return Table(
        "Causal neurons on one clock, T = 256: our best recipe and the published rule",
        rows,
        columns,
        "digit",
    )


def _coding_table(measured: Measured) -> Table:
    rows = {
        code: {"measured": spikes, "paper": PAPER_SPIKES.get(code)}
        for code, spikes in measured.others["input_spikes"].items()
    }
    return Table(
        "Input spikes per MNIST image under each code, mean of the training images",
        rows,
        [Column("measured", digits=1), Column("paper")],
        "code",
        ["The two count codes are complements and add up to 255 x 784."],
    )


def _headlines(measured: Measured) -> Iterator[list[str]]:
    def controls(keys: Sequence[Any]) -> str:
        real, mean = (_controls(measured, name, keys)["frechet_distance"] for name in CONTROLS)
        return f"training images {real:.1f}, class mean {mean:.0f}"

    if _both(measured, WINDOW, ANN):
        digits = _digits(measured)
        ours, ann = (
            measured.row(name) | {"median": _median(measured.runs[name])} for name in (WINDOW, ANN)
        )
        yield [
            f"Spiking-GAN, window neurons, mean of {len(digits)} digits",
            sentence(ours, SHORT),
            f"{ANN_LABEL}: {sentence(ann, SHORT)}; {controls(digits)}",
        ]
    if _both(measured, CONDITIONAL, ANN_CONDITIONAL):
        ours, ann = map(measured.row, (CONDITIONAL, ANN_CONDITIONAL))
        yield [
            "Spiking-GAN, window neurons, conditional",
            sentence(ours, SHORT),
            f"{ANN_LABEL}: {sentence(ann, SHORT)}; {controls(['mnist'])}",
        ]
    if _both(measured, CAUSAL, PUBLISHED):
        causal = _digits(measured, CAUSAL)
        ours, published = map(measured.row, (CAUSAL, PUBLISHED))
        yield [
            f"Spiking-GAN, phased causal neurons, digits {', '.join(map(str, causal))}",
            sentence(ours, SHORT),
            f"as published: {sentence(published, SHORT)}; {controls(causal)}",
        ]


def _targets(measured: Measured) -> Iterator[Target]:
    figure = "frechet_distance"
    if WINDOW in measured:
        digits = _digits(measured)
        if len(digits) == 10:
            yield Target(f"`{WINDOW}`, all digits", figure, measured.row(WINDOW)[figure], MEAN_DISTANCE)
        recalls = {digit: measured.row(WINDOW, digit=digit)["recall"] for digit in digits}
        lowest = min(digits, key=lambda digit: recalls[digit]["mean"])
        yield Target(f"`{WINDOW}`, digit {lowest}, the lowest", "recall", recalls[lowest], LOWEST_RECALL)
    if _both(measured, WINDOW, ANN):
        ours, ann = measured.row(WINDOW), measured.row(ANN)
        yield Target(f"`{WINDOW}`", figure, ours[figure], ann[figure]["mean"], "the ANN's")
        recall = 0.95 * ann["recall"]["mean"]
        yield Target(f"`{WINDOW}`", "recall", ours["recall"], recall, "0.95 of the ANN's")
        longest, seconds = {"mean": _longest(measured), "sd": None}, "longest_training_seconds"
        yield Target(f"`{WINDOW}`, one digit", seconds, longest, preset(WINDOW).target[seconds])
    if _both(measured, CONDITIONAL, ANN_CONDITIONAL):
        ours, ann = measured.row(CONDITIONAL), measured.row(ANN_CONDITIONAL)
        yield Target(f"`{CONDITIONAL}`", figure, ours[figure], ann[figure]["mean"], "the ANN's")
    for digit in _digits(measured, CAUSAL):
        half = _controls(measured, "mean image", [digit])[figure] / 2
        ours = measured.row(CAUSAL, digit=digit)
        yield Target(f"`{CAUSAL}`, digit {digit}", figure, ours[figure], half, "half the class mean's")


def _pictures(finished: Finished) -> Iterator[Picture]:
    data_dir, seed = finished.options.data_dir, finished.options.seeds[0]
    test, train = load("mnist", "test", data_dir), load("mnist", "train", data_dir)
    for digit in _digits(finished.measured) if ANN in finished.runs else ():
        yield Picture(
            "Samples",
            f"figure8-digit{digit}.png",
            f"Digit {digit} (the paper's figure 8), not selected: the first 16 of seed {seed}.",
            sample_comparison(_strips(finished, digit, test, train), 16),
        )
    if CONDITIONAL in finished.runs:
        generated = _samples(finished.open(CONDITIONAL), 100, seed)
        caption = "The conditional GAN, one column per digit."
        yield Picture("Samples", "conditional.png", caption, sample_grid(generated, 10))
    figure = partial(Picture, "The paper's figures")
    yield figure(
        "figure1-refractory-period.png",
        "Figure 1: a refractory period as long as the window leaves one spike.",
        paper.refractory_period(),
    )
    yield figure("figure2-encoder.png", "Figure 2: the encoder.", paper.encoder(test.images[0]))
    yield figure(
        "figure3-coding-cost.png",
        "Figure 3: input spikes per image under each code, mean of the test images, beside the paper's.",
        paper.coding_cost(test.images),
    )
    if CONDITIONAL in finished.runs:
        yield figure(
            "figure4-architecture.png",
            "Figure 4: both networks.",
            paper.architecture(fake=generated[0], real=test.images[0]),
        )
    yield figure(
        "figure5-output-rule.png",
        "Figure 5: what the two outputs are asked for. Figures 6 and 7 belong to the classifier: "
        "`firstspike reproduce aggressive-ttfs`.",
        paper.output_rule(),
    )


def _samples(run: RunFolder, count: int, seed: int) -> torch.Tensor:
    return run.config.sample(run.load(), count, seed).images


def _strips(finished: Finished, digit: int, test: ImageSet, train: ImageSet) -> dict[str, torch.Tensor]:
    seed = finished.options.seeds[0]
    strips = {"real": test.of_class(digit).images[:16]}
    names = {ANN: ANN_LABEL, WINDOW: SPIKING_LABEL}
    if digit in CAUSAL_DIGITS and CAUSAL in finished.runs and PUBLISHED in finished.runs:
        names |= {CAUSAL: "Spiking-GAN, causal, our recipe", PUBLISHED: "Spiking-GAN, causal, as published"}
    for name, label in names.items():
        strips[label] = _samples(finished.open(name, digit), 16, seed)
    source = torch.Generator().manual_seed(seed)
    strips[CONTROLS["mean image"]] = mean_image_control(train.of_class(digit).images, 16, source)
    return strips


SPIKING_GAN = spiking_gan()
