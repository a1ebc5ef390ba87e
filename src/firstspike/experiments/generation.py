"""``reproduce generation``: convolutional GANs and autoencoders of window neurons, and their ANNs."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import torch

from firstspike.data import NotHereError, load
from firstspike.data.n_mnist import load_n_mnist, recorded_images
from firstspike.experiments.jobs import Run
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
from firstspike.experiments.uses import SWEEP_US, EventReader, between, every_label
from firstspike.metrics.features import feature_network
from firstspike.metrics.sampling import generation_cost
from firstspike.models.vae import Vae
from firstspike.plot import sample_comparison, sample_grid
from firstspike.recipes import preset
from firstspike.recipes.base import Recipe
from firstspike.recipes.conv_gan import SpikingConvGan
from firstspike.recipes.vae import VaeRecipe

# What a run takes on one core with bfloat16 units, in minutes, from the time of its first epochs.
GAN_MINUTES, VARIANT_MINUTES, VAE_MINUTES = 15.0, 4.0, 10.0
GAN, ANN_GAN = "spiking-gan-conv", "ann-gan-conv"
FASHION, ANN_FASHION = "spiking-gan-conv-fashion", "ann-gan-conv-fashion"
VAE, ANN_VAE = "spiking-vae", "ann-vae"
VAE_FASHION, ANN_VAE_FASHION = "spiking-vae-fashion", "ann-vae-fashion"
# The controls' names in ``firstspike evaluate --json``, and what they are.
CONTROLS = {"real": "training images", "mean image": "pixels of the class mean"}
PAIRS = {GAN: ANN_GAN, FASHION: ANN_FASHION, VAE: ANN_VAE, VAE_FASHION: ANN_VAE_FASHION}
PAIRED = [name for pair in PAIRS.items() for name in pair]
# Variants are trained for a quarter as long, and compared with the preset after as long.
VARIANT_EPOCHS = 6
BASE = f"{VARIANT_EPOCHS} epochs"
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "no spectral norm": {"spectral": False},
    "no shifts": {"shift_px": 0},
    "the critic names the class": {"labels": "auxiliary"},
    "no moving average": {"ema": 0.0},
}
PENALTIES: Mapping[str, Mapping[str, Any]] = {
    "no spike penalty": {"spike_penalty": 0.0},
    "spike penalty 1": {"spike_penalty": 1.0},
}
# Windows of the hidden layers and of the pixels in which the trained weights are taken.
HALF = (8, 32)
WINDOWS = ((4, 16), HALF, (32, 128), (8, 64), (16, 32), (16, 256))
# What an autoencoder that sees less gives back, and what the pictures call it.
USES: Mapping[str, Mapping[str, Any]] = {
    "upper halves completed": {"corruption": "half"},
    "noise taken away": {"corruption": "noise"},
}
QUALITY = [
    *map(Column, ("frechet_distance", "second_frechet_distance", "precision", "recall")),
    Column("right_label_rate", "right class"),
    Column("classification_accuracy_score"),
]
COST = [
    Column("spikes_per_neuron"),
    Column("steps_per_image", "steps"),
    Column("energy_pj"),
    Column("training_seconds", "training, minutes", 0, 1 / 60),
]


def generation() -> Experiment:
    """Return the experiment."""
    return Experiment(
        name="generation",
        title="Generation: convolutional networks and autoencoders",
        subtitle="Images from networks whose neurons spike at most once",
        split="test images; as many generated as real",
        runs=[
            *(Run(name, minutes=GAN_MINUTES if "gan" in name else VAE_MINUTES) for name in PAIRED),
            *(
                Run(
                    GAN,
                    changed(GAN, {"epochs": VARIANT_EPOCHS, **changes}),
                    variant=name,
                    seeds=1,
                    minutes=VARIANT_MINUTES,
                )
                for name, changes in {BASE: {}, **ABLATIONS, **PENALTIES}.items()
            ),
            *(
                Run(VAE, changed(VAE, changes), variant=name, seeds=1, minutes=VAE_MINUTES)
                for name, changes in USES.items()
            ),
        ],
        tables=lambda measured: list(_tables(measured)),
        others=_others,
        headlines=_headlines,
        targets=_targets,
        pictures=_pictures,
        curves={
            "loss": ["generator_loss", "critic_loss"],
            "evidence bound, validation": ["validation_bound"],
        },
    )


def changed(name: str, changes: Mapping[str, Any]) -> Recipe:
    """Return a preset's recipe with other fields."""
    return replace(preset(name).recipe, **changes)


def _others(finished: Finished) -> Mapping[str, Any]:
    """Figures of the convolutional GANs' first runs in other windows than they were trained with."""
    return {
        "windows": {name: _in_windows(finished, name) for name in (GAN, FASHION) if name in finished.runs}
    }


def _in_windows(finished: Finished, name: str) -> dict[str, dict[str, Any]]:
    run, data_dir = finished.open(name), finished.options.data_dir
    recipe = cast(SpikingConvGan, run.config)
    test, train = recipe.data("test", data_dir), recipe.data("train", data_dir)
    judges = [feature_network(recipe.dataset, data_dir, judge) for judge in ("first", "second")]
    rows = {}
    for steps, pixel_steps in WINDOWS:
        other = run.with_windows({"steps": steps, "pixel_steps": pixel_steps})
        generator = cast(SpikingConvGan, other.config).generator(other.load())
        samples, quality = recipe.generate(generator, test, train, *judges)
        figures = {**quality.as_dict(), **generation_cost(generator, samples)}
        rows[_windows(steps, pixel_steps)] = {"seed": run.seed, **figures}
    return rows


def _other_windows(measured: Measured) -> dict[str, dict[str, Row]]:
    """Figures in other windows, of networks that were measured as trained."""
    windows = measured.others.get("windows", {})
    return {name: rows for name, rows in windows.items() if name in measured}


def _as_trained(measured: Measured, name: str) -> Row:
    """Figures of the run that was measured in other windows, in those that it was trained with."""
    seed = next(iter(measured.others["windows"][name].values()))["seed"]
    return next(run for run in measured.runs[name] if run["seed"] == seed)


def _windows(steps: int, pixel_steps: int) -> str:
    return f"{steps} hidden, {pixel_steps} pixel steps"


def _beside(measured: Measured, names: list[str], columns: list[Column]) -> dict[str, Row]:
    """The rows of these names that were measured, and both controls."""
    rows: dict[str, Row] = {**measured.rows(names)}
    dataset = str(preset(names[0]).recipe.dataset)
    for control, label in CONTROLS.items():
        figures = measured.others["controls"][dataset][control]
        rows[label] = {column.figure: figures.get(column.figure) for column in columns}
    return rows


def _tables(measured: Measured) -> Iterator[Table]:
    for names, caption in (
        ([GAN, ANN_GAN], "MNIST, all digits in one network that takes the label"),
        ([FASHION, ANN_FASHION], "Fashion-MNIST, all classes in one network"),
    ):
        if not any(name in measured for name in names):
            continue
        judged = measured.runs[next(name for name in names if name in measured)][0]
        yield Table(
            caption,
            _beside(measured, names, QUALITY),
            [*QUALITY, *COST],
            notes=[
                f"{judged['feature_label']}: 64 features of the package's own CNN (validation accuracy "
                f"{_percent(judged, 'feature_accuracy')}), and of a second one of another architecture "
                f"({_percent(judged, 'second_feature_accuracy')}); not comparable with Inception features.",
                "Classifier trained on samples: accuracy on test images; trained on the training images it "
                f"has {_percent(judged, 'classification_accuracy_score_of_real')}. Right class: by the "
                "first CNN; pixels of the class mean have a high one too.",
                "Training images: as many as there are test images.",
            ],
        )
    for names, title in (
        ([VAE, ANN_VAE], "MNIST"),
        ([VAE_FASHION, ANN_VAE_FASHION], "Fashion-MNIST"),
    ):
        if any(name in measured for name in names):
            columns = [
                Column("reconstruction_error"),
                Column("bound", "evidence bound, nats", 0),
                *QUALITY[:4],
            ]
            yield Table(
                f"{title}, variational autoencoders",
                _beside(measured, names, columns),
                [*columns, *COST],
                notes=[
                    "Reconstructions of test images by the likeliest latents; the other figures are of "
                    "samples from the prior. Bounds of densities in 0 ... 1; those of the spiking network "
                    "hold for images of its 64 levels.",
                ],
            )
    names = [name for name in (VAE, *USES) if name in measured]
    if any(name in measured for name in USES):
        error = Column("reconstruction_error", "squared error of a pixel")
        yield Table(
            "Autoencoders that see less of an MNIST image than they give back",
            measured.rows(names),
            [error, Column("bound", "evidence bound, nats", 0), *COST[:-1]],
            notes=["Against the whole test images without noise; one seed of each use."],
        )
    for name, title in ((GAN, "MNIST"), (FASHION, "Fashion-MNIST")):
        rows = _other_windows(measured).get(name)
        if rows is None:
            continue
        recipe, trained = cast(SpikingConvGan, preset(name).recipe), _as_trained(measured, name)
        yield Table(
            f"{title}: the same weights in other windows, not trained again",
            {
                f"{_windows(recipe.steps, recipe.pixel_steps)}, as trained": trained,
                **rows,
            },
            [*QUALITY[:-1], *COST[:-1]],
            notes=[f"`{name}`, seed {trained['seed']}; {recipe.in_steps} steps of noise."],
        )
    for caption, variants in (
        ("What makes the GAN stable: one thing changed", ABLATIONS),
        ("Quality against spikes", PENALTIES),
    ):
        names = [name for name in (BASE, *variants) if name in measured]
        if names:
            notes = [f"`{GAN}` for {VARIANT_EPOCHS} epochs, one seed of each."]
            yield Table(caption, measured.rows(names), [*QUALITY, *COST], notes=notes)


def _percent(figures: Row, name: str) -> str:
    return f"{100 * figures[name]:.2f} %"


def _headlines(measured: Measured) -> Iterator[list[str]]:
    quality = [
        Column("frechet_distance", "FD {}", 1),
        Column("recall", "recall {}"),
        Column("right_label_rate", "right class {} %", 1, 100),
    ]
    columns = [*quality, Column("spikes_per_neuron", "{} spikes per neuron", 2)]
    for name, ann in PAIRS.items():
        if name not in measured:
            continue
        controls = measured.others["controls"][str(preset(name).recipe.dataset)]
        distances = (
            f"{words} {controls[control]['frechet_distance']:.{digits}f}"
            for control, words, digits in (
                ("real", "training images FD", 1),
                ("mean image", "class mean", 0),
            )
        )
        beside = [f"ANN: {sentence(measured.row(ann), quality)}"] if ann in measured else []
        yield [
            preset(name).summary,
            sentence(measured.row(name), columns),
            "; ".join([*beside, ", ".join(distances)]),
        ]


def _targets(measured: Measured) -> Iterator[Target]:
    for name, factor in ((GAN, 1.1), (FASHION, 1.3), (VAE, 1.1), (VAE_FASHION, 1.1)):
        if name not in measured or PAIRS[name] not in measured:
            continue
        ours, ann = measured.row(name), measured.row(PAIRS[name])
        for figure in ("frechet_distance", "reconstruction_error"):
            if figure in ours:
                bound = factor * ann[figure]["mean"]
                yield Target(f"`{name}`", figure, ours[figure], bound, f"{factor:g} times the ANN's")
    for name, rows in _other_windows(measured).items():
        figure, trained = "frechet_distance", _as_trained(measured, name)
        half = {"mean": rows[_windows(*HALF)][figure], "sd": None}
        what = f"`{name}`, half the steps, seed {trained['seed']}"
        yield Target(what, figure, half, 1.1 * trained[figure], "1.1 times that of all steps")


def _pictures(finished: Finished) -> Iterator[Picture]:
    seed, data_dir = finished.options.seeds[0], finished.options.data_dir
    for name in PAIRED:
        if name not in finished.runs:
            continue
        run = finished.open(name)
        images = run.config.sample(run.load(), 100, seed).images
        yield Picture(
            "Samples", f"{name}.png", f"`{name}`: the first 100 of seed {seed}.", sample_grid(images, 10)
        )
    for name in (GAN, FASHION):
        if name in finished.runs:
            run = finished.open(name)
            generator = cast(SpikingConvGan, run.config).generator(run.load())
            yield Picture(
                "The same noise under every label",
                f"{name}-labels.png",
                f"`{name}`: a row is one noise.",
                sample_grid(every_label(generator, 8, seed), 10),
            )
    for name in (VAE, VAE_FASHION):
        if name not in finished.runs:
            continue
        run = finished.open(name)
        recipe, model = cast(VaeRecipe, run.config), cast(Vae, run.load())
        test = load(recipe.dataset, "test", data_dir).images[:16]
        strips = {"test images": test, "reconstructed": recipe.reconstructed(model, test)}
        yield Picture(
            "Reconstructions", f"{name}-reconstructed.png", f"`{name}`.", sample_comparison(strips, 16)
        )
        yield Picture(
            "Between two images",
            f"{name}-between.png",
            f"`{name}`: from a test image to the next, spike time by spike time.",
            sample_grid(between(recipe, model, test), 10),
        )
    for name in USES:
        if name in finished.runs:
            run = finished.open(name)
            recipe, model = cast(VaeRecipe, run.config), cast(Vae, run.load())
            test = load(recipe.dataset, "test", data_dir).images[:16]
            torch.manual_seed(seed)
            seen = recipe.corrupted(test)
            strips = {
                "what it sees": seen,
                "what comes out": recipe.reconstructed(model, seen),
                "test images": test,
            }
            file = f"{VAE}-{name.replace(' ', '-')}.png"
            yield Picture(name.capitalize(), file, f"`{VAE}`.", sample_comparison(strips, 16))
    if VAE in finished.runs:
        yield from _event_pictures(finished)


def _event_pictures(finished: Finished) -> Iterator[Picture]:
    """Digits from recordings of an event camera, where N-MNIST or a part of it is at hand."""
    data_dir = finished.options.data_dir
    try:
        events = {
            split: replace(load_n_mnist(split, data_dir), duration_us=SWEEP_US).first_spikes().images
            for split in ("train", "test")
        }
    except NotHereError:
        return
    run = finished.open(VAE)
    torch.manual_seed(finished.options.seeds[0])
    reader = EventReader(cast(VaeRecipe, run.config), cast(Vae, run.load()))
    reader.learn(events["train"], recorded_images("train", data_dir).images)
    images, shown = recorded_images("test", data_dir).images, slice(None, None, 6)
    seen, drawn = reader.middle(events["test"]), reader(events["test"])
    error = (drawn / 255 - images / 255).square().mean()
    yield Picture(
        "Images from events",
        f"{VAE}-events.png",
        f"`{VAE}`'s decoder behind an encoder that learned from {len(events['train'])} recordings of "
        f"N-MNIST; squared error of a pixel on {len(seen)} others {error:.4f}.",
        sample_comparison(
            {
                "first events of a pixel: darker": seen[shown, 0],
                "brighter": seen[shown, 1],
                "from these events": drawn[shown],
                "the image before the camera": images[shown],
            },
            17,
        ),
    )


GENERATION = generation()
