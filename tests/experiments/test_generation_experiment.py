"""``reproduce generation``: its runs, and the whole of it on the embedded digits in few steps."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from firstspike.data import load
from firstspike.data.events import EventSet, Recording
from firstspike.experiments import generation, jobs, run_experiment
from firstspike.experiments.jobs import Options
from firstspike.recipes import preset

TINY = {"dataset": "digits", "noise_size": 4, "epochs": 1}
GAN = {"generator_maps": 4, "critic_maps": 4, "critic_features": 8}
VAE = {"encoder_maps": 4, "features": 8, "decoder_maps": 4}


def tiny(name):
    entry = preset(name)
    sizes = GAN if "gan" in name else VAE
    return dataclasses.replace(
        entry, recipe=dataclasses.replace(entry.recipe, **TINY, **sizes), one_dataset=True
    )


def test_each_preset_has_its_ann_and_the_variants_one_seed():
    experiment = generation.generation()
    names = [run.name for run in experiment.runs]
    assert names[:8] == [name for pair in generation.PAIRS.items() for name in pair]
    options = Options(None, seeds=(0, 1, 2))
    for run in experiment.runs:
        assert len(run.jobs(options)) == (3 if run.name in generation.PAIRED else 1)
        assert run.minutes > 0
    variants = {run.name: run.config for run in experiment.runs if run.config is not None}
    short = {"epochs": generation.VARIANT_EPOCHS}
    of_gan = {generation.BASE: {}, **generation.ABLATIONS, **generation.PENALTIES}
    expected = {name: short | changes for name, changes in of_gan.items()} | generation.USES
    for name, changes in expected.items():
        whole = preset(generation.VAE if name in generation.USES else generation.GAN).recipe
        differ = {
            field.name: getattr(variants[name], field.name)
            for field in dataclasses.fields(variants[name])
            if getattr(variants[name], field.name) != getattr(whole, field.name)
        }
        assert differ == changes


def few_recordings(split, data_dir):
    """Twelve recordings of 10 x 10 pixels."""
    ends = np.array([0, 9]), np.array([0, 9]), np.array([0, 1]), np.array([0, 99])
    recordings = (Recording(*ends, (10, 10)),) * 12
    return EventSet("n-mnist", split, recordings, torch.zeros(12, dtype=torch.int64), 10)


@pytest.mark.slow
def test_report_and_figures(monkeypatch, train_here, tmp_path):
    monkeypatch.setenv("FIRSTSPIKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(generation, "preset", tiny)
    monkeypatch.setattr(jobs, "preset", tiny)
    monkeypatch.setattr(generation, "ABLATIONS", {"no shifts": {"shift_px": 0}})
    monkeypatch.setattr(generation, "VARIANT_EPOCHS", 2)
    monkeypatch.setattr(generation, "PENALTIES", {"no penalty": {"spike_penalty": 0.0}})
    monkeypatch.setattr(generation, "WINDOWS", (generation.HALF, (16, 64)))
    monkeypatch.setattr(generation, "USES", {"upper halves completed": {"corruption": "half"}})
    monkeypatch.setattr(generation, "load_n_mnist", few_recordings)
    digits = load("digits", "test")
    few = dataclasses.replace(digits, images=digits.images[:12], labels=digits.labels[:12])
    monkeypatch.setattr(generation, "recorded_images", lambda split, data_dir: few)
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    report = run_experiment(generation.generation(), out=tmp_path / "out", seeds=[0], results=results)
    document = json.loads((results / "generation.json").read_text())
    rows = [[row[0] for row in table["rows"]] for table in document["tables"]]
    controls = ["training images", "pixels of the class mean"]
    trained = "16 hidden, 64 pixel steps"
    assert rows == [
        ["`spiking-gan-conv`", "`ann-gan-conv`", *controls],
        ["`spiking-gan-conv-fashion`", "`ann-gan-conv-fashion`", *controls],
        ["`spiking-vae`", "`ann-vae`", *controls],
        ["`spiking-vae-fashion`", "`ann-vae-fashion`", *controls],
        ["`spiking-vae`", "upper halves completed"],
        windows := ["16 hidden, 64 pixel steps, as trained", "8 hidden, 32 pixel steps", trained],
        windows,
        [generation.BASE, "no shifts"],
        [generation.BASE, "no penalty"],
    ]
    assert len(document["headlines"]) == 4
    for name, found in document["windows"].items():
        # In the windows of the training it is the same network.
        assert found[trained].items() <= document["runs"][name][0].items()
        assert found["8 hidden, 32 pixel steps"]["steps_per_image"] == 16 + 3 * 8 + 32
    pictures = {path.name for path in (tmp_path / "out" / "pictures").iterdir()}
    assert {f"{name}.png" for name in generation.PAIRED} <= pictures
    of_uses = (
        "spiking-vae-reconstructed",
        "spiking-vae-between",
        "spiking-vae-events",
        "spiking-vae-upper-halves-completed",
        "spiking-gan-conv-labels",
    )
    assert {f"{name}.png" for name in of_uses} <= pictures
    assert "times the ANN" in report.read_text(encoding="utf-8")
