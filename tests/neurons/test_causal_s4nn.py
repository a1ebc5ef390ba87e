"""S4NN as its authors published it (arXiv 1910.09495), one image and one step at a time.

`S4nn` below is that algorithm in plain numpy, loops and all. Compared with the library's
``Causal(strict=True, delay=1, norm="l2")``: the spike times of both layers, and the weights of both
layers after updates with learning rate and weight decay.

The hidden layer of S4NN reads the output weights *after* their update; autograd reads those before.
Both variants are held: the published one takes the library's kernels call by call, the other is one
plain ``backward()``.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from builders import dense, fires

from firstspike import Causal, encode_latency, relative_targets, temporal_least_squares
from firstspike.neurons.causal import normalise_gradient

T, GRAY_LEVELS, GAMMA = 256, 255, 3
LEARNING_RATE, DECAY = 0.2, 1e-6

NEURON = Causal(threshold=20, strict=True, delay=1, norm="l2")


@dataclass
class S4nn:
    """Two layers of weights ``(neurons, inputs)``; everything is float64."""

    hidden: np.ndarray
    output: np.ndarray
    threshold: float

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return np.array([((GRAY_LEVELS - int(p)) * T) // GRAY_LEVELS for p in pixels])

    def fire(self, times: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Strict threshold; the spike leaves one step after the crossing; at T everyone fires."""
        out = np.full(len(weights), -1)
        V = np.zeros(len(weights))
        for t in range(T):
            for i in np.flatnonzero(times == t):
                V = V + weights[:, i]
            for j in range(len(weights)):
                if V[j] > self.threshold and out[j] == -1:
                    out[j] = t + 1
        out[out == -1] = T
        return out

    def targets(self, times: np.ndarray, label: int) -> np.ndarray:
        m = times.min()
        targets = times.copy()
        if m == T:
            targets[:] = T
            targets[label] = T - GAMMA
            return targets
        for j in range(len(times)):
            if times[j] - m < GAMMA:
                targets[j] = min(m + GAMMA, T)
        targets[label] = m
        return targets

    def step(self, weights: np.ndarray, delta: np.ndarray, t_in: np.ndarray, t_out: np.ndarray) -> None:
        """``w_ji -= eta delta_j [t_i < t_j]``, then ``w -= eta lambda w``, in place."""
        for j in range(len(weights)):
            for i in range(len(t_in)):
                if t_in[i] < t_out[j]:
                    weights[j, i] -= LEARNING_RATE * delta[j]
        weights -= LEARNING_RATE * DECAY * weights

    def train(self, pixels: np.ndarray, label: int, updated_output: bool = True) -> list[np.ndarray]:
        """Learn from one image; return the times of the three layers before the update."""
        t_in = self.encode(pixels)
        t_hidden = self.fire(t_in, self.hidden)
        t_out = self.fire(t_hidden, self.output)
        delta = normalised((self.targets(t_out, label) - t_out) / T)
        before = self.output.copy()
        self.step(self.output, delta, t_hidden, t_out)
        read = self.output if updated_output else before
        delta_hidden = np.zeros(len(t_hidden))
        for i in range(len(t_hidden)):
            for j in range(len(t_out)):
                if t_hidden[i] < t_out[j]:
                    delta_hidden[i] += delta[j] * read[j, i]
        self.step(self.hidden, normalised(delta_hidden), t_in, t_hidden)
        return [t_in, t_hidden, t_out]


def normalised(delta: np.ndarray) -> np.ndarray:
    norm = np.sqrt((delta**2).sum())
    return delta / norm if norm > 0 else delta


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


def draw_image(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return uint8 pixels, half of them black and a few white."""
    kind = rng.random(size)
    pixels = rng.integers(0, 256, size)
    return np.where(kind < 0.5, 0, np.where(kind < 0.52, 255, pixels)).astype(np.uint8)


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
