"""The demo: a small GAN and a classifier on the embedded digits, measured, pictured and reported."""

from pathlib import Path
from typing import cast

import torch

from firstspike.data import load
from firstspike.metrics.controls import control_quality
from firstspike.metrics.features import feature_network
from firstspike.metrics.report import Report as Figures
from firstspike.metrics.sampling import generation_cost, sample
from firstspike.plot import learning_curves, sample_comparison, sample_grid, save_figure
from firstspike.recipes import preset
from firstspike.recipes.spiking_gan import GanRecipe, Generator
from firstspike.reproduce.pictures import draw_decision, draw_raster
from firstspike.reproduce.report import Column, Report
from firstspike.reproduce.results import facts, provenance
from firstspike.training.run import train

RUNS = {
    "gan": "spiking-gan-conditional",
    "ann-gan": "ann-gan-conditional",
    "classifier": "aggressive-ttfs-window",
}


def demo(
    out: Path, *, seed: int = 0, epochs: int | None = None, threads: int | None = None, resume: bool = False
) -> Path:
    """Run the demo into the folder `out` and return its report.

    Args:
        out: holds ``gan/``, ``ann-gan/``, ``classifier/`` (runs), ``pictures/`` and ``report.html``.
        seed: of everything random.
        epochs: of all trainings, instead of the presets'.
        threads: processor threads; None for what each training's work asks for.
        resume: go on with a demo that was interrupted.

    Raises:
        InputError: `out` holds a demo already and `resume` is false.
    """
    runs = {
        name: train(
            out / name,
            chosen,
            preset(chosen).configure(dataset="digits", epochs=epochs),
            seed,
            resume=resume,
            threads=threads,
        )
        for name, chosen in RUNS.items()
    }
    test, train_set = load("digits", "test"), load("digits", "train")
    features = feature_network("digits")
    pictures = out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)

    generators = {name: cast(Generator, runs[name].load()) for name in ("gan", "ann-gan")}
    generated = sample(generators["gan"], 100, seed)
    (samples, measured), (ordinary, reference) = (
        cast(GanRecipe, runs[name].config).generate(generator, test, train_set, features)
        for name, generator in generators.items()
    )
    controls = control_quality(test, train_set, features)
    decided = cast(Figures, runs["classifier"].config.report(runs["classifier"].load(), test))
    cost = generation_cost(generators["gan"], samples)

    report = Report("firstspike demo", "Every neuron spikes at most once; 8 x 8 digits, nothing downloaded")
    report.facts(
        facts(provenance([seed]))
        | {"data": "scikit-learn digits: 1,197 training, 300 validation, 300 test"}
    )

    report.heading("Generated digits")
    save_figure(sample_grid(generated.images, 10), pictures / "samples.png")
    report.figure(
        pictures / "samples.png", "100 images of the single-spike GAN, one column per digit, not selected."
    )
    save_figure(
        sample_comparison(
            {
                "real": by_class(test.images, test.labels),
                "single-spike GAN": generated.images[:10],
                "ordinary GAN of the same size": ordinary.images[:10],
            },
            10,
        ),
        pictures / "comparison.png",
    )
    report.figure(
        pictures / "comparison.png", "Real test images above generated ones, the first of each digit."
    )
    report.table(
        ["", Column("Frechet distance", "measured"), "recall", "precision", "right digit"],
        [
            [
                label,
                round(q.frechet_distance, 2),
                round(q.recall, 3),
                round(q.precision, 3),
                round(q.right_label_rate or 0, 3),
            ]
            for label, q in (("single-spike GAN", measured), ("ordinary GAN", reference), *controls.items())
        ],
        f"{measured.feature_label}; 300 images against 300 test images",
    )
    report.text(
        f"An image takes {cost['spikes_per_image']:.0f} spikes, at most one per neuron, in "
        f'{cost["steps_per_image"]} steps. Controls: "real" are training images; "mean image" are pixels '
        "drawn independently from the mean image of a class, which no eye takes for a digit. See how "
        "high its recall and right-digit rate are: no single figure says enough."
    )

    report.heading("A classifier that decides at the first spike")
    report.table(
        ["accuracy %", "ties %", "silent %", "steps to decision", "spikes to decision"],
        [
            [
                round(100 * decided.accuracy, 2),
                round(100 * (decided.tie_rate or 0), 2),
                round(100 * (decided.silent_rate or 0), 2),
                round(decided.steps_to_decision, 1),
                round(decided.spikes_to_decision or 0, 1),
            ]
        ],
        f"300 test images; {decided.decision_rule}",
    )
    draw_raster(runs["classifier"], test, pictures / "raster.png")
    report.figure(pictures / "raster.png", "Every spike of one decision.")
    draw_decision(runs["classifier"], test, pictures / "decision.gif")
    report.figure(pictures / "decision.gif", "The same decision as it is made.")

    report.heading("Learning curves")
    for name, panels in (
        ("gan", {"loss": ["generator_loss", "discriminator_loss"]}),
        (
            "classifier",
            {"validation accuracy": ["validation_accuracy"], "spikes to decision": ["spikes_to_decision"]},
        ),
    ):
        curves = learning_curves(runs[name].load_state().records, panels, title=name)
        save_figure(curves, pictures / f"curves-{name}.png")
        report.figure(
            pictures / f"curves-{name}.png",
            f"The training of the {name.upper() if name == 'gan' else name}.",
        )
    return report.write(out / "report.html")


def by_class(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the first image of each class, ``(classes, height, width)``."""
    return torch.stack([images[labels == c][0] for c in labels.unique()])
