"""Convolutional generators and critics of window neurons, and the ANNs of equal size.

Both are trained as quantised networks, on values: a hidden value is ``v = 1 - t / T`` of a spike at step
``t``, 0 for silence. `ConvGenerator.spiking` is the generator on spike times.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from firstspike.codes import encode_latency
from firstspike.models.gan import NOISE_LEVELS, SpikingGenerator, bytes_of, checked_labels, with_one_hot
from firstspike.models.quantised import fire, quantise
from firstspike.neurons import Window
from firstspike.nn import Conv2d, ConvTranspose2d, Layer, Stack
from firstspike.nn.normed import NormedConnection, connect, round_to_grid
from firstspike.support import InputError

# Two layers of stride 2 lead from the smallest maps to the image and back.
SCALE = 4
Labels = Literal["projection", "auxiliary"]
_LEAK = 0.2


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The windows of a network of window neurons.

    Attributes:
        steps: ``T`` of hidden layers.
        in_steps: of the noise.
        pixel_steps: of the pixels.
        clip: membrane, after batch normalisation, at which a generator's hidden neuron fires at step 0.
        critic_clip: the same of the critic's.
    """

    steps: int = 16
    in_steps: int = 16
    pixel_steps: int = 64
    clip: float = 4.0
    critic_clip: float = 1.0

    def pixel_neuron(self) -> Window:
        """Return the neuron of a pixel."""
        return Window(low=-1.0, high=1.0, steps=self.pixel_steps, saturation="smooth")


class ConvGenerator(torch.nn.Module):
    """Noise and label in, pixels out: a full connection, two transposed convolutions, a convolution.

    With `levels` every neuron is a window neuron; without, hidden ones are ReLUs and pixels tanh.

    Args:
        image_shape: ``(channels, height, width)``, multiples of 4.
        noise_size: noise neurons.
        num_classes: 0 for an unconditional generator; otherwise the label is given by one more input
            neuron per class, of which one fires at step 0.
        maps: of the first two hidden layers; the third has half as many.
        levels: windows of window neurons; None for an ANN.
        normal: draw the noise of an ANN from a normal distribution instead of uniformly from 0 ... 1.

    The field `dtype` is the precision of hidden values during training.

    Raises:
        InputError: sides that are no multiples of 4.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        noise_size: int,
        num_classes: int,
        maps: int,
        levels: Levels | None,
        normal: bool = False,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        check_sides(height, width)
        self.normal = normal
        self.image_shape = channels, height, width
        self.noise_size, self.num_classes, self.levels = noise_size, num_classes, levels
        self.dtype = torch.float32
        self.start = maps, height // SCALE, width // SCALE
        half = max(1, maps // 2)
        inputs = noise_size + num_classes
        self.first = NormedConnection((maps * self.start[1] * self.start[2], inputs))
        self.second = NormedConnection((maps, maps, 4, 4), stride=2, transposed=True)
        self.third = NormedConnection((maps, half, 4, 4), stride=2, transposed=True)
        self.pixels = torch.nn.Conv2d(half, channels, 3, padding=1)

    @torch.no_grad()
    def start_at(self, pixels: Tensor) -> None:
        """Start at the mean of these pixels, ``(images, channels, height, width)`` in 0 ... 1."""
        mean = pixels.mean((0, 2, 3)).clamp(0.02, 0.98)
        assert self.pixels.bias is not None
        # The range of a window neuron is a line from -1 to 1, that of the ANN a tanh.
        self.pixels.bias.copy_(2 * mean - 1 if self.levels is not None else torch.atanh(2 * mean - 1))

    def noise(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Return the values of noise neurons ``(count, noise_size)``."""
        if self.normal:
            return torch.randn(count, self.noise_size, generator=generator)
        return draw_noise(count, self.noise_size, self.levels, generator)

    def received(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the values of all input neurons ``(batch, noise_size + num_classes)``."""
        return with_one_hot(noise, labels, self.num_classes)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return pixels float32 ``(batch, channels, height, width)`` in 0 ... 1.

        Args:
            noise: ``(batch, noise_size)``; without labels what `received` returns.
            labels: ``(batch,)``, of a conditional generator.
        """
        return self.trace(noise if labels is None else self.received(noise, labels))[-1]

    def trace(self, received: Tensor) -> list[Tensor]:
        """Return the values of each hidden layer and the pixels."""
        inputs = self.noise_size + self.num_classes
        if received.dim() != 2 or received.shape[1] != inputs:
            labels = f", or noise (batch, {self.noise_size}) and labels" if self.num_classes else ""
            raise ValueError(
                f"expected values (batch, {inputs}){labels}, found the shape {tuple(received.shape)}"
            )
        return self._walk(received, self._of_layer)

    def with_mean(self, received: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixels and the mean value of all hidden neurons, for a spike penalty.

        Args:
            received: values of the input neurons ``(batch, noise_size + num_classes)``.

        Returns:
            Pixels ``(batch, channels, height, width)`` in 0 ... 1; a float32 scalar in 0 ... 1.

        Raises:
            InputError: it has no window neurons.
        """
        if self.levels is None:
            raise InputError("an ANN has no spikes to penalise")
        levels = self.levels
        totals: list[Tensor] = []

        def of_layer(layer: NormedConnection, received: Tensor) -> Tensor:
            values, total = fire(layer, received, levels.steps, levels.clip, add_up=True)
            assert total is not None
            totals.append(total)
            return values

        *hidden, pixels = self._walk(received, of_layer)
        return pixels, torch.stack(totals).sum() / sum(part.numel() for part in hidden)

    def _walk(
        self, received: Tensor, of_layer: Callable[[NormedConnection, Tensor], Tensor]
    ) -> list[Tensor]:
        values = of_layer(self.first, received.to(self.dtype))
        values = values.unflatten(1, self.start).to(memory_format=torch.channels_last)
        traced = [values]
        for layer in (self.second, self.third):
            traced.append(of_layer(layer, traced[-1]))
        membrane = connect(traced[-1], *self.pixel_weights()).to(torch.float32)
        return [*traced, self._pixels(membrane)]

    def _of_layer(self, layer: NormedConnection, received: Tensor) -> Tensor:
        if self.levels is None:
            return F.relu(layer(received))
        return fire(layer, received, self.levels.steps, self.levels.clip, add_up=False)[0]

    def _pixels(self, membrane: Tensor) -> Tensor:
        if self.levels is None:
            return (torch.tanh(membrane) + 1) / 2
        neuron = self.levels.pixel_neuron()
        return neuron.quantise(membrane, self.levels.steps).values

    def pixel_weights(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the pixels, on the grid of `round_to_grid`."""
        bias = self.pixels.bias
        assert bias is not None
        return round_to_grid(self.pixels.weight), round_to_grid(bias)

    def images(self, pixels: Tensor) -> Tensor:
        """Return the pictures, uint8 ``(batch, height, width)``, of colour ``(batch, channels, ...)``."""
        found = (pixels * 255).round().to(torch.uint8) if self.levels is None else bytes_of(pixels)
        return found[:, 0] if len(found[0]) == 1 else found

    @torch.no_grad()
    def spiking(self, prior: Tensor | None = None) -> SpikingGenerator:
        """Return the generator on spike times, which draws the same pixels.

        Args:
            prior: of its noise neurons, see `SpikingGenerator`.

        Raises:
            InputError: it has no window neurons.
        """
        if self.levels is None:
            raise InputError("an ANN has no form of spike times")
        levels = self.levels
        hidden = Window(low=0.0, high=levels.clip, steps=levels.steps)
        # Training rounds to the nearest level, a window neuron down to the next.
        half_level = levels.clip / levels.steps / 2
        maps, height, width = self.start
        weight, bias = self.first.folded()
        layers = [
            # What a full connection gives as maps: each input reaches all places through its own kernel.
            _filled(
                ConvTranspose2d(weight.shape[1], maps, (height, width), hidden),
                weight.T.unflatten(1, self.start),
                bias.unflatten(0, self.start) + half_level,
            )
        ]
        for source in (self.second, self.third):
            weight, bias = source.folded()
            made = ConvTranspose2d(weight.shape[0], weight.shape[1], 4, hidden, stride=2, padding=1)
            layers.append(_filled(made, weight, bias + half_level))
        weight, bias = self.pixel_weights()
        output = Conv2d(weight.shape[1], weight.shape[0], 3, levels.pixel_neuron(), padding=1)
        layers.append(_filled(output, weight, bias))
        stack = Stack(*layers, steps=levels.in_steps)
        return SpikingGenerator(stack, self.noise_size, self.image_shape, self.num_classes, prior)


def on_spikes(net: Any) -> Any:
    """Return the form on spike times of a `ConvGenerator`, anything else as it is."""
    return net.spiking() if isinstance(net, ConvGenerator) else net


class Critic(torch.nn.Module):
    """Pixels and label in, a score out: how real an image looks; above 0 says real.

    Two convolutions 5 x 5 of stride 2, a full connection, and one neuron whose membrane is the score.

    Args:
        image_shape: ``(channels, height, width)``.
        num_classes: 0 unless conditional.
        maps: of the first convolution; the second has twice as many.
        features: neurons of the full connection.
        labels: how the label comes in. "projection": each class adds a weighted sum of the features to the
            score (Miyato & Koyama 2018, arXiv 1802.05637); "auxiliary": the critic names the class instead
            (Odena et al. 2017, arXiv 1610.09585).
        spectral: divide each weight by its largest singular value (Miyato et al. 2018, arXiv 1802.05957).
        levels: windows of window neurons; None for an ANN of leaky ReLUs.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        num_classes: int,
        maps: int,
        features: int,
        labels: Labels,
        spectral: bool,
        levels: Levels | None,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.num_classes, self.levels, self.labels = num_classes, levels, labels
        self.dtype = torch.float32
        last = 2 * maps * (height // SCALE) * (width // SCALE)
        normed = spectral_norm if spectral else lambda module: module
        self.first = normed(torch.nn.Conv2d(channels, maps, 5, stride=2, padding=2))
        self.second = normed(torch.nn.Conv2d(maps, 2 * maps, 5, stride=2, padding=2))
        self.third = normed(torch.nn.Linear(last, features))
        self.score = normed(torch.nn.Linear(features, 1))
        if num_classes:
            self.named = normed(torch.nn.Linear(features, num_classes, bias=labels == "auxiliary"))

    def forward(self, pixels: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the scores ``(batch,)``, and the logits of the classes if the critic names them.

        Args:
            pixels: ``(batch, channels, height, width)`` in 0 ... 1.
            labels: ``(batch,)``, of a conditional critic.
        """
        labels = checked_labels(labels, len(pixels), self.num_classes)
        values = pixels.to(self.dtype, memory_format=torch.channels_last)
        for layer in (self.first, self.second):
            values = self._activation(F.conv2d(values, *self._weights(layer), stride=2, padding=2))
        found = F.linear(values.flatten(1), *self._weights(self.third))
        features = self._activation(found).to(torch.float32)
        score = self.score(features).squeeze(1)
        if labels is None:
            return score, None
        if self.labels == "auxiliary":
            return score, self.named(features)
        return score + (cast(Tensor, self.named.weight)[labels] * features).sum(1), None

    def _weights(self, layer: torch.nn.Module) -> tuple[Tensor, Tensor]:
        """Weight and bias in the precision of the values."""
        return cast(Tensor, layer.weight).to(self.dtype), cast(Tensor, layer.bias).to(self.dtype)

    def _activation(self, membrane: Tensor) -> Tensor:
        if self.levels is None:
            return F.leaky_relu(membrane, _LEAK)
        clip = self.levels.critic_clip
        values = quantise(membrane, self.levels.steps, clip)
        # By 1, too, it would be two passes over all maps.
        return values if clip == 1 else values * clip


def draw_noise(
    count: int, noise_size: int, levels: Levels | None, generator: torch.Generator | None = None
) -> Tensor:
    """Return the values of noise neurons ``(count, noise_size)``, uniform in 0 ... 1.

    Those of window neurons are levels of their spikes.
    """
    if levels is None:
        return torch.rand(count, noise_size, generator=generator)
    grey = torch.randint(0, NOISE_LEVELS, (count, noise_size), generator=generator)
    return encode_latency(grey.to(torch.uint8), levels.in_steps).values


def check_sides(height: int, width: int) -> None:
    """Raise InputError unless both sides are multiples of 4."""
    if height % SCALE or width % SCALE or not height or not width:
        raise InputError(
            f"a convolutional generator draws images whose sides are multiples of {SCALE}, found "
            f"{height} x {width}; pad or crop them, or take a fully connected one for grey images, such as "
            "spiking-gan-conditional"
        )


def _filled(layer: ConvTranspose2d | Conv2d, weight: Tensor, bias: Tensor) -> Layer:
    layer.weight.copy_(weight)
    layer.bias = torch.nn.Parameter(bias.clone())
    return layer
