"""What trained generators and autoencoders are for besides samples."""

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor

from firstspike.data.augment import shift
from firstspike.metrics.sampling import Generator
from firstspike.models.vae import Encoder, Vae
from firstspike.recipes.vae import VaeRecipe
from firstspike.support import InputError

_READER_MAPS, _READER_FEATURES = 32, 128
_READER_RATE = 2e-3
_READER_BATCH = 50
_READER_SHIFT = 1
# The first of the three sweeps of N-MNIST's camera.
SWEEP_US = 105_000


@torch.no_grad()
def every_label(generator: Generator, rows: int, seed: int = 0) -> Tensor:
    """Return pictures of the same noise under every label in turn, uint8 ``(rows * classes, ...)``.

    Args:
        generator: one that takes the label.
        rows: how many draws of noise.
        seed: of the noise.

    Raises:
        InputError: it takes no label.
    """
    if not generator.num_classes:
        raise InputError("this generator takes no label; train a conditional one")
    noise: Any = generator.noise(rows, torch.Generator().manual_seed(seed))
    pictures = [
        generator.images(cast(Any, generator)(noise, torch.full((rows,), label)))
        for label in range(generator.num_classes)
    ]
    return torch.stack(pictures, 1).flatten(0, 1)


@torch.no_grad()
def between(recipe: VaeRecipe, model: Vae, images: Tensor, steps: int = 10) -> Tensor:
    """Return what the latents between neighbouring images stand for, uint8 ``(rows * steps, ...)``.

    Args:
        recipe, model: an autoencoder.
        images: uint8 ``(rows + 1, height, width)``.
        steps: pictures from one to the next.
    """
    model.eval()
    centre = model.encoder(recipe.pixels(images))[0]
    shares = torch.linspace(0, 1, steps).reshape(1, -1, 1)
    rows = centre[:-1, None].lerp(centre[1:, None], shares).flatten(0, 1)
    return model.decoder.images(model.decoder(model.latent.likeliest(rows)))


class EventReader(torch.nn.Module):
    """The pictures that events of a camera were taken of, by a trained autoencoder's decoder.

    An encoder of the autoencoder's kind reads the first events of each pixel, in a channel for each
    polarity, and says where the latents lie.

    Args:
        recipe, model: the autoencoder, of grey images; it is not changed.

    Raises:
        InputError: the autoencoder is of colour images.
    """

    def __init__(self, recipe: VaeRecipe, model: Vae) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        channels, *sides = model.decoder.image_shape
        if channels != 1:
            raise InputError("events tell of brightness; give an autoencoder of grey images")
        self.encoder = Encoder(
            (2, *sides),
            latents=recipe.noise_size,
            maps=_READER_MAPS,
            features=_READER_FEATURES,
            levels=recipe.levels(),
        )

    def learn(self, events: Tensor, images: Tensor, epochs: int = 60) -> None:
        """Learn which picture each recording is of, by the pixels' squared error.

        Args:
            events: what `firstspike.data.events.EventSet.first_spikes` gives, uint8 ``(count, 2, ...)``, of
                the images' size or larger, with the image in the middle.
            images: uint8 ``(count, height, width)``.
            epochs: how often each is seen, a little shifted.

        Raises:
            InputError: the events' sensor is smaller than the images.
        """
        seen, wanted = self.recipe.pixels(self.middle(events)), self.recipe.pixels(images)
        self.encoder.train()
        optimizer = torch.optim.Adam(self.encoder.parameters(), _READER_RATE)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs)
        for _ in range(epochs):
            for chosen in torch.randperm(len(seen)).split(_READER_BATCH):
                both = shift(torch.cat([seen[chosen], wanted[chosen]], 1), _READER_SHIFT)
                centre, _ = self.encoder(both[:, :2])
                # Drawn without any spread, which is the likeliest, and lets gradients pass.
                values, _ = self.model.latent.draw(centre, torch.full_like(centre, -math.inf))
                loss = (self.model.decoder(values) - both[:, 2:]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
        self.encoder.eval()

    @torch.no_grad()
    def forward(self, events: Tensor) -> Tensor:
        """Return the pictures, uint8 ``(count, height, width)``."""
        latents = self.model.latent.likeliest(self.encoder(self.recipe.pixels(self.middle(events)))[0])
        return self.model.decoder.images(self.model.decoder(latents))

    def middle(self, events: Tensor) -> Tensor:
        """Return what lies in the middle, of the images' size."""
        height, width = self.model.decoder.image_shape[1:]
        top, left = (events.shape[-2] - height) // 2, (events.shape[-1] - width) // 2
        if top < 0 or left < 0:
            raise InputError(
                f"the events' sensor must have {height} x {width} pixels or more, as the images have, "
                f"found {events.shape[-2]} x {events.shape[-1]}"
            )
        return events[..., top : top + height, left : left + width]
