"""Convolutional GANs: one step by hand, resuming, presets, and what they refuse."""

import copy
import dataclasses

import pytest
import torch
from builders import refused

from firstspike.data import load
from firstspike.metrics.sampling import sample
from firstspike.models.gan import SpikingGenerator
from firstspike.recipes import PRESETS, preset
from firstspike.recipes.conv_gan import AnnConvGan, ConvGanRecipe, SpikingConvGan
from firstspike.support import InputError
from firstspike.training.loop import _descent, train_recipe
from firstspike.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "dataset": "digits",
    "noise_size": 8,
    "generator_maps": 6,
    "critic_maps": 4,
    "critic_features": 12,
    "batch_size": 32,
    "precision": "float32",
}
KINDS = {
    "spiking": SpikingConvGan(**SMALL),
    "spiking, auxiliary": SpikingConvGan(**SMALL, labels="auxiliary", spectral=False, spike_penalty=0.5),
    "ann": AnnConvGan(**SMALL),
    "one digit": SpikingConvGan(**SMALL, conditional=False, digit=3),
}


@pytest.fixture(scope="module")
def few():
    digits = load("digits", "train")
    return dataclasses.replace(digits, images=digits.images[:100], labels=digits.labels[:100])


@pytest.fixture(params=KINDS)
def recipe(request):
    return KINDS[request.param]


def started(path, recipe, name="spiking-gan-conv"):
    return RunFolder.create(path, name, recipe, 0)


def test_a_step_is_the_critics_hinge_then_the_generators_through_it(recipe, few):
    """Against the gradients of both losses as they are defined, by plain gradient descent."""
    recipe = dataclasses.replace(recipe, shift_px=0)
    torch.manual_seed(0)
    gan = recipe.build((1, 8, 8), 10)
    chosen = recipe.chosen(few)
    images, labels = chosen.images[:8], chosen.labels[:8]
    by_hand = copy.deepcopy(gan)
    optimizers = {
        name: torch.optim.SGD(getattr(gan, name).parameters(), 0.5) for name in ("generator", "critic")
    }
    torch.manual_seed(1)
    losses = recipe.step(gan, images, labels, _descent(gan, optimizers, 1.0))

    torch.manual_seed(1)
    generator, critic = by_hand.generator, by_hand.critic
    asked = labels if recipe.conditional else None
    *hidden, fake = generator.trace(generator.received(generator.noise(8), asked))
    # In one batch, since each pass moves the estimate of the singular values.
    both = torch.cat([recipe.pixels(images), fake.detach()])
    score, named = critic(both, None if asked is None else torch.cat([asked, asked]))
    real, drawn = score.split(8)
    loss = torch.clamp(1 - real, min=0).mean() + torch.clamp(1 + drawn, min=0).mean()
    if named is not None:
        loss = loss - named[:8].log_softmax(1)[torch.arange(8), labels].mean()
    assert losses["critic_loss"].item() == pytest.approx(loss.item())
    descend(critic, loss, 0.5)

    score, named = critic(fake, asked)
    loss = -score.mean()
    if named is not None:
        loss = loss - named.log_softmax(1)[torch.arange(8), labels].mean()
    assert losses["generator_loss"].item() == pytest.approx(loss.item())
    if getattr(recipe, "spike_penalty", 0):
        loss = loss + recipe.spike_penalty * torch.cat([v.flatten() for v in hidden]).mean()
    descend(generator, loss, 0.5)
    for name, tensor in by_hand.state_dict().items():
        torch.testing.assert_close(gan.state_dict()[name], tensor, msg=name)


def descend(module, loss, rate):
    parameters = list(module.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.data -= rate * gradient


def test_a_penalty_takes_spikes_away(tmp_path, few):
    spikes = []
    for penalty in (0.0, 20.0):
        recipe = dataclasses.replace(
            KINDS["spiking"], epochs=6, spike_penalty=penalty, ema=0.0, generator_rate=0.02
        )
        run = started(tmp_path / str(penalty), recipe)
        train_recipe(run, few, show_progress=False)
        spikes.append(recipe.sample(run.load(), 50).spikes[:, 1:-1].sum())
    assert spikes[1] < 0.8 * spikes[0]


def test_stopped_and_resumed_is_the_same_to_the_bit(tmp_path, few, recipe):
    whole = dataclasses.replace(recipe, epochs=2)
    run = started(tmp_path / "whole", whole)
    train_recipe(run, few, show_progress=False)

    class Stopped(Exception):
        pass

    def stop(epoch, _):
        if epoch == 1:
            raise Stopped

    again = started(tmp_path / "stopped", whole)
    with pytest.raises(Stopped):
        train_recipe(again, few, show_progress=False, watch=stop)
    resumed = RunFolder.find(tmp_path / "stopped", "spiking-gan-conv", whole, 0, resume=True)
    train_recipe(resumed, few, show_progress=False)
    one, two = run.load_state().tensors, resumed.load_state().tensors
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if isinstance(p.recipe, ConvGanRecipe)])
def test_every_preset_takes_an_epoch_and_draws_images(tmp_path, few, name):
    recipe = dataclasses.replace(preset(name).recipe, dataset="digits", epochs=1, batch_size=50)
    run = started(tmp_path / "run", recipe, name)
    train_recipe(run, few, show_progress=False)
    samples = recipe.sample(run.load(), 20)
    assert samples.images.shape == (20, 8, 8)
    assert samples.labels.tolist() == [*range(10)] * 2
    if isinstance(recipe, SpikingConvGan):
        exported = recipe.exported(run.load())
        assert isinstance(exported, SpikingGenerator)
        assert torch.equal(sample(exported, 20).images, samples.images)


def test_a_batch_of_plain_inputs_holds_every_label(few):
    inputs = KINDS["spiking"].plain(few.images[:30])
    assert inputs.shape == (30, 8 + 10)
    assert inputs[:, 8:].sum(0).tolist() == [3] * 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "dvs-gesture"}, "grey or colour images of 4 x 4"),
        ({"digit": 3}, "leave out --digit"),
    ],
)
def test_what_it_refuses(changes, words):
    with refused(InputError, words):
        dataclasses.replace(KINDS["spiking"], **changes).data("train")
