"""Convolutional generator and critic: the spiking form against the trained values, once each, steps."""

import copy

import pytest
import torch
from builders import refused
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.metrics.sampling import generation_cost, sample, stepped_agreement
from firstspike.models.conv_gan import ConvGenerator, Critic, Levels
from firstspike.nn.normed import renew_statistics
from firstspike.spikes import Spikes
from firstspike.support import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (1, 8, 12)


def generator(seed=0, *, shape=SHAPE, levels=Levels(), classes=3, maps=5):  # noqa: B008 - a frozen value
    torch.manual_seed(seed)
    made = ConvGenerator(shape, noise_size=6, num_classes=classes, maps=maps, levels=levels)
    renew_statistics(made, [made.received(*drawn(made, 40, k)) for k in range(3)])
    with torch.no_grad():
        made.pixels.weight.mul_(4)
    return made.eval()


def drawn(made, count=20, seed=1):
    source = torch.Generator().manual_seed(seed)
    noise = made.noise(count, source)
    labels = torch.arange(count) % made.num_classes if made.num_classes else None
    return noise, labels


def spikes_of(values, steps):
    return Spikes(torch.round((1 - values) * steps), steps)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", [(1, 8, 12), (3, 8, 8)])
def test_the_spiking_form_draws_the_very_pixels_of_the_trained_one(shape, classes):
    made = generator(shape=shape, classes=classes)
    noise, labels = drawn(made)
    *hidden, pixels = made.trace(made.received(noise, labels))
    spiking = made.spiking()
    traced = spiking.trace(spikes_of(noise, made.levels.in_steps), labels)
    assert [spikes.shape[1:] for spikes in traced[1:]] == [values.shape[1:] for values in (*hidden, pixels)]
    for values, spikes in zip((*hidden, pixels), traced[1:], strict=True):
        assert torch.equal(spikes.values, values.contiguous())
    # Many different values, or equality would say little.
    assert len(pixels.unique()) > 20
    images = spiking.images(traced[-1])
    assert images.shape == (20, *(shape if shape[0] > 1 else shape[1:]))
    assert torch.equal(images, made.images(pixels))
    assert (images.flatten() / 255 - pixels.flatten()).abs().max() <= 1 / 255


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 30), st.sampled_from([2, 7, 16]), st.sampled_from([2, 64]))
def test_every_neuron_spikes_at_most_once_on_random_weights(seed, spread, steps, pixel_steps):
    made = generator(seed, levels=Levels(steps=steps, in_steps=steps, pixel_steps=pixel_steps))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    noise, labels = drawn(made, 4, seed)
    traced = made.spiking().trace(spikes_of(noise, steps), labels)
    for spikes, window in zip(traced, (steps, steps, steps, steps, pixel_steps), strict=True):
        assert spikes.steps == window
        # Of all steps of its window, a neuron takes one or none.
        assert (spikes.raster().sum(0) <= 1).all()


def test_a_walk_step_by_step_gives_the_same_spikes():
    assert stepped_agreement(generator().spiking()) == 1


def test_samples_of_both_kinds_are_of_one_size_and_follow_the_seed():
    for levels in (Levels(), None):
        made = generator(levels=levels)
        drawing = made if levels is None else made.spiking()
        one, two, other = (sample(drawing, 7, seed).images for seed in (0, 0, 1))
        assert one.shape == (7, 8, 12)
        assert torch.equal(one, two)
        assert not torch.equal(one, other)


def test_labels_that_do_not_fit_the_noise_are_refused():
    made = generator(levels=Levels())
    for network, received in ((made, made.received), (made.spiking(), made.spiking())):
        noise = network.noise(3)
        with refused(ValueError, "this network is conditional; give labels 0 ... 2, one a sample"):
            received(noise)
        with refused(ValueError, "labels must have the shape (3,), one per sample, found (1,)"):
            network(noise, torch.tensor([1]))
        with refused(ValueError, "labels must lie in 0 ... 2, found 0 ... 3"):
            network(noise, torch.tensor([0, 3, 1]))
    with refused(ValueError, "and labels", "found the shape (3, "):
        made(made.noise(3))
    plain = generator(levels=Levels(), classes=0)
    with refused(ValueError, "this network is not conditional; leave out the labels"):
        plain(plain.noise(3), torch.arange(3))


@torch.no_grad()
def test_pixels_start_at_the_mean_of_the_images():
    pixels = torch.rand(50, 3, 8, 8) * torch.tensor([0.2, 1.0, 0.6])[:, None, None]
    for levels in (Levels(pixel_steps=1024), None):
        made = generator(shape=(3, 8, 8), levels=levels)
        made.start_at(pixels)
        torch.nn.init.zeros_(made.pixels.weight)
        found = made(*drawn(made)).mean((0, 2, 3))
        torch.testing.assert_close(found, pixels.mean((0, 2, 3)), atol=2e-3, rtol=0)


def critic(labels="projection", *, spectral=True, levels=Levels(), classes=3):  # noqa: B008 - a frozen value
    torch.manual_seed(0)
    return Critic(
        SHAPE, num_classes=classes, maps=4, features=9, labels=labels, spectral=spectral, levels=levels
    )


def largest(weight):
    """The largest singular value."""
    return float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2))


def test_spectral_norm_leaves_the_largest_singular_value_at_one():
    made = critic()
    pixels = torch.rand(4, *SHAPE)
    for _ in range(60):
        made(pixels, torch.zeros(4, dtype=torch.int64))
    for layer in (made.first, made.second, made.third, made.score, made.named):
        assert largest(layer.weight) == pytest.approx(1, abs=0.02)
    assert largest(critic(spectral=False).third.weight) != pytest.approx(1, abs=0.02)


def test_projection_adds_a_classes_weights_on_the_features_and_auxiliary_names_it():
    pixels, labels = torch.rand(5, *SHAPE), torch.tensor([0, 1, 2, 0, 1])
    made = critic(spectral=False)
    score, named = made(pixels, labels)
    assert score.shape == (5,)
    assert named is None
    silent = copy.deepcopy(made)
    torch.nn.init.zeros_(silent.named.weight)
    added = score - silent(pixels, labels)[0]
    # Twice the class's weights, twice as much.
    with torch.no_grad():
        made.named.weight.mul_(2)
    torch.testing.assert_close(made(pixels, labels)[0] - silent(pixels, labels)[0], 2 * added)
    other = made(pixels, (labels + 1) % 3)[0] - silent(pixels, labels)[0]
    assert not torch.allclose(other, 2 * added)
    score, named = critic("auxiliary")(pixels, labels)
    assert score.shape == (5,)
    assert named.shape == (5, 3)


def test_critic_learns_pixels_apart_whatever_its_neurons():
    """Gradients pass through levels: bright images from dark ones within a few steps."""
    for levels in (Levels(critic_clip=1.0), None):
        made = critic(levels=levels, classes=0)
        optimizer = torch.optim.Adam(made.parameters(), 0.02)
        bright, dark = torch.rand(64, *SHAPE) * 0.5 + 0.5, torch.rand(64, *SHAPE) * 0.5
        for _ in range(40):
            loss = (1 - made(bright)[0]).relu().mean() + (1 + made(dark)[0]).relu().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert (made(bright)[0] > 0).all()
        assert (made(dark)[0] < 0).all()


def test_sides_that_are_no_multiples_of_four_are_refused():
    with refused(InputError, "multiples of 4, found 8 x 10"):
        ConvGenerator((1, 8, 10), noise_size=2, num_classes=0, maps=4, levels=Levels())


def test_the_cost_of_an_image_is_counted():
    made = generator().spiking()
    cost = generation_cost(made, sample(made, 20))
    assert cost["stepped_agreement"] == 1
    assert cost["active_share_max"] <= 1
    assert cost["steps_per_image"] == 16 * 4 + 64
    assert sum(cost["spikes_per_image_by_layer"]) == pytest.approx(cost["spikes_per_image"])
    assert cost["energy_pj"] > 0
