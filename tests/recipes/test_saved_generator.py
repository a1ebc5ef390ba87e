"""Generators saved with their layers draw the same; made smaller; and refused where data differ."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import refused
from safetensors.torch import load_file

import firstspike as fs
from firstspike.cli import main
from firstspike.models.conv_gan import ConvGenerator, Levels
from firstspike.models.gan import SpikingGenerator
from firstspike.recipes import SavedGenerator
from firstspike.training.network import shrink

LABELS = torch.arange(10)


def generator(*, shape=(1, 8, 8), classes=10, prior=False):
    torch.manual_seed(0)
    made = ConvGenerator(shape, noise_size=6, num_classes=classes, maps=4, levels=Levels())
    with torch.no_grad():
        made.pixels.weight.mul_(4)
        for _ in range(30):  # until batch normalisation knows its membranes
            made(made.noise(64), torch.arange(64) % classes if classes else None)
    made.eval()
    noise = torch.rand(6, made.levels.in_steps + 1) if prior else None
    return made.spiking(noise)


def pictures(net, count=10):
    noise = net.noise(count, torch.Generator().manual_seed(1))
    with torch.no_grad():
        return net.images(net(noise, LABELS[:count] if net.num_classes else None))


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("classes", [0, 10])
def test_a_saved_generator_draws_the_same(tmp_path, prior, classes):
    net = generator(classes=classes, prior=prior)
    run = fs.save_network(tmp_path / "run", net, "digits")
    again = fs.load(tmp_path / "run")
    assert isinstance(run.config, SavedGenerator)
    assert isinstance(again, SpikingGenerator)
    assert torch.equal(pictures(again), pictures(net))
    assert pictures(net).float().std() > 0
    assert again.image_shape == (8, 8)
    figures = fs.evaluate(run, show_progress=False)
    assert figures["generated_count"] == 300
    assert ("classification_accuracy_score" in figures) == (classes > 0)


def test_a_fully_connected_generator_is_saved_too(tmp_path):
    torch.manual_seed(0)
    stack = fs.Stack(fs.Linear(15, 20, fs.Window()), fs.Linear(20, 64, fs.Window()), steps=16)
    net = SpikingGenerator(stack, 5, (8, 8), 10)
    fs.save_network(tmp_path / "run", net, "digits")
    assert torch.equal(pictures(fs.load(tmp_path / "run")), pictures(net))


def test_what_a_run_gives_is_exported_and_saved_as_its_spiking_form(tmp_path):
    """``load`` of a convolutional GAN's run gives the network of values that was trained."""
    config = fs.preset("spiking-gan-conv").configure(dataset="digits", epochs=1)
    run = fs.train(tmp_path / "run", "spiking-gan-conv", config, seed=0, threads=1, show_progress=False)
    net = fs.load(run.path)
    assert isinstance(net, ConvGenerator)
    fs.save_network(tmp_path / "saved", net, "digits")
    assert torch.equal(pictures(fs.load(tmp_path / "saved")), pictures(net.spiking()))
    assert torch.equal(pictures(fs.integer(net)), pictures(fs.integer(net.spiking())))
    fs.export.c(net, tmp_path / "one")
    fs.export.c(net.spiking(), tmp_path / "other")
    assert (tmp_path / "one" / "network.c").read_bytes() == (tmp_path / "other" / "network.c").read_bytes()
    small = shrink(str(run.path), tmp_path / "small")
    assert torch.equal(pictures(small.load()), pictures(fs.integer(net)))


def test_other_data_are_refused_before_anything_is_learnt_of_them(tmp_path, monkeypatch):
    def learnt(*arguments):
        raise AssertionError("a feature network was asked for")

    monkeypatch.setattr("firstspike.recipes.generation.feature_network", learnt)
    net = generator()
    run = fs.save_network(tmp_path / "run", net, "digits")
    images, labels = torch.zeros(60, 12, 12, dtype=torch.uint8), torch.arange(60) % 3
    with refused(fs.InputError, "draws 8 x 8 pixels of 10 classes", "12 x 12 and 3"):
        fs.evaluate(run, data=(images, labels), show_progress=False)
    with refused(fs.InputError, "8 x 8 and 3"):
        fs.evaluate(run, data=(images[:, :8, :8], labels), show_progress=False)


def test_too_few_test_images_are_refused_before_anything_is_learnt_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr("firstspike.recipes.generation.feature_network", lambda *arguments: 1 / 0)
    images = torch.randint(0, 256, (9, 8, 8), generator=torch.Generator().manual_seed(0))
    data = images.to(torch.uint8), torch.arange(9) % 3
    config = fs.preset("spiking-gan-conv").configure(dataset=fs.data.own(data), epochs=1)
    run = fs.train(tmp_path / "run", "spiking-gan-conv", config, seed=0, threads=1, show_progress=False)
    with refused(fs.InputError, "test split", "3 images", "need 6"):
        fs.evaluate(run, data=data, show_progress=False)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    net = generator()
    with torch.no_grad():
        net.stack[0].weight[0, 0] = torch.nan
    with refused(ValueError, "stack.layers.0.weight", "NaN"):
        fs.save_network(tmp_path / "run", net, "digits")
    assert not (tmp_path / "run").exists()


def test_an_edited_configuration_is_one_line(tmp_path):
    run = fs.save_network(tmp_path / "run", generator(), "digits")
    file = run.path / "config.json"
    file.write_text(file.read_text().replace('"noise_size": 6', '"noise_size": 7'))
    with refused(fs.InputError, "saved generator", "16", "17"):
        fs.load(run.path)


def test_sizes_of_a_generator_are_checked():
    stack = fs.Stack(fs.Linear(15, 20), fs.Linear(20, 64), steps=16)
    sizes = {"stack": stack, "noise_size": 5, "image_shape": (8, 8), "num_classes": 10}
    for changes, error, words in (
        ({"stack": torch.nn.Linear(15, 64)}, TypeError, ("Stack", "Linear")),
        ({"noise_size": 6}, ValueError, ("takes 15 features", "found 16")),
        ({"noise_size": 0}, ValueError, ("noise_size", "0")),
        ({"num_classes": -1}, ValueError, ("num_classes", "-1")),
        ({"image_shape": (8, 9)}, ValueError, ("image_shape", "(64,)", "(8, 9)")),
        ({"image_shape": (64,)}, ValueError, ("image_shape", "(64,)")),
        ({"image_shape": 64}, ValueError, ("image_shape", "64")),
        ({"image_shape": (-8, -8)}, ValueError, ("image_shape", "-8")),
        ({"image_shape": (8.0, 8.0)}, ValueError, ("image_shape", "8.0")),
        ({"prior": torch.ones(5, 16)}, ValueError, ("(5, 17)", "(5, 16)")),
        ({"prior": -torch.ones(5, 17)}, ValueError, ("prior", "none negative")),
        ({"prior": torch.zeros(5, 17)}, ValueError, ("prior", "one above 0")),
        ({"prior": torch.full((5, 17), torch.nan)}, ValueError, ("prior", "finite")),
        ({"prior": torch.full((5, 17), torch.inf)}, ValueError, ("prior", "finite")),
        ({"prior": torch.ones(5, 17, dtype=torch.int64)}, ValueError, ("prior", "floats")),
    ):
        with refused(error, *words):
            SpikingGenerator(**sizes | changes)
    net = SpikingGenerator(stack, 5, (8, 8), 10)
    with refused(TypeError, "Spikes", "Tensor"):
        net(torch.rand(10, 5), LABELS)
    with refused(ValueError, "noise must be (batch, 5)", "(10, 4)"):
        net(fs.Spikes(torch.zeros(10, 4), 16), LABELS)
    with refused(ValueError, "noise.count", "-1"):
        net.noise(-1)
    for shape in ((1, 8, 8), tuple(np.array([8, 8]))):
        assert SpikingGenerator(**sizes | {"image_shape": shape}).image_shape == (8, 8)
    assert SpikingGenerator(**sizes, prior=torch.ones(5, 17)).noise(0).shape == (0, 5)


@pytest.mark.parametrize("preset", ["spiking-gan-conv", "spiking-vae"])
def test_a_run_made_smaller_draws_as_the_integer_network(tmp_path, preset):
    config = fs.preset(preset).configure(dataset="digits", epochs=1)
    run = fs.train(tmp_path / "run", preset, config, seed=0, threads=1, show_progress=False)
    small = shrink(run, tmp_path / "small")
    whole = fs.integer(run.config.exported(run.load()))
    assert torch.equal(pictures(small.load()), pictures(whole))
    tensors = load_file(tmp_path / "small" / "model.safetensors")
    assert {tensors[f"stack.layers.{k}.weight"].dtype for k in range(4)} == {torch.int8}
    assert ("prior" in tensors) == (preset == "spiking-vae")
    picture = tmp_path / "digits.png"
    assert main(["sample", str(tmp_path / "small"), "--count", "10", "--out", str(picture)]) == 0
    assert picture.exists()
    again = shrink(small, tmp_path / "again")
    assert torch.equal(pictures(again.load()), pictures(whole))
    with refused(fs.InputError, "not trained"):
        fs.train(tmp_path / "small", preset, config, seed=0, resume=True)


def test_the_digit_of_a_run_is_kept(tmp_path):
    config = fs.preset("spiking-gan-window").configure(dataset="digits", digit=3, epochs=1)
    run = fs.train(tmp_path / "run", "spiking-gan-window", config, seed=0, threads=1, show_progress=False)
    small = shrink(run, tmp_path / "small")
    assert small.config.digit == 3
    count = int((fs.data.load("digits", "test").labels == 3).sum())
    assert fs.evaluate(small, show_progress=False)["reference_count"] == count


def test_what_does_not_fit_is_refused(tmp_path):
    net = generator()
    with refused(fs.InputError, "generator", "name their data set"):
        fs.save_network(tmp_path / "run", net)
    with refused(fs.InputError, "draws 8 x 8 pixels of 10 classes, mnist has 28 x 28 and 10"):
        fs.save_network(tmp_path / "run", net, "mnist")
    with refused(fs.InputError, "8 x 8 pixels of 9 classes, digits has 8 x 8 and 10"):
        fs.save_network(tmp_path / "run", generator(classes=9), "digits")
    with refused(fs.InputError, "unknown data set 'digit'"):
        fs.save_network(tmp_path / "run", net, "digit")
    assert list(tmp_path.iterdir()) == []
    run = fs.save_network(tmp_path / "run", net, "digits")
    broken = replace(run.config, network=replace(run.config.network, steps=0))
    with refused(fs.InputError, "cannot be built"):
        broken.build(*broken.sizes())
