"""Uses of generators and autoencoders: between images, every label, images from events."""

import dataclasses

import pytest
import torch
from builders import refused
from torch.nn import functional as F

from firstspike.data import load
from firstspike.experiments.uses import EventReader, between, every_label
from firstspike.metrics.sampling import sample
from firstspike.recipes import preset
from firstspike.support import InputError
from firstspike.training.loop import train_recipe
from firstspike.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")

GAN = {"generator_maps": 4, "critic_maps": 4, "critic_features": 8}
VAE = {"encoder_maps": 4, "features": 8, "decoder_maps": 4}


def tiny(name):
    sizes = GAN if "gan" in name else VAE
    return dataclasses.replace(preset(name).recipe, dataset="digits", noise_size=4, **sizes)


def test_between_two_images_lie_both_and_what_is_between():
    recipe = tiny("spiking-vae")
    torch.manual_seed(0)
    model = recipe.build((1, 8, 8), 10).eval()
    images = load("digits", "test").images[:3]
    found = between(recipe, model, images, steps=4)
    assert found.shape == (2 * 4, 8, 8)
    ends = recipe.reconstructed(model, images)
    assert torch.equal(found[[0, 3, 7]], ends)


@pytest.mark.parametrize("name", ["spiking-gan-conv", "ann-gan-conv"])
def test_every_label_is_drawn_from_the_same_noise(name):
    recipe = tiny(name)
    torch.manual_seed(0)
    generator = recipe.generator(recipe.kept(recipe.build((1, 8, 8), 10)))
    found = every_label(generator, 2, seed=5)
    for label in range(10):
        assert torch.equal(found[label::10], sample(generator, 2, seed=5, label=label).images)


def test_a_generator_without_labels_is_refused():
    recipe = dataclasses.replace(tiny("ann-gan-conv"), conditional=False)
    generator = recipe.generator(recipe.kept(recipe.build((1, 8, 8), 10)))
    with refused(InputError, "takes no label"):
        every_label(generator, 2)


def seen_by_a_camera(images):
    """What a camera that passes over would report: both polarities, on a larger sensor."""
    return F.pad(torch.stack([images, 255 - images], 1), (1, 1, 1, 1))


@pytest.mark.parametrize(
    ("name", "windows"), [("spiking-vae", {"steps": 16, "latent_steps": 32}), ("ann-vae", {})]
)
def test_a_reader_of_events_learns_which_picture_they_are_of(tmp_path, name, windows):
    """Nearer to its training pictures than what the autoencoder makes of the pictures themselves."""
    sizes = {"decoder_maps": 16, "noise_size": 8, "epochs": 8, "batch_size": 32}
    recipe = dataclasses.replace(tiny(name), **sizes, **windows)
    run = RunFolder.create(tmp_path / "run", name, recipe, 0)
    train_recipe(run, load("digits", "train"), load("digits", "validation"), show_progress=False)
    model = run.load()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = load("digits", "train").images[:200]
    events = seen_by_a_camera(images)
    torch.manual_seed(0)
    reader = EventReader(recipe, model)
    assert torch.equal(reader.middle(events)[:, 0], images)
    reader.eval()

    def error(drawn):
        assert drawn.dtype == torch.uint8
        return (drawn / 255 - images / 255).square().mean()

    untrained = error(reader(events))
    reader.learn(events, images, epochs=20)
    assert error(reader(events)) < error(recipe.reconstructed(model, images)) < untrained
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_the_reader_refuses():
    recipe = tiny("spiking-vae")
    reader = EventReader(recipe, recipe.build((1, 8, 8), 10))
    with refused(InputError, "8 x 8 pixels or more", "found 6 x 8"):
        reader(torch.zeros(1, 2, 6, 8, dtype=torch.uint8))
    with refused(InputError, "grey images"):
        EventReader(recipe, recipe.build((3, 8, 8), 10))
