"""``reproduce spiking-gan``: the GANs beside their controls, and the paper's pictures."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from firstspike.data import ImageSet, load
from firstspike.metrics.controls import control_quality, mean_image_control
from firstspike.metrics.features import Features, feature_network
from firstspike.metrics.sampling import generation_cost
from firstspike.plot import learning_curves, paper, sample_comparison, sample_grid, save_figure
from firstspike.recipes.spiking_gan import GanRecipe, Generator
from firstspike.reproduce.plan import Job, Plan, train_all
from firstspike.reproduce.report import Cell, Column, Report
from firstspike.reproduce.results import (
    Spread,
    facts,
    keep_results,
    provenance,
    quick_look,
    show,
    spread,
    summarise,
)

WINDOW, ANN = "spiking-gan-window", "ann-gan"
CONDITIONAL, ANN_CONDITIONAL = "spiking-gan-conditional", "ann-gan-conditional"
CAUSAL = ("spiking-gan-causal", "spiking-gan-causal-published")
CAUSAL_DIGITS = (0, 3, 8)
FIGURES = (
    "frechet_distance",
    "kid",
    "precision",
    "recall",
    "density",
    "coverage",
    "diversity",
    "right_label_rate",
    "nearest_train_distance",
)


def reproduce(plan: Plan) -> Path:
    """Train and measure every GAN; write pictures, figures and the report; return the report."""
    causal_digits = [d for d in plan.digits if d in CAUSAL_DIGITS]
    per_digit = [(name, list(plan.digits)) for name in (WINDOW, ANN)] + [
        (name, causal_digits) for name in CAUSAL
    ]
    jobs = [Job(name, seed) for name in (CONDITIONAL, ANN_CONDITIONAL) for seed in plan.seeds]
    jobs += [
        Job(name, seed, digit) for name, digits in per_digit for digit in digits for seed in plan.seeds
    ]
    train_all(plan, jobs)

    test, train = load("mnist", "test", plan.data_dir), load("mnist", "train", plan.data_dir)
    features = feature_network("mnist", plan.data_dir)
    runs = {}
    for name, digits in per_digit:
        runs[name] = [
            _measure(Job(name, seed, digit), plan, test.of_class(digit), train.of_class(digit), features)
            for digit in digits
            for seed in plan.seeds
        ]
    for name in (CONDITIONAL, ANN_CONDITIONAL):
        runs[name] = [_measure(Job(name, seed), plan, test, train, features) for seed in plan.seeds]
    controls = {
        str(digit): _controls(test.of_class(digit), train.of_class(digit), features)
        for digit in plan.digits
    }
    controls["all"] = _controls(test, train, features)
    document = {
        "title": "Generation: Spiking-GAN beside the ordinary GAN",
        "provenance": provenance(plan.seeds),
        "split": "MNIST test images of the class; as many generated as real",
        "tables": [
            _summary_table(runs, controls, plan.digits),
            _digit_table(runs, controls, plan.digits),
            _conditional_table(runs, controls),
            *([_causal_table(runs, controls, causal_digits)] if causal_digits else []),
            _coding_table(train),
        ],
        "headlines": _headlines(runs, controls, plan.digits, causal_digits),
        "runs": runs,
        "controls": controls,
    }
    keep_results(plan.out, plan.results, "spiking-gan", document)
    return _report(plan, document, test, train)


def _measure(job: Job, plan: Plan, test: ImageSet, train: ImageSet, features: Features) -> dict[str, Any]:
    run = job.open(plan)
    generator, recipe = cast(Generator, run.load()), cast(GanRecipe, run.config)
    samples, measured = recipe.generate(generator, test, train, features)
    seconds = sum(record["seconds"] for record in run.load_state().records)
    return {
        "seed": job.seed,
        "digit": job.digit,
        "training_seconds": seconds,
        **measured.as_dict(),
        **generation_cost(generator, samples),
    }


def _controls(test: ImageSet, train: ImageSet, features: Features) -> dict[str, dict[str, Any]]:
    measured = control_quality(test, train, features)
    return {name: figures.as_dict() for name, figures in measured.items()}


def _over_digits(runs: Sequence[dict[str, Any]], name: str) -> Spread:
    """Mean over digits for each seed, then mean and spread over seeds."""
    seeds = sorted({run["seed"] for run in runs})
    means = [
        sum(run[name] for run in runs if run["seed"] == seed)
        / sum(1 for run in runs if run["seed"] == seed)
        for seed in seeds
    ]
    return spread(means)


_COLUMNS = ["", "Frechet distance", "KID", "precision", "recall", "density", "coverage", "diversity"]
_SHOWN = ("frechet_distance", "kid", "precision", "recall", "density", "coverage", "diversity")


def _row(label: str, figures: dict[str, Spread]) -> list[str]:
    return [
        label,
        *(show(figures[name], 1 if name in ("frechet_distance", "kid") else 3) for name in _SHOWN),
    ]


def _control_rows(controls: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = []
    for name, label in (("real", "real images, held in"), ("mean image", "pixels of the class mean")):
        mean = {f: sum(c[name][f] for c in controls) / len(controls) for f in _SHOWN}
        rows.append([label, *(f"{mean[f]:.{1 if f in _SHOWN[:2] else 3}f}" for f in _SHOWN)])
    return rows


def _summary_table(runs: dict[str, Any], controls: dict[str, Any], digits: Sequence[int]) -> dict[str, Any]:
    rows = [
        _row(label, {f: _over_digits(runs[name], f) for f in _SHOWN})
        for label, name in (("Spiking-GAN, window", WINDOW), ("ANN GAN", ANN))
    ]
    rows += _control_rows([controls[str(d)] for d in digits])
    first = runs[WINDOW][0]
    spikes = _over_digits(runs[WINDOW], "spikes_per_image")
    stepped = [
        r["stepped_agreement"] for entries in runs.values() for r in entries if "stepped_agreement" in r
    ]
    agreement = sum(stepped) / len(stepped)
    seconds = max(run["training_seconds"] for run in runs[WINDOW])
    return {
        "caption": "One GAN per digit, mean over digits " + ", ".join(map(str, digits)),
        "columns": _COLUMNS,
        "rows": rows,
        "notes": [
            f"{first['feature_label']}: 64 features of the package's own CNN (validation accuracy "
            f"{100 * first['feature_accuracy']:.2f} %, SHA-256 {first['feature_sha256'][:12]}); not "
            "comparable with Inception features. All distances use as many generated as test images of the "
            "class.",
            f"An image takes {show(spikes)} spikes of 1,284 neurons (noise, hidden, pixels), at most one "
            "each: a neuron has one spike time, and a simulation step by step, in which it fires once, "
            f"gives {100 * agreement:.3f} % of the times of all spiking runs. It takes "
            f"{first['steps_per_image']} steps. Longest training of one digit: {seconds:.0f} s on one "
            "thread.",
            "Real images: as many training images as there are test images, since validation has half as "
            "many; the feature network was trained on them.",
            f"{_median_and_worst('Window', runs[WINDOW])} {_median_and_worst('ANN', runs[ANN])}",
            "Both GANs: same sizes, epochs, batch, optimiser, learning rate and moving average.",
        ],
    }


def _median(runs: Sequence[dict[str, Any]]) -> float:
    return statistics.median(run["frechet_distance"] for run in runs)


def _median_and_worst(label: str, runs: Sequence[dict[str, Any]]) -> str:
    if len(runs) == 1:
        return f"{label}: one run."
    worst = max(runs, key=lambda run: run["frechet_distance"])
    others = [run["frechet_distance"] for run in runs if run is not worst]
    return (
        f"{label}: median distance of all {len(runs)} runs {_median(runs):.1f}; worst run "
        f"{worst['frechet_distance']:.1f} (digit {worst['digit']}, seed {worst['seed']}), mean without it "
        f"{statistics.fmean(others):.1f}."
    )


def _digit_table(runs: dict[str, Any], controls: dict[str, Any], digits: Sequence[int]) -> dict[str, Any]:
    rows = []
    for digit in digits:
        of = {
            name: summarise([r for r in runs[name] if r["digit"] == digit], ("frechet_distance", "recall"))
            for name in (WINDOW, ANN)
        }
        rows.append(
            [
                str(digit),
                *(show(of[n]["frechet_distance"]) for n in (WINDOW, ANN)),
                *(show(of[n]["recall"], 3) for n in (WINDOW, ANN)),
                f"{controls[str(digit)]['real']['frechet_distance']:.1f}",
                f"{controls[str(digit)]['mean image']['frechet_distance']:.0f}",
            ]
        )
    return {
        "caption": "Digit by digit: Frechet distance and recall",
        "columns": [
            "digit",
            "FD window",
            "FD ANN",
            "recall window",
            "recall ANN",
            "FD real",
            "FD mean image",
        ],
        "rows": rows,
    }


def _conditional_table(runs: dict[str, Any], controls: dict[str, Any]) -> dict[str, Any]:
    rows = []
    for label, name in (("Spiking-GAN, window", CONDITIONAL), ("ANN GAN", ANN_CONDITIONAL)):
        figures = summarise(runs[name], (*_SHOWN, "right_label_rate"))
        rows.append([*_row(label, figures), show(figures["right_label_rate"], 3)])
    for row, name in zip(_control_rows([controls["all"]]), ("real", "mean image"), strict=True):
        rows.append([*row, f"{controls['all'][name]['right_label_rate']:.3f}"])
    return {
        "caption": "One conditional GAN for all ten digits, against all 10,000 test images",
        "columns": [*_COLUMNS, "right digit"],
        "rows": rows,
        "notes": [
            "The right-digit rate alone is no measure of quality: pixels of the class mean have one too."
        ],
    }


def _causal_table(runs: dict[str, Any], controls: dict[str, Any], digits: Sequence[int]) -> dict[str, Any]:
    rows = []
    for digit in digits:
        cells = []
        for name in CAUSAL:
            figures = summarise(
                [r for r in runs[name] if r["digit"] == digit], ("frechet_distance", "recall")
            )
            cells += [show(figures["frechet_distance"]), show(figures["recall"], 3)]
        rows.append([str(digit), *cells, f"{controls[str(digit)]['mean image']['frechet_distance']:.0f}"])
    return {
        "caption": "Causal neurons on one clock, T = 256: our best recipe and the published rule",
        "columns": ["digit", "FD best", "recall best", "FD published", "recall published", "FD mean image"],
        "rows": rows,
    }


def _headlines(
    runs: dict[str, Any], controls: dict[str, Any], digits: Sequence[int], causal_digits: Sequence[int]
) -> list[list[str]]:
    def quality(figures: dict[str, Spread]) -> str:
        return f"FD {show(figures['frechet_distance'])}, recall {show(figures['recall'], 3)}"

    def control(keys: Sequence[str]) -> str:
        mean = {
            name: sum(controls[key][name]["frechet_distance"] for key in keys) / len(keys)
            for name in ("real", "mean image")
        }
        return f"real images {mean['real']:.1f}, class mean {mean['mean image']:.0f}"

    names = ("frechet_distance", "recall")
    per_digit = {n: {f: _over_digits(runs[n], f) for f in names} for n in (WINDOW, ANN)}
    conditional = {n: summarise(runs[n], names) for n in (CONDITIONAL, ANN_CONDITIONAL)}
    rows = [
        [
            f"Spiking-GAN, window neurons, mean of {len(digits)} digits",
            f"{quality(per_digit[WINDOW])}, median FD {_median(runs[WINDOW]):.1f}",
            f"ANN GAN: {quality(per_digit[ANN])}, median FD {_median(runs[ANN]):.1f}; "
            f"{control([str(d) for d in digits])}",
        ],
        [
            "Spiking-GAN, window neurons, conditional",
            quality(conditional[CONDITIONAL]),
            f"ANN GAN: {quality(conditional[ANN_CONDITIONAL])}; {control(['all'])}",
        ],
    ]
    if causal_digits:
        causal = {n: {f: _over_digits(runs[n], f) for f in names} for n in CAUSAL}
        rows.append(
            [
                f"Spiking-GAN, phased causal neurons, digits {', '.join(map(str, causal_digits))}",
                quality(causal[CAUSAL[0]]),
                f"as published: {quality(causal[CAUSAL[1]])}; {control([str(d) for d in causal_digits])}",
            ]
        )
    return rows


def _coding_table(train: ImageSet) -> dict[str, Any]:
    measured = paper.coding_spikes(train.images)
    return {
        "caption": "Input spikes per MNIST image under each code, mean of the training images",
        "columns": ["code", "measured"],
        "rows": [[name, f"{spikes:,.1f}"] for name, spikes in measured.items()],
        "notes": [
            "The paper states 784 for TTFS (every pixel fires), 173,745 for its count code and 26,175 for "
            "the inverted one; the two count codes are complements and add up to 255 x 784."
        ],
    }


def _report(plan: Plan, document: dict[str, Any], test: ImageSet, train: ImageSet) -> Path:
    pictures = plan.out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    seed = plan.seeds[0]
    report = Report("Spiking-GAN", "Images from networks whose neurons spike at most once, on MNIST")
    report.facts(facts(document["provenance"]) | {"split": document["split"]})

    if plan.epochs is None:
        report.heading("Targets")
        verdicts = _verdicts(document["runs"], document["controls"])
        report.table(["what", Column("target", "target"), Column("measured", "measured")], verdicts)
    else:
        report.text(quick_look(plan.epochs))
    report.heading("Quality")
    for table in document["tables"]:
        report.table(table["columns"], table["rows"], table["caption"])
        for note in table.get("notes", []):
            report.text(note)

    report.heading("Samples")
    for digit in plan.digits:
        path = pictures / f"figure8-digit{digit}.png"
        save_figure(sample_comparison(_strips(plan, seed, digit, test, train), 16), path)
        report.figure(
            path, f"Digit {digit} (the paper's figure 8), not selected: the first 16 of seed {seed}."
        )
    generated = _images(Job(CONDITIONAL, seed), plan, 100)
    save_figure(sample_grid(generated, 10), pictures / "conditional.png")
    report.figure(pictures / "conditional.png", "The conditional GAN, one column per digit.")

    report.heading("The paper's figures")
    image = test.images[0]
    drawn = {
        "figure1-refractory-period": (
            paper.refractory_period(),
            "Figure 1: a refractory period as long as the window leaves one spike.",
        ),
        "figure2-encoder": (paper.encoder(image), "Figure 2: the encoder."),
        "figure3-coding-cost": (
            paper.coding_cost(test.images),
            "Figure 3: input spikes per image under each code, "
            "mean of the test images, beside the paper's.",
        ),
        "figure4-architecture": (
            paper.architecture(fake=generated[0], real=image),
            "Figure 4: both networks.",
        ),
        "figure5-output-rule": (paper.output_rule(), "Figure 5: what the two outputs are asked for."),
    }
    for name, (figure, caption) in drawn.items():
        save_figure(figure, pictures / f"{name}.png")
        report.figure(pictures / f"{name}.png", caption)
    report.text("Figures 6 and 7 belong to the classifier: `firstspike reproduce aggressive-ttfs`.")

    report.heading("Learning curves")
    for name in (WINDOW, ANN):
        records = Job(name, seed, plan.digits[0]).open(plan).load_state().records
        figure = learning_curves(records, {"loss": ["generator_loss", "discriminator_loss"]}, title=name)
        save_figure(figure, pictures / f"curves-{name}.png")
        report.figure(pictures / f"curves-{name}.png", f"`{name}`, digit {plan.digits[0]}, seed {seed}.")
    return report.write(plan.out / "report.html")


def _verdicts(runs: dict[str, Any], controls: dict[str, Any]) -> list[list[Any]]:
    def compare(label: str, ours: float, target: float, text: str, *, higher: bool = False) -> list[Any]:
        met = ours >= target if higher else ours <= target
        return [label, text, Cell(f"{ours:.4g}", "met" if met else "missed")]

    distance = {n: _over_digits(runs[n], "frechet_distance")["mean"] for n in (WINDOW, ANN)}
    recall = {n: _over_digits(runs[n], "recall")["mean"] for n in (WINDOW, ANN)}
    conditional = {
        n: spread([r["frechet_distance"] for r in runs[n]])["mean"] for n in (CONDITIONAL, ANN_CONDITIONAL)
    }
    seconds = max(run["training_seconds"] for run in runs[WINDOW])
    verdicts = [
        compare(
            "window, mean Frechet distance",
            distance[WINDOW],
            distance[ANN],
            f"<= {distance[ANN]:.4g} (ANN)",
        ),
        compare(
            "window, mean recall",
            recall[WINDOW],
            0.95 * recall[ANN],
            f">= {0.95 * recall[ANN]:.3g} (0.95 of ANN)",
            higher=True,
        ),
        compare("window, seconds per digit", seconds, 180, "<= 180"),
        compare(
            "conditional, Frechet distance",
            conditional[CONDITIONAL],
            conditional[ANN_CONDITIONAL],
            f"<= {conditional[ANN_CONDITIONAL]:.4g} (ANN)",
        ),
    ]
    for digit in sorted({run["digit"] for run in runs[CAUSAL[0]]}):
        mean = spread([r["frechet_distance"] for r in runs[CAUSAL[0]] if r["digit"] == digit])["mean"]
        half = controls[str(digit)]["mean image"]["frechet_distance"] / 2
        text = f"< {half:.4g} (half the class mean's)"
        verdicts.append(compare(f"phased causal, digit {digit}, Frechet distance", mean, half, text))
    return verdicts


def _strips(plan: Plan, seed: int, digit: int, test: ImageSet, train: ImageSet) -> dict[str, torch.Tensor]:
    strips = {"real": test.of_class(digit).images[:16]}
    names = {ANN: "ANN GAN", WINDOW: "Spiking-GAN, window"}
    if digit in CAUSAL_DIGITS:
        names |= {
            CAUSAL[0]: "Spiking-GAN, causal, our recipe",
            CAUSAL[1]: "Spiking-GAN, causal, as published",
        }
    for name, label in names.items():
        strips[label] = _images(Job(name, seed, digit), plan, 16)
    source = torch.Generator().manual_seed(seed)
    strips["pixels of the class mean"] = mean_image_control(train.of_class(digit).images, 16, source)
    return strips


def _images(job: Job, plan: Plan, count: int) -> torch.Tensor:
    """Images of the job's generator, by its seed."""
    run = job.open(plan)
    return run.config.sample(run.load(), count, job.seed).images
