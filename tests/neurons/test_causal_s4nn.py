"""S4NN as its authors published it (arXiv 1910.09495), one image and one step at a time.

Compared with the library's ``Causal(strict=True, delay=1, norm="l2")``: the spike times of both layers,
and the weights of both layers after updates with learning rate and weight decay.

The hidden layer of S4NN reads the output weights *after* their update; autograd reads those before.
Both variants are held: the published one takes the library's kernels call by call, the other is one
plain ``backward()``.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from builders import dense, fires
from published_s4nn import DECAY, GAMMA, LEARNING_RATE, S4nn, T, draw_image

from firstspike import Causal, encode_latency, relative_targets, temporal_least_squares
from firstspike.neurons.causal import normalise_gradient

NEURON = Causal(threshold=20, strict=True, delay=1, norm="l2")


@dataclass
class Library:
    """The same network on the library's functions, a batch of one image at a time."""

    hidden: torch.Tensor
    output: torch.Tensor

    def train(self, pixels: np.ndarray, label: int, updated_output: bool = True) -> list[np.ndarray]:
        hidden, output = dense(self.hidden, NEURON), dense(self.output, NEURON)
        t_in = encode_latency(pixels[None], T)
        t_hidden = hidden(t_in)
        t_out = output(t_hidden)
        targets = relative_targets(t_out, [label], GAMMA)
        loss = temporal_least_squares(t_out, targets)
        weights = hidden.weight, output.weight
        grad_hidden, grad_output = torch.autograd.grad(loss, weights, retain_graph=True)
        self.output = descend(self.output, grad_output)
        if updated_output:
            # As autograd does it, but with the updated weights; the errors are normalised already.
            delta = normalise_gradient(((t_out.times - targets) / T).detach().double(), "l2")
            crossing = (t_out.times - NEURON.delay * ~t_out.silent).detach()
            at_hidden, _ = output.wiring.gradients(  # type: ignore[union-attr]
                t_hidden.times.detach(), self.output, crossing, delta, T, for_times=True, for_weight=False
            )
            (grad_hidden,) = torch.autograd.grad(
                t_hidden.times, hidden.weight, at_hidden.to(t_hidden.times)
            )
        self.hidden = descend(self.hidden, grad_hidden)
        return [spikes.times.detach().flatten().numpy() for spikes in (t_in, t_hidden, t_out)]


def descend(weight: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """Gradient step and then decay, as the published code orders them (SGD would decay first)."""
    weight = weight - LEARNING_RATE * grad
    return weight - LEARNING_RATE * DECAY * weight


def draw_networks(
    rng: np.random.Generator, sizes: tuple[int, int, int], gain: float
) -> tuple[S4nn, Library]:
    hidden = rng.uniform(-3, 5, (sizes[1], sizes[0])) * gain
    output = rng.uniform(-10, 20, (sizes[2], sizes[1])) * gain
    published = S4nn(hidden.copy(), output.copy(), NEURON.threshold)
    return published, Library(torch.from_numpy(hidden), torch.from_numpy(output))


@pytest.mark.parametrize("updated_output", [True, False], ids=["published", "autograd"])
@pytest.mark.parametrize("seed", range(4))
def test_times_and_updates_are_the_published_ones(seed: int, updated_output: bool) -> None:
    rng = np.random.default_rng(seed)
    # From early spikes over ties and late ones to outputs that are all silent on some images.
    published, library = draw_networks(rng, (50, 17, 5), gain=(2.0, 1.0, 1.0, 0.6)[seed])
    silent_images = 0
    for label in (0, 1, 2, 3, 4, 2, 0):
        pixels = draw_image(rng, 50)
        expected = published.train(pixels, label, updated_output)
        found = library.train(pixels, label, updated_output)
        for layer_found, layer_expected in zip(found, expected, strict=True):
            np.testing.assert_array_equal(layer_found, layer_expected)
        # The gradient at hidden times is handed over in float32.
        np.testing.assert_allclose(library.output.numpy(), published.output, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(library.hidden.numpy(), published.hidden, rtol=2e-6, atol=2e-6)
        silent_images += expected[2].min() == T
        library.hidden = torch.from_numpy(published.hidden.copy())
    assert seed < 3 or 0 < silent_images < 7


def test_the_variants_differ_so_that_the_comparison_tells_them_apart() -> None:
    rng = np.random.default_rng(0)
    published, library = draw_networks(rng, (50, 17, 5), gain=1.0)
    pixels = draw_image(rng, 50)
    published.train(pixels, 1, updated_output=True)
    library.train(pixels, 1, updated_output=False)
    assert np.abs(library.hidden.numpy() - published.hidden).max() > 1e-4


def test_times_at_the_published_size_and_settings() -> None:
    rng = np.random.default_rng(7)
    neuron = Causal(threshold=100, strict=True, delay=1)
    # Multiples of 1/16: the published code's float32 and the oracle's float64 then hold the same sums.
    hidden = rng.integers(-3 * 16, 5 * 16, (400, 784)) / 16
    output = rng.integers(-30 * 16, 48 * 16, (10, 400)) / 16
    published = S4nn(hidden, output, 100.0)
    for _ in range(2):
        pixels = draw_image(rng, 784)
        t_in = published.encode(pixels)
        t_hidden = published.fire(t_in, hidden)
        t_out = published.fire(t_hidden, output)
        times = encode_latency(pixels[None], T).times
        np.testing.assert_array_equal(times[0].numpy(), t_in)
        for weight, expected in ((hidden, t_hidden), (output, t_out)):
            times = fires(dense(weight.astype(np.float32), neuron), times, T).detach()
            np.testing.assert_array_equal(times[0].numpy(), expected)
