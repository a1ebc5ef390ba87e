"""Spiking-GAN (Kotariya & Ganguly, arXiv 2106.15420), and the ANN GAN of equal size."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.inputs import check_labels
from firstspike.nn import Stack
from firstspike.spikes import Spikes, check_spikes
from firstspike.support import check_integer

NOISE_LEVELS = 256


class SpikingGenerator(torch.nn.Module):
    """Noise spikes in, pixel spikes out; 100-400-784 in the paper.

    Args:
        stack: layers from ``noise_size`` (+ ``num_classes`` if conditional) to pixels.
        noise_size: noise neurons.
        image_shape: ``(height, width)``, of colour ``(channels, height, width)``; one channel is left out.
        num_classes: 0 for an unconditional generator; otherwise the label is given by one more input
            neuron per class, of which one fires at step 0.
        prior: how likely each noise neuron is to be silent, to fire at step ``T - 1``, ..., at step 0,
            ``(noise_size, T + 1)``; None for pixel values, uniform and encoded.

    Raises:
        TypeError: `stack` is no `Stack`.
        ValueError: a size that is no integer or below 1, layers that do not lead from so many inputs to so
            many pixels, or a prior of another shape or of numbers that are no likelihoods.

    >>> import torch, firstspike as fs
    >>> layers = fs.Linear(100 + 10, 400), fs.Linear(400, 784, fs.Window.output(steps=16))
    >>> generator = fs.SpikingGenerator(fs.Stack(*layers, steps=16), 100, (28, 28), num_classes=10)
    >>> noise = generator.noise(3, torch.Generator().manual_seed(0))
    >>> generator.images(generator(noise, torch.tensor([0, 1, 2]))).shape
    torch.Size([3, 28, 28])
    """

    def __init__(
        self,
        stack: Stack,
        noise_size: int,
        image_shape: tuple[int, ...],
        num_classes: int = 0,
        prior: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(stack, Stack):
            raise TypeError(f"SpikingGenerator takes a Stack, found {type(stack).__name__}")
        self.stack = stack
        self.noise_size = check_integer("SpikingGenerator", "noise_size", noise_size, low=1)
        self.num_classes = check_integer("SpikingGenerator", "num_classes", num_classes, low=0)
        sides = tuple(image_shape) if isinstance(image_shape, Sequence) else ()
        shape = tuple(check_integer("SpikingGenerator", "image_shape", side, low=1) for side in sides)
        self.image_shape = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
        pixels = stack.shapes(self.in_shape)[-1]
        if len(shape) not in (2, 3) or math.prod(pixels) != math.prod(shape):
            raise ValueError(
                "image_shape must be (height, width) or (channels, height, width), of as many pixels as "
                f"the last layer gives, {pixels}; found {image_shape}"
            )
        if prior is not None and prior.shape != (noise_size, stack.steps + 1):
            raise ValueError(
                f"prior must be (noise_size, T + 1), {(noise_size, stack.steps + 1)}, found "
                f"{tuple(prior.shape)}"
            )
        if prior is not None and not _likelihoods(prior):
            raise ValueError("prior must hold finite floats, none negative and for each neuron one above 0")
        self.register_buffer("prior", prior)

    prior: Tensor | None

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of what the stack takes: features, or maps of one place."""
        inputs = self.noise_size + self.num_classes
        return (inputs,) if self.stack[0].takes[0] == "features" else (inputs, 1, 1)

    def noise(self, count: int, generator: torch.Generator | None = None) -> Spikes:
        """Return noise spikes ``(count, noise_size)``; ValueError unless `count` is 0 or more."""
        count = check_integer("noise", "count", count, low=0)
        if self.prior is not None:
            # torch draws no zero samples.
            drawn = torch.multinomial(self.prior, max(count, 1), replacement=True, generator=generator)
            drawn = drawn[:, :count].T
            return Spikes(self.stack.steps - drawn.to(torch.float32), self.stack.steps)
        levels = torch.randint(0, NOISE_LEVELS, (count, self.noise_size), generator=generator)
        return self.stack[0].neuron.encode(levels.to(torch.uint8), self.stack.steps)

    def forward(self, noise: Spikes, labels: Tensor | None = None) -> Spikes:
        """Return pixel spikes ``(batch, ...)``, local to the last layer's window."""
        return self.trace(noise, labels)[-1]

    def trace(self, noise: Spikes, labels: Tensor | None = None) -> list[Spikes]:
        """Return the spikes of the input and of every layer."""
        if check_spikes(noise).shape[1:] != (self.noise_size,):
            raise ValueError(f"noise must be (batch, {self.noise_size}), found {tuple(noise.shape)}")
        inputs = with_label(noise, labels, self.num_classes)
        return self.stack.trace(inputs.with_times(inputs.times.reshape(-1, *self.in_shape)))

    def images(self, pixels: Spikes) -> Tensor:
        """Return the pictures that pixel spikes stand for, uint8 ``(batch, *image_shape)``."""
        return bytes_of(self.stack[-1].neuron.decode(pixels)).reshape(-1, *self.image_shape)


def _likelihoods(prior: Tensor) -> bool:
    known = prior.is_floating_point() and bool(torch.isfinite(prior).all())
    return known and bool((prior >= 0).all()) and bool((prior.sum(1) > 0).all())


class SpikingDiscriminator(torch.nn.Module):
    """Pixel spikes in, the spikes of two neurons out: 0 says fake, 1 says real.

    Args:
        stack: layers from pixels (+ ``num_classes`` if conditional) to 2.
        num_classes: as for the generator.
    """

    def __init__(self, stack: Stack, num_classes: int = 0) -> None:
        super().__init__()
        self.stack, self.num_classes = stack, num_classes

    def forward(self, pixels: Spikes, labels: Tensor | None = None) -> Spikes:
        """Return spikes ``(batch, 2)``."""
        pixels = self.stack[0].neuron.admit(pixels)
        return self.stack(with_label(pixels, labels, self.num_classes))


class AnnGenerator(torch.nn.Module):
    """The ANN's 100-400-784 with ReLU and tanh (section 4): noise in [-1, 1] in, pixels in [-1, 1] out.

    Args:
        noise_size, hidden_features: sizes.
        image_shape: ``(height, width)``.
        num_classes: 0 unless conditional; the label is then one-hot beside the noise.
    """

    def __init__(
        self, noise_size: int, hidden_features: int, image_shape: tuple[int, int], num_classes: int = 0
    ) -> None:
        super().__init__()
        self.noise_size, self.image_shape, self.num_classes = noise_size, image_shape, num_classes
        pixels = image_shape[0] * image_shape[1]
        self.hidden = torch.nn.Linear(noise_size + num_classes, hidden_features)
        self.output = torch.nn.Linear(hidden_features, pixels)

    def noise(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Return noise ``(count, noise_size)``, uniform in [-1, 1]."""
        return torch.rand(count, self.noise_size, generator=generator) * 2 - 1

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return pixels ``(batch, pixels)`` in [-1, 1]."""
        hidden = F.relu(self.hidden(with_one_hot(noise, labels, self.num_classes)))
        return torch.tanh(self.output(hidden))

    def images(self, pixels: Tensor) -> Tensor:
        """Return the pictures, uint8 ``(batch, height, width)``."""
        scaled = ((pixels + 1) * 127.5).round().clamp(0, 255)
        return scaled.to(torch.uint8).reshape(-1, *self.image_shape)


class AnnDiscriminator(torch.nn.Module):
    """The ANN's 784-400-1 with ReLU and sigmoid: the probability that pixels in [-1, 1] are real."""

    def __init__(self, pixels: int, hidden_features: int, num_classes: int = 0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.hidden = torch.nn.Linear(pixels + num_classes, hidden_features)
        self.output = torch.nn.Linear(hidden_features, 1)

    def forward(self, pixels: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return probabilities ``(batch, 1)``."""
        hidden = F.relu(self.hidden(with_one_hot(pixels, labels, self.num_classes)))
        return torch.sigmoid(self.output(hidden))


def bytes_of(values: Tensor) -> Tensor:
    """Return the values 0 ... 1 of pixels' spikes as intensities uint8."""
    # The floor undoes the encoder's on 8-bit images; the small addend undoes rounding errors.
    return (values * 255 + 1e-3).floor().to(torch.uint8)


def with_label(spikes: Spikes, labels: Tensor | None, num_classes: int) -> Spikes:
    """Return the spikes with one more neuron per class: the label's fires at step 0, the others never.

    Raises:
        TypeError, ValueError: see `checked_labels`.
    """
    labels = checked_labels(labels, len(spikes), num_classes)
    if labels is None:
        return spikes
    extra = spikes.times.new_full((len(spikes), num_classes), float(spikes.steps))
    return spikes.with_times(torch.cat([spikes.times, extra.scatter(1, labels.unsqueeze(1), 0.0)], 1))


def with_one_hot(values: Tensor, labels: Tensor | None, num_classes: int) -> Tensor:
    """Return the values with one more per class: 1 for the label, 0 for the others.

    Raises:
        TypeError, ValueError: see `checked_labels`.
    """
    labels = checked_labels(labels, len(values), num_classes)
    if labels is None:
        return values
    return torch.cat([values, F.one_hot(labels, num_classes).to(values.dtype)], 1)


def checked_labels(labels: Tensor | None, count: int, num_classes: int) -> Tensor | None:
    """Return the labels of `count` samples, None for a network that takes none.

    Raises:
        ValueError: a conditional network without labels, or the other way round.
        TypeError, ValueError: see `firstspike.inputs.check_labels`.
    """
    if num_classes and labels is None:
        raise ValueError(f"this network is conditional; give labels 0 ... {num_classes - 1}, one a sample")
    if labels is None:
        return None
    if not num_classes:
        raise ValueError("this network is not conditional; leave out the labels")
    return check_labels(labels, count, num_classes)
