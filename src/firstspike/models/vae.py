"""A variational autoencoder of window neurons, whose latent is spike times, and the ANN of equal size.

The encoder's latent neurons say for each latent ``z`` where in its window it fires and how surely; a
latent fires once or stays silent, which is one of ``T + 1`` levels, so the evidence bound is a sum over
levels and exact but for the sampling of the latents.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.models.conv_gan import SCALE, ConvGenerator, Levels, check_sides
from firstspike.models.gan import SpikingGenerator
from firstspike.models.quantised import fire
from firstspike.nn.normed import NormedConnection

# A latent that is surer than this fires at one step anyway, and its bound would have no gradient.
_NARROWEST = 0.05


@dataclass(frozen=True)
class Bound:
    """The evidence lower bound of images, and what it is made of.

    Attributes:
        bound: ``log p(x | z) - KL(q || p)``, nats ``(batch,)``.
        reconstruction: ``log p(x | z)``, nats ``(batch,)``.
        divergence: ``KL(q(z | x) || p(z))``, nats ``(batch,)``.
        pixels: the mean of ``p(x | z)``, ``(batch, channels, height, width)`` in 0 ... 1.
    """

    bound: Tensor
    reconstruction: Tensor
    divergence: Tensor
    pixels: Tensor


class Encoder(torch.nn.Module):
    """Pixels in, two numbers for each latent out, through two convolutions and a full connection.

    Args:
        image_shape: ``(channels, height, width)``, multiples of 4.
        latents: how many.
        maps: of the first convolution; the second has twice as many.
        features: neurons of the full connection.
        levels: windows of window neurons; None for an ANN of ReLUs.
    """

    def __init__(
        self, image_shape: Sequence[int], *, latents: int, maps: int, features: int, levels: Levels | None
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        check_sides(height, width)
        self.levels = levels
        self.dtype = torch.float32
        self.first = NormedConnection((maps, channels, 5, 5), stride=2)
        self.second = NormedConnection((2 * maps, maps, 5, 5), stride=2)
        self.third = NormedConnection((features, 2 * maps * (height // SCALE) * (width // SCALE)))
        self.centre = torch.nn.Linear(features, latents)
        self.spread = torch.nn.Linear(features, latents)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return centre and logarithm of the spread ``(batch, latents)``, for pixels in 0 ... 1."""
        values = pixels.to(self.dtype, memory_format=torch.channels_last)
        for layer in (self.first, self.second, self.third):
            if self.levels is None:
                values = F.relu(layer(values))
            else:
                values = fire(layer, values, self.levels.steps, self.levels.clip, add_up=False)[0]
        features = values.to(torch.float32)
        return self.centre(features), self.spread(features)


class SpikeLatent(torch.nn.Module):
    """Latents that fire at one of ``T`` steps or not at all, with a learned prior over these levels.

    ``q`` is a logistic density of the membrane, in steps, cut into levels; ``p`` a table for each latent. A
    latent at level ``k`` fires at step ``T - k``; at 0 it is silent.

    Args:
        latents: how many.
        steps: ``T``.
    """

    def __init__(self, latents: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.prior = torch.nn.Parameter(torch.zeros(latents, steps + 1))

    def draw(self, centre: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Return values ``k / T`` of latents drawn from ``q`` and ``KL(q || p)`` ``(batch,)``.

        Gradients of the values pass straight through the levels inside the range.

        Args:
            centre: of ``q`` in halves of the window from its middle, ``(batch, latents)``.
            spread: logarithm of its scale in the same unit.
        """
        middle = self.steps / 2
        place, scale = middle * (1 + centre), self._scale(spread)
        uniform = torch.rand_like(place).clamp(1e-6, 1 - 1e-6)
        drawn = place + scale * torch.logit(uniform)
        levels = drawn.clamp(0, self.steps)
        levels = levels + (levels.round() - levels).detach()
        return levels / self.steps, self.divergence(centre, spread)

    def chances(self, centre: Tensor, spread: Tensor) -> Tensor:
        """Return the probabilities ``q`` of each level, ``(batch, latents, T + 1)``."""
        middle = self.steps / 2
        place, scale = middle * (1 + centre).unsqueeze(2), self._scale(spread).unsqueeze(2)
        edges = torch.arange(self.steps, device=centre.device) + 0.5
        below = torch.sigmoid((edges - place) / scale)
        ends = below.new_zeros(*below.shape[:2], 1)
        return torch.diff(torch.cat([ends, below, ends + 1], 2), dim=2)

    def divergence(self, centre: Tensor, spread: Tensor) -> Tensor:
        """Return ``KL(q || p)`` ``(batch,)``, the sum over latents and levels."""
        chances = self.chances(centre, spread).clamp_min(1e-12)
        return (chances * (chances.log() - self.prior.log_softmax(1))).sum((1, 2))

    def likeliest(self, centre: Tensor) -> Tensor:
        """Return the values nearest to the centre, ``(batch, latents)``."""
        middle = self.steps / 2
        return (middle * (1 + centre)).clamp(0, self.steps).round() / self.steps

    def _scale(self, spread: Tensor) -> Tensor:
        return self.steps / 2 * spread.exp() + _NARROWEST


class GaussianLatent(torch.nn.Module):
    """The latents of the ANN: normal, with a standard normal prior."""

    def draw(self, centre: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents drawn from ``q`` and ``KL(q || p)`` ``(batch,)``."""
        drawn = centre + spread.exp() * torch.randn_like(centre)
        divergence = 0.5 * (centre.square() + (2 * spread).exp() - 1 - 2 * spread).sum(1)
        return drawn, divergence

    def likeliest(self, centre: Tensor) -> Tensor:
        """Return the centre."""
        return centre


class Vae(torch.nn.Module):
    """Encoder, latents and decoder.

    Pixels are normal around the decoder's, with one learned spread for all of them (Rybkin et al. 2021,
    arXiv 2006.13202), so that no weight between the two parts of the bound needs to be chosen.

    Args:
        image_shape: ``(channels, height, width)``, multiples of 4.
        latents: how many.
        encoder_maps, features: of the encoder.
        decoder_maps: of the decoder, see `ConvGenerator`.
        levels: windows of window neurons, `in_steps` those of the latents; None for an ANN.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        latents: int,
        encoder_maps: int,
        features: int,
        decoder_maps: int,
        levels: Levels | None,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.encoder = Encoder(
            image_shape, latents=latents, maps=encoder_maps, features=features, levels=levels
        )
        self.latent = GaussianLatent() if levels is None else SpikeLatent(latents, levels.in_steps)
        self.decoder = ConvGenerator(
            image_shape,
            noise_size=latents,
            num_classes=0,
            maps=decoder_maps,
            levels=levels,
            normal=levels is None,
        )
        self.pixel_spread = torch.nn.Parameter(torch.tensor(math.log(0.3)))

    def forward(self, seen: Tensor, wanted: Tensor | None = None) -> Bound:
        """Return the bound of images, in one sample of the latents.

        Args:
            seen: what the encoder sees, ``(batch, channels, height, width)`` in 0 ... 1.
            wanted: what is to come out; None for the same.
        """
        wanted = seen if wanted is None else wanted
        values, divergence = self.latent.draw(*self.encoder(seen))
        pixels = self.decoder(values)
        squares = (pixels - wanted).square().flatten(1).sum(1)
        variance = (2 * self.pixel_spread).exp()
        normalisation = self.pixel_spread + 0.5 * math.log(2 * math.pi)
        reconstruction = -squares / (2 * variance) - wanted[0].numel() * normalisation
        return Bound(reconstruction - divergence, reconstruction, divergence, pixels)

    @torch.no_grad()
    def reconstruct(self, seen: Tensor) -> Tensor:
        """Return the pixels that likeliest latents stand for, ``(batch, channels, height, width)``."""
        return cast(Tensor, self.decoder(self.latent.likeliest(self.encoder(seen)[0])))

    def generator(self) -> SpikingGenerator | ConvGenerator:
        """Return what draws images of the prior: on spike times, unless it is an ANN's."""
        if isinstance(self.latent, SpikeLatent):
            return self.decoder.spiking(self.latent.prior.detach().softmax(1))
        return self.decoder
