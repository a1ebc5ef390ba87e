"""The evidence bound against sums over every latent, and the levels that latents fire at."""

import itertools
import math

import pytest
import torch

from firstspike.models.conv_gan import Levels
from firstspike.models.gan import SpikingGenerator
from firstspike.models.vae import GaussianLatent, SpikeLatent, Vae
from firstspike.nn.normed import renew_statistics

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (1, 4, 4)


def vae(latents=2, steps=3, *, levels=True):
    torch.manual_seed(0)
    windows = Levels(steps=8, in_steps=steps, pixel_steps=16)
    made = Vae(
        SHAPE,
        latents=latents,
        encoder_maps=3,
        features=6,
        decoder_maps=4,
        levels=windows if levels else None,
    )
    torch.nn.init.normal_(made.decoder.pixels.weight, std=2.0)
    if levels:
        torch.nn.init.normal_(made.latent.prior)
    renew_statistics(made, [torch.rand(64, *SHAPE)])
    return made.eval()


def log_normal(pixels, wanted, spread):
    each = torch.distributions.Normal(pixels, spread).log_prob(wanted)
    return each.flatten(1).sum(1)


@torch.no_grad()
def test_the_bound_is_the_sum_over_all_latents_and_below_the_evidence():
    """Two latents of four levels are sixteen cases, of which ``p(x, z)`` and ``q(z | x)`` are computed."""
    made, seen = vae(), torch.rand(3, *SHAPE)
    centre, spread = made.encoder(seen)
    chances = made.latent.chances(centre, spread)
    prior = made.latent.prior.softmax(1)
    joint, weights = [], []
    for levels in itertools.product(range(4), repeat=2):
        values = torch.tensor([levels]) / 3
        likelihood = log_normal(made.decoder(values), seen, made.pixel_spread.exp())
        joint.append(likelihood + sum(prior[i, k].log() for i, k in enumerate(levels)))
        weights.append(math.prod(chances[:, i, k] for i, k in enumerate(levels)))
    joint, weights = torch.stack(joint, 1), torch.stack(weights, 1)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    expected = (weights * (joint - weights.log())).sum(1)
    evidence = joint.logsumexp(1)
    assert (expected <= evidence + 1e-4).all()

    torch.manual_seed(1)
    many = seen.repeat_interleave(4000, 0)
    sampled = made(many).bound.reshape(3, -1)
    error = sampled.std(1) / math.sqrt(4000)
    assert ((sampled.mean(1) - expected).abs() < 5 * error + 1e-3).all()


@torch.no_grad()
def test_latents_are_drawn_as_often_as_their_probabilities_say():
    torch.manual_seed(0)
    latent = SpikeLatent(1, 5)
    centre, spread = torch.tensor([[0.3]]), torch.tensor([[-1.0]])
    values, _ = latent.draw(centre.expand(40_000, 1), spread.expand(40_000, 1))
    counted = torch.bincount((values * 5).round().long().flatten(), minlength=6) / 40_000
    torch.testing.assert_close(counted, latent.chances(centre, spread)[0, 0], atol=0.01, rtol=0)


def test_divergence_is_nought_for_the_prior_itself_and_its_gradient_is_finite():
    latent = SpikeLatent(2, 4)
    centre = torch.tensor([[0.1, -0.7]], requires_grad=True)
    spread = torch.tensor([[-0.5, 0.2]], requires_grad=True)
    with torch.no_grad():
        latent.prior.copy_(latent.chances(centre, spread)[0].log())
    assert float(latent.divergence(centre, spread).detach()) == pytest.approx(0, abs=1e-6)
    # Far outside the window, where one level is certain.
    far = torch.tensor([[40.0, -40.0]], requires_grad=True)
    latent.divergence(far, spread - 9).sum().backward()
    assert far.grad.isfinite().all()


def test_the_anns_divergence_is_that_of_normal_distributions():
    centre, spread = torch.randn(5, 3), torch.randn(5, 3)
    torch.manual_seed(0)
    _, found = GaussianLatent().draw(centre, spread)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(centre, spread.exp()), normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(found, expected)


def test_gradients_pass_straight_through_the_levels():
    latent = SpikeLatent(1, 8)
    centre = torch.zeros(1, 1, requires_grad=True)
    values, _ = latent.draw(centre, torch.full((1, 1), -9.0))
    values.sum().backward()
    # A centre of 1 is half the window.
    assert float(centre.grad) == pytest.approx(0.5)


@pytest.mark.parametrize("levels", [True, False])
def test_images_come_out_in_the_range_of_pixels(levels):
    made = vae(levels=levels)
    out = made.reconstruct(torch.rand(5, *SHAPE))
    assert out.shape == (5, *SHAPE)
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1


@torch.no_grad()
def test_samples_follow_the_prior_and_equal_the_decoders():
    made = vae(latents=3, steps=4)
    drawing = made.generator()
    assert isinstance(drawing, SpikingGenerator)
    noise = drawing.noise(20_000, torch.Generator().manual_seed(0))
    for neuron, chances in enumerate(made.latent.prior.softmax(1)):
        fired = torch.bincount((4 - noise.times[:, neuron]).long(), minlength=5) / 20_000
        torch.testing.assert_close(fired, chances, atol=0.015, rtol=0)
    few = noise[:50]
    pixels = made.decoder(few.values)
    assert torch.equal(drawing.images(drawing(few)), (pixels[:, 0] * 255 + 1e-3).floor().to(torch.uint8))
