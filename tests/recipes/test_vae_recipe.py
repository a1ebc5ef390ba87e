"""Autoencoders train, resume, reconstruct and refuse."""

import dataclasses

import pytest
import torch
from builders import refused

from firstspike.data import load
from firstspike.models.gan import SpikingGenerator
from firstspike.recipes import PRESETS, preset
from firstspike.recipes.vae import AnnVae, SpikingVae, VaeRecipe
from firstspike.support import InputError
from firstspike.training.loop import train_recipe
from firstspike.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "dataset": "digits",
    "noise_size": 6,
    "encoder_maps": 6,
    "features": 24,
    "decoder_maps": 8,
    "batch_size": 32,
    "precision": "float32",
    "epochs": 3,
}
KINDS = {"spiking": SpikingVae(**SMALL), "ann": AnnVae(**SMALL)}


@pytest.fixture(scope="module")
def digits():
    return load("digits", "train"), load("digits", "validation")


@pytest.fixture(params=KINDS)
def recipe(request):
    return KINDS[request.param]


def started(path, recipe, name="spiking-vae"):
    return RunFolder.create(path, name, recipe, 0)


def test_it_learns_to_reconstruct_better_than_the_mean_image(tmp_path, digits, recipe):
    recipe = dataclasses.replace(recipe, epochs=25)
    train, validation = digits
    run = started(tmp_path / "run", recipe)
    train_recipe(run, train, validation, show_progress=False)
    wanted = validation.images.to(torch.float32) / 255
    mean = train.images.to(torch.float32).mean(0) / 255
    found = recipe.reconstructed(run.load(), validation.images).to(torch.float32) / 255
    assert found.shape == wanted.shape
    assert (found - wanted).square().mean() < 0.8 * (mean - wanted).square().mean()
    records = run.load_state().records
    assert records[-1]["validation_bound"] > records[0]["validation_bound"]
    # The best epoch is kept.
    best = max(record["validation_bound"] for record in records)
    assert recipe.judge(run.load(), validation)["validation_bound"] == pytest.approx(best)


def test_stopped_and_resumed_is_the_same_to_the_bit(tmp_path, digits, recipe):
    train, validation = (
        dataclasses.replace(split, images=split.images[:80], labels=split.labels[:80]) for split in digits
    )
    whole = started(tmp_path / "whole", recipe)
    train_recipe(whole, train, validation, show_progress=False)

    def stop(epoch, _):
        if epoch == 1:
            raise KeyboardInterrupt

    again = started(tmp_path / "stopped", recipe)
    with pytest.raises(KeyboardInterrupt):
        train_recipe(again, train, validation, show_progress=False, watch=stop)
    train_recipe(again, train, validation, show_progress=False)
    one, two = whole.load_state().tensors, again.load_state().tensors
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("corruption", ["noise", "half"])
def test_the_encoder_sees_less_than_comes_out(digits, corruption):
    recipe = dataclasses.replace(KINDS["spiking"], corruption=corruption)
    images = digits[0].images[:5]
    seen = recipe.corrupted(images)
    assert seen.dtype == torch.uint8
    assert seen.shape == images.shape
    assert not torch.equal(seen, images)
    if corruption == "half":
        assert torch.equal(seen[:, :4], images[:, :4])
        assert not seen[:, 4:].any()
    with refused(TypeError, "uint8", "float32"):
        recipe.corrupted(images / 255)


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if isinstance(p.recipe, VaeRecipe)])
def test_every_preset_takes_an_epoch_and_draws_images(tmp_path, digits, name):
    recipe = dataclasses.replace(preset(name).recipe, dataset="digits", epochs=1)
    run = started(tmp_path / "run", recipe, name)
    train_recipe(run, *digits, show_progress=False)
    samples = recipe.sample(run.load(), 20)
    assert samples.images.shape == (20, 8, 8)
    assert samples.labels.tolist() == [-1] * 20
    if isinstance(recipe, SpikingVae):
        exported = recipe.exported(run.load())
        assert isinstance(exported, SpikingGenerator)
        neurons = torch.tensor([16, *(s[0] * s[1] * s[2] for s in exported.stack.shapes((16, 1, 1))[1:])])
        assert (samples.spikes <= neurons).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conditional": True}, "takes no label"),
        ({"dataset": "dvs-gesture"}, "grey or colour images"),
    ],
)
def test_what_it_refuses(changes, words):
    with refused(InputError, words):
        dataclasses.replace(KINDS["spiking"], **changes).data("train")
