"""The ordinary GAN of the same size that Spiking-GAN is compared with (arXiv 2106.15420, section 4)."""

import torch
from torch import Tensor
from torch.nn import functional as F


class AnnGenerator(torch.nn.Module):
    """100-400-784 with ReLU and tanh: noise in [-1, 1] in, pixels in [-1, 1] out.

    Args:
        noise_size, hidden_features: sizes.
        image_shape: ``(height, width)``.
        num_classes: 0 unless conditional; the label is then one-hot beside the noise.
        generator: source of the initial weights.
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
        hidden = F.relu(self.hidden(_with_one_hot(noise, labels, self.num_classes)))
        return torch.tanh(self.output(hidden))

    def images(self, pixels: Tensor) -> Tensor:
        """Return the pictures, uint8 ``(batch, height, width)``."""
        scaled = ((pixels + 1) * 127.5).round().clamp(0, 255)
        return scaled.to(torch.uint8).reshape(-1, *self.image_shape)


class AnnDiscriminator(torch.nn.Module):
    """784-400-1 with ReLU and sigmoid: the probability that pixels in [-1, 1] are real."""

    def __init__(self, pixels: int, hidden_features: int, num_classes: int = 0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.hidden = torch.nn.Linear(pixels + num_classes, hidden_features)
        self.output = torch.nn.Linear(hidden_features, 1)

    def forward(self, pixels: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return probabilities ``(batch, 1)``."""
        hidden = F.relu(self.hidden(_with_one_hot(pixels, labels, self.num_classes)))
        return torch.sigmoid(self.output(hidden))


def _with_one_hot(values: Tensor, labels: Tensor | None, num_classes: int) -> Tensor:
    if (num_classes > 0) != (labels is not None):
        raise ValueError("labels go with a conditional network and with no other")
    if labels is None:
        return values
    one_hot = F.one_hot(labels, num_classes).to(values.dtype)
    return torch.cat([values, one_hot], 1)
