"""The GAN's step against gradients taken by hand, and the loop around it."""

import copy
import dataclasses
import json
import math

import pytest
import torch
from builders import refused, seeded
from safetensors.torch import load_file

from firstspike.data import Dataset, ImageSet, load
from firstspike.data.augment import shift
from firstspike.metrics.sampling import sample
from firstspike.recipes import PRESETS, preset
from firstspike.recipes.spiking_gan import AnnGan, Gan, GanRecipe, SpikingGan
from firstspike.spikes import Spikes
from firstspike.support import InputError
from firstspike.training.loop import _descent, train_recipe
from firstspike.training.run_folder import RunFolder

# A core that is shared makes two threads wait for each other.
pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"noise_size": 8, "hidden_features": 16, "batch_size": 32, "optimizer": "sgd"}
KINDS = {
    "spiking": preset("spiking-gan-window").configure(dataset="digits", digit=3),
    "spiking, dynamic targets": dataclasses.replace(
        preset("spiking-gan-window").configure(dataset="digits", digit=3), targets="dynamic"
    ),
    "spiking, conditional": preset("spiking-gan-conditional").configure(dataset="digits"),
    "ann": preset("ann-gan").configure(dataset="digits", digit=3),
    "ann, conditional": preset("ann-gan-conditional").configure(dataset="digits"),
}


@pytest.fixture(scope="module")
def digits():
    return load("digits", "train")


@pytest.fixture(scope="module")
def few(digits):
    """A hundred of them, ten or so of each class."""
    return dataclasses.replace(digits, images=digits.images[:100], labels=digits.labels[:100])


@pytest.fixture(params=KINDS)
def small(request):
    """A small configuration of each kind, trained by plain gradient descent."""
    return dataclasses.replace(
        KINDS[request.param], **SMALL, generator_rate=0.5, discriminator_rate=0.3, ema=0.9
    )


def networks(config, seed=0):
    torch.manual_seed(seed)
    gan = config.build((1, 8, 8), 10)
    return gan.generator, gan.discriminator


def batch(config, digits, count=12):
    chosen = digits if config.digit is None else digits.of_class(config.digit)
    labels = chosen.labels[:count] if config.conditional else None
    return config.encode(chosen.images[:count]), labels


def error(config, verdict, desired):
    """The loss by its definition: on one probability, or on the times of "fake" and "real"."""
    if isinstance(config, AnnGan):
        return ((verdict - desired) ** 2).sum() / 2 / len(verdict)
    times = verdict.times
    first = times.detach().min(1).values
    early = torch.where(first == config.steps, 0, first) if config.targets == "dynamic" else 0
    target = torch.full_like(times, config.steps)
    target[:, desired] = early
    return (((times - target) / config.steps) ** 2).sum() / 2 / len(times)


def joined(one, two):
    """Two batches of spikes or pixels as one."""
    if isinstance(one, Spikes):
        return Spikes(torch.cat([one.times, two.times]), one.steps)
    return torch.cat([one, two])


def numbers(out):
    """What a network gave, as a tensor."""
    return (out.times if isinstance(out, Spikes) else out).detach()


def step(config, generator, discriminator, rates, real, labels):
    """One step of plain gradient descent at these rates; returns both losses."""
    gan = Gan(generator, discriminator)
    optimizers = {
        name: torch.optim.SGD(getattr(gan, name).parameters(), rate) for name, rate in rates.items()
    }
    given = torch.zeros(len(real), dtype=torch.int64) if labels is None else labels
    losses = config.step(gan, real, given, _descent(gan, optimizers, 1.0))
    return [losses[f"{name}_loss"].item() for name in ("generator", "discriminator")]


def descended(module, loss, rate):
    """Return the gradients of `loss` by the weights of `module`, after one step against them."""
    parameters = list(module.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= rate * gradient
    return gradients


def test_one_step_is_the_discriminators_then_the_generators_through_it(small, digits):
    """Against each gradient taken by itself, so that neither network learns from the other's loss."""
    generator, discriminator = networks(small)
    real, labels = batch(small, digits)

    by_hand, judge = copy.deepcopy(generator), copy.deepcopy(discriminator)
    torch.manual_seed(1)
    fake = by_hand(by_hand.noise(len(real)), labels)
    twice = None if labels is None else torch.cat([labels, labels])
    verdict = judge(joined(real, fake.detach()), twice)
    judges_loss = error(small, verdict[: len(real)], 1) + error(small, verdict[len(real) :], 0)
    judges_gradients = descended(judge, judges_loss, small.discriminator_rate)
    makers_loss = error(small, judge(fake, labels), 1)
    makers_gradients = descended(by_hand, makers_loss, small.generator_rate)

    rates = {"generator": small.generator_rate, "discriminator": small.discriminator_rate}
    before = copy.deepcopy((generator, discriminator))
    torch.manual_seed(1)
    losses = step(small, generator, discriminator, rates, real, labels)

    assert losses == pytest.approx([makers_loss.item(), judges_loss.item()], rel=1e-5)
    for module, expected, gradients, old in (
        (generator, by_hand, makers_gradients, before[0]),
        (discriminator, judge, judges_gradients, before[1]),
    ):
        for found, wanted, gradient, start in zip(
            module.parameters(), expected.parameters(), gradients, old.parameters(), strict=True
        ):
            assert torch.allclose(found, wanted, atol=1e-6)
            assert torch.allclose(found.grad, gradient, atol=1e-6)
            assert found.requires_grad
            assert not found.equal(start)


def test_a_rate_of_zero_keeps_a_network_as_it_is(small, digits):
    real, labels = batch(small, digits)
    for still in (0, 1):
        pair = networks(small)
        before = copy.deepcopy(pair)
        rates = {"generator": 0.5, "discriminator": 0.5} | {("generator", "discriminator")[still]: 0.0}
        step(small, *pair, rates, real, labels)
        for index, (module, old) in enumerate(zip(pair, before, strict=True)):
            same = [p.equal(q) for p, q in zip(module.parameters(), old.parameters(), strict=True)]
            assert all(same) if index == still else not any(same)


@pytest.mark.parametrize("kind", ["spiking, conditional", "ann, conditional"])
def test_the_label_reaches_both_networks(kind, digits):
    config = dataclasses.replace(KINDS[kind], **SMALL)
    generator, discriminator = networks(config)
    real, _ = batch(config, digits)
    noise = generator.noise(12, torch.Generator().manual_seed(0))
    for module, inputs in ((generator, noise), (discriminator, real)):
        answers = [numbers(module(inputs, torch.full((12,), label))) for label in range(10)]
        assert answers[0].equal(numbers(module(inputs, torch.zeros(12, dtype=torch.int64))))
        assert all(not answers[0].equal(other) for other in answers[1:])
        with refused(ValueError, "labels", "conditional"):
            module(inputs)
    plain, _ = networks(dataclasses.replace(config, conditional=False, digit=3))
    with refused(ValueError, "labels", "conditional"):
        plain(plain.noise(2), torch.tensor([1, 2]))


def test_the_shapes_are_the_papers():
    """100-400-784 and 784-400-2; the ANN's discriminator gives one probability."""
    for name, verdicts in (("spiking-gan-window", 2), ("ann-gan", 1)):
        gan = preset(name).configure(digit=0).build((1, 28, 28), 10)
        shapes = [
            [tuple(p.shape) for p in m.parameters() if p.dim() == 2]
            for m in (gan.generator, gan.discriminator)
        ]
        assert shapes == [[(400, 100), (784, 400)], [(400, 784), (verdicts, 400)]]


def test_images_that_are_not_of_8_bits_are_refused_before_anything_is_made():
    def floats(split, data_dir):
        return ImageSet.of(torch.rand(6, 8, 8, generator=seeded(0)), [0, 1] * 3, name="floats", split=split)

    own = Dataset("floats", shape=(1, 8, 8), classes=2, load=floats)
    with refused(InputError, "8 bits", "floats has torch.float32", "uint8"):
        AnnGan(dataset=own).data("train")


def test_the_networks_see_the_images_in_their_own_code():
    images = torch.tensor([[[0, 255], [128, 1]]], dtype=torch.uint8)
    spiking = SpikingGan(dataset="digits", steps=256)
    # floor((255 - I) / 255 T), and T for black.
    assert spiking.encode(images).times.tolist() == [[256.0, 0.0, 127.0, 254.0]]
    ann = AnnGan(dataset="digits")
    expected = [[-1.0, 1.0, 128 / 127.5 - 1, 1 / 127.5 - 1]]
    assert torch.allclose(ann.encode(images), torch.tensor(expected), atol=1e-6)
    assert torch.allclose(ann.encode(images / 255), torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("name", ["spiking-gan-window", "spiking-gan-causal", "ann-gan"])
def test_what_is_shifted_in_its_code_is_the_code_of_the_shifted_image(digits, name):
    recipe = preset(name).configure(dataset="digits", digit=3)
    recipe = dataclasses.replace(recipe, shift_px=2)
    images = digits.images[:50]
    torch.manual_seed(1)
    moved = recipe.moved(recipe.encode(images))
    torch.manual_seed(1)
    expected = recipe.encode(shift(images, 2))
    assert not torch.equal(shift(images, 2), images)
    if isinstance(moved, Spikes):
        assert torch.equal(moved.times, expected.times)
    else:
        assert torch.allclose(moved, expected, atol=1e-6)
    without = dataclasses.replace(recipe, shift_px=0)
    pixels = recipe.encode(images)
    assert without.moved(pixels) is pixels


def test_rates_fall_along_a_line():
    recipe = dataclasses.replace(KINDS["ann"], final_rate=0.2)
    assert [recipe.rate_factor(step, 4) for step in range(5)] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert {KINDS["ann"].rate_factor(step, 4) for step in range(5)} == {1.0}


def started(path, config, seed=0):
    return RunFolder.create(path, "made", config, seed)


def trained(path, config, digits, seed=0):
    run = started(path, config, seed)
    train_recipe(run, digits, show_progress=False)
    return load_file(run.path / "state" / "latest.safetensors"), load_file(run.path / "model.safetensors")


def same(one, two):
    assert one.keys() == two.keys()
    return all(one[name].equal(two[name]) for name in one)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("kind", ["spiking", "ann, conditional"])
def test_the_seed_decides_every_bit(tmp_path, few, kind, optimizer):
    config = dataclasses.replace(KINDS[kind], **SMALL | {"epochs": 2, "optimizer": optimizer})
    one = trained(tmp_path / "one", config, few, seed=4)
    two = trained(tmp_path / "two", config, few, seed=4)
    other = trained(tmp_path / "other", config, few, seed=5)
    assert same(one[0], two[0])
    assert same(one[1], two[1])
    assert not any(one[1][name].equal(other[1][name]) for name in one[1])


@pytest.mark.parametrize("kind", ["spiking", "ann, conditional"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, few, kind, monkeypatch):
    config = dataclasses.replace(KINDS[kind], **SMALL | {"epochs": 4, "optimizer": "adam"}, ema=0.9)
    whole = trained(tmp_path / "whole", config, few)
    run = started(tmp_path / "stopped", config)
    save_state = RunFolder.save_state

    def save_and_stop(self, state):
        save_state(self, state)
        if state.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_recipe(run, few, show_progress=False)
    assert run.load_state().epoch == 2
    assert not (run.path / "model.safetensors").exists()
    train_recipe(run, few, show_progress=False)
    assert same(whole[0], load_file(run.path / "state" / "latest.safetensors"))
    assert same(whole[1], load_file(run.path / "model.safetensors"))
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "stopped")
    ]
    for one, two in zip(*lines, strict=True):
        assert one | {"seconds": 0} == two | {"seconds": 0}


def test_the_kept_weights_are_the_generators_moving_average(tmp_path, digits, monkeypatch):
    """Recomputed from the weights after each step: ``a = d a + (1 - d) w`` from the initial ones."""
    config = dataclasses.replace(KINDS["spiking"], **SMALL | {"epochs": 5, "optimizer": "adam"}, ema=0.7)
    passed = []
    step = GanRecipe.step

    def watched(self, gan, *rest):
        if not passed:
            passed.append({n: t.clone() for n, t in gan.generator.state_dict().items()})
        losses = step(self, gan, *rest)
        passed.append({n: t.clone() for n, t in gan.generator.state_dict().items()})
        return losses

    monkeypatch.setattr(GanRecipe, "step", watched)
    state, model = trained(tmp_path / "run", config, digits)
    for name, average in passed[0].items():
        for weights in passed[1:]:
            average = 0.7 * average + 0.3 * weights[name]
        assert torch.allclose(model[name], average, atol=1e-6)
        assert model[name].equal(state[f"average/{name}"])
        assert passed[-1][name].equal(state[f"model/generator.{name}"])
        assert not model[name].equal(passed[-1][name])


def test_an_epoch_shows_each_image_of_the_digit_once_and_drops_a_short_rest(tmp_path, digits, monkeypatch):
    config = dataclasses.replace(KINDS["spiking"], **SMALL | {"epochs": 1})
    shown = []
    monkeypatch.setattr(GanRecipe, "step", lambda self, gan, real, *_: shown.append(real) or {})
    trained(tmp_path / "run", config, digits)
    threes = digits.of_class(3)
    assert [len(real) for real in shown] == [32] * (len(threes) // 32)
    there = {tuple(times) for times in config.encode(threes.images).times.tolist()}
    seen = [tuple(times) for real in shown for times in real.times.tolist()]
    assert set(seen) <= there
    assert len(set(seen)) > 0.9 * len(seen)

    # Fewer images than a batch still make one.
    shown.clear()
    twenty = dataclasses.replace(digits, images=digits.images[:20], labels=torch.full((20,), 3))
    trained(tmp_path / "few", config, twenty)
    assert [len(real) for real in shown] == [20]


def test_it_learns_the_digit(tmp_path, digits):
    """The mean sample comes much closer to the mean image than the untrained one's."""
    rates = {"generator_rate": 8e-4, "discriminator_rate": 8e-4, "ema": 0.9}
    config = dataclasses.replace(KINDS["spiking"], epochs=40, batch_size=32, hidden_features=100, **rates)
    run = started(tmp_path / "run", config)
    train_recipe(run, digits, show_progress=False)
    target = digits.of_class(3).images.float().mean(0)

    def distance(generator):
        return (sample(generator, 200).images.float().mean(0) - target).square().mean().sqrt()

    untrained, _ = networks(config)
    after = distance(run.load())
    assert after < 0.4 * distance(untrained)
    assert all(
        math.isfinite(record[name])
        for record in run.load_state().records
        for name in ("generator_loss", "discriminator_loss")
    )


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if isinstance(p.recipe, GanRecipe)])
def test_every_preset_takes_an_epoch_and_spikes_at_most_once(tmp_path, few, name):
    digit = 3 if PRESETS[name].takes_digit else None
    config = preset(name).configure(dataset="digits", digit=digit, epochs=1)
    run = RunFolder.create(tmp_path / "run", name, config, 0)
    train_recipe(run, few, show_progress=False)
    assert [record["epoch"] for record in run.load_state().records] == [1]
    # Loading refuses weights that are not finite.
    samples = sample(run.load(), 20)
    assert samples.images.shape == (20, 8, 8)
    if isinstance(config, SpikingGan):
        inputs = config.noise_size + (10 if config.conditional else 0)
        assert (samples.spikes <= torch.tensor([inputs, config.hidden_features, 64])).all()
