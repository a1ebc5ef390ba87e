"""Samples: the generator's own output, class by class, counted spike by spike."""

import dataclasses

import numpy as np
import pytest
import torch
from builders import refused, seeded

from firstspike import Connection, Linear, Stack, Window
from firstspike.cli.sample import write_samples
from firstspike.metrics.sampling import sample, stepped_agreement
from firstspike.models.gan import AnnGenerator, SpikingGenerator
from firstspike.support import InputError
from firstspike.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def conditional(gan_run):
    return RunFolder.open(gan_run).load()


@pytest.fixture(scope="module")
def unconditional(digit_gan_run):
    return RunFolder.open(digit_gan_run).load()


@pytest.fixture(scope="module")
def ann(ann_gan_run):
    return RunFolder.open(ann_gan_run).load()


def test_the_simulation_follows_shortcuts():
    shortcut = Connection.linear(4, 9, source=0, generator=seeded(1))
    stack = Stack(
        Linear(4, 6, Window(high=1.0), generator=seeded(0)),
        Linear(6, 9, Window(high=1.0), shortcuts=[shortcut], generator=seeded(2)),
        steps=16,
    )
    assert stepped_agreement(SpikingGenerator(stack, 4, (3, 3))) > 0.95


def test_the_loaded_generator_has_the_runs_weights(gan_run, conditional, ann):
    from safetensors.torch import load_file

    stored = load_file(gan_run / "model.safetensors")
    assert {n: tuple(t.shape) for n, t in conditional.state_dict().items()} == {
        n: tuple(t.shape) for n, t in stored.items()
    }
    assert all(conditional.state_dict()[name].equal(stored[name]) for name in stored)
    assert isinstance(conditional, SpikingGenerator)
    assert isinstance(ann, AnnGenerator)
    assert not conditional.training


def test_a_classifier_generates_nothing(classifier_run):
    with refused(InputError, "classifier", "give the folder of a GAN"):
        RunFolder.open(classifier_run).config.sample(None, 3)


def test_an_unfinished_run_generates_nothing(gan_run, tmp_path):
    run = dataclasses.replace(RunFolder.open(gan_run), path=tmp_path)
    with refused(InputError, str(tmp_path), "no model", "--resume"):
        run.load()


def test_samples_are_the_generators_images_of_the_seeds_noise(conditional):
    count = 12
    samples = sample(conditional, count, seed=5)
    noise = conditional.noise(count, torch.Generator().manual_seed(5))
    labels = torch.arange(count) % 10
    assert samples.labels.equal(labels)
    assert samples.images.equal(conditional.images(conditional(noise, labels)))
    # Noise and the label's neuron, then layer by layer: a spike is a time before T.
    traced = conditional.trace(noise, labels)
    spikes = [(layer.times < layer.steps).sum(1) for layer in traced]
    assert samples.spikes.equal(torch.stack(spikes, 1))
    sizes = torch.tensor([layer.shape[1] for layer in traced])
    assert (samples.spikes <= sizes).all()
    # Each spike adds once at every neuron of the next layer.
    assert samples.synops.equal((samples.spikes[:, :-1] * sizes[1:]).sum(1).float())


def test_a_sample_does_not_depend_on_how_many_follow(unconditional, ann):
    """More than one internal batch; the first images are those of a shorter call with its noise."""
    for generator in (unconditional, ann):
        samples = sample(generator, 1001, seed=2)
        assert samples.images.shape == (1001, 8, 8)
        assert len(samples.labels) == len(samples.spikes) == 1001
        noise = generator.noise(1001, torch.Generator().manual_seed(2))
        for index in (0, 999, 1000):
            alone = generator.images(generator(noise[index : index + 1]))[0].to(torch.int16)
            # A matrix product of another batch size may round differently at a step's edge.
            assert ((alone - samples.images[index]).abs() > 2).sum() <= 1


def test_neither_the_global_randomness_nor_gradients_are_touched(conditional):
    before = torch.random.get_rng_state()
    samples = sample(conditional, 3)
    assert torch.random.get_rng_state().equal(before)
    assert not samples.images.requires_grad


@pytest.mark.parametrize("label", [0, 9])
def test_one_label_for_all(conditional, label):
    assert sample(conditional, 4, label=label).labels.tolist() == [label] * 4


def test_labels_that_do_not_exist(conditional, unconditional):
    for label in (-1, 10, 99):
        with refused(InputError, "--label", "0 ... 9", str(label)):
            sample(conditional, 4, label=label)
    with refused(InputError, "takes no label", "leave out --label"):
        sample(unconditional, 4, label=0)


def test_unlabelled_samples_are_marked(unconditional, ann):
    assert (sample(unconditional, 4).labels == -1).all()
    samples = sample(ann, 4)
    assert (samples.labels == -1).all()
    assert samples.spikes.shape == (4, 0)


def test_arrays_survive_the_file(conditional, tmp_path):
    samples = sample(conditional, 7)
    write_samples(samples, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert sorted(file) == ["images", "labels", "spikes"]
        assert (file["images"] == samples.images.numpy()).all()
        assert (file["labels"] == samples.labels.numpy()).all()
        assert (file["spikes"] == samples.spikes.sum(1).numpy()).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
