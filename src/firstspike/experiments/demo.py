"""The demo: a small GAN and a classifier on the embedded digits, measured, pictured and reported."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from firstspike.data import load
from firstspike.experiments.jobs import Options, Run
from firstspike.experiments.pictures import ANIMATION_COLOURS, RASTER_COLOURS, decision_pictures
from firstspike.experiments.run import measure_all, write_report
from firstspike.experiments.spec import Column, Experiment, Finished, Measured, Picture, Table
from firstspike.plot import sample_comparison, sample_grid
from firstspike.support import InputError, option
from firstspike.training.run import train
from firstspike.training.threads import threads_kept

GAN, ANN, CLASSIFIER = "spiking-gan-conditional", "ann-gan-conditional", "aggressive-ttfs-window"
FOLDERS = {GAN: "gan", ANN: "ann-gan", CLASSIFIER: "classifier"}


@threads_kept()
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
        InputError: `out` holds a demo already and `resume` is false, or something else.
    """
    held = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    if held and not held & set(FOLDERS.values()):
        raise InputError(f"{out} is not empty and holds no demo; give another {option('out')}")
    options = Options(out, seeds=(seed,), epochs=epochs)
    runs = {}
    for run in DEMO.runs:
        (job,) = run.jobs(options)
        folder, config = out / FOLDERS[run.preset], job.config(options)
        runs[run.name] = [(job, train(folder, run.preset, config, seed, resume=resume, threads=threads))]
    experiment = replace(DEMO, measuring_threads=threads or 1)
    return write_report(experiment, *measure_all(experiment, options, runs))


def _tables(measured: Measured) -> list[Table]:
    gan, classifier = measured.runs[GAN][0], measured.runs[CLASSIFIER][0]
    return [
        Table(
            "Generated digits",
            {"single-spike GAN": measured.row(GAN), "ANN GAN of the same size": measured.row(ANN)}
            | measured.others["controls"]["digits"],
            [Column(name) for name in ("frechet_distance", "recall", "precision", "right_label_rate")],
            notes=[
                f"{gan['feature_label']}; 300 images against 300 test images. An image takes "
                f"{gan['spikes_per_image']:.0f} spikes, at most one per neuron, in "
                f"{gan['steps_per_image']} "
                'steps. Controls: "real" are training images; "mean image" are pixels drawn independently '
                "from the mean image of a class, which no eye takes for a digit. See how high its recall "
                "and right-digit rate are: no single figure says enough."
            ],
        ),
        Table(
            "A classifier that decides at the first spike",
            measured.rows([CLASSIFIER]),
            [
                Column(name)
                for name in (
                    "accuracy",
                    "tie_rate",
                    "silent_rate",
                    "steps_to_decision",
                    "spikes_to_decision",
                )
            ],
            "preset",
            [f"300 test images; {classifier['decision_rule']}."],
        ),
    ]


def _samples(finished: Finished, name: str, count: int) -> Tensor:
    run = finished.open(name)
    return run.config.sample(run.load(), count, finished.options.seeds[0]).images


def _pictures(finished: Finished) -> Iterator[Picture]:
    test = load("digits", "test")
    grid = sample_grid(_samples(finished, GAN, 100), 10)
    section = "Samples"
    caption = "100 images of the single-spike GAN, one column per digit, not selected."
    yield Picture(section, "samples.png", caption, grid)
    strips = {
        "real": by_class(test.images, test.labels),
        "single-spike GAN": _samples(finished, GAN, 10),
        "ANN GAN of the same size": _samples(finished, ANN, 10),
    }
    caption = "Real test images above generated ones, the first of each digit."
    yield Picture(section, "comparison.png", caption, sample_comparison(strips, 10))
    raster, animation = decision_pictures(finished.open(CLASSIFIER), test)
    section = "A decision"
    yield Picture(section, "raster.png", f"Every spike of one decision. {RASTER_COLOURS}", raster)
    caption = f"The same decision as it is made. {ANIMATION_COLOURS}"
    yield Picture(section, "decision.gif", caption, animation)


def by_class(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the first image of each class, ``(classes, height, width)``."""
    return torch.stack([images[labels == c][0] for c in labels.unique()])


DEMO = Experiment(
    name="demo",
    title="firstspike demo",
    subtitle="Every neuron spikes at most once; 8 x 8 digits, nothing downloaded",
    split="scikit-learn digits: 1,197 training, 300 validation, 300 test images",
    runs=[Run(name, dataset="digits") for name in FOLDERS],
    tables=_tables,
    pictures=_pictures,
    curves={
        "loss": ["generator_loss", "discriminator_loss"],
        "validation accuracy": ["validation_accuracy"],
        "spikes to decision": ["spikes_to_decision"],
    },
    judged=False,
)
