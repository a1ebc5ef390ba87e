"""Variational autoencoders of window neurons, and the ANN of equal size."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor

from firstspike.data import ImageSet
from firstspike.metrics.features import Features
from firstspike.metrics.sampling import Generator
from firstspike.models.conv_gan import Levels
from firstspike.models.gan import SpikingGenerator
from firstspike.models.vae import Vae
from firstspike.recipes.base import Descend
from firstspike.recipes.fields import Count, Positive, Rate, Steps
from firstspike.recipes.generation import ConvolutionalRecipe
from firstspike.recipes.presets import Preset
from firstspike.support import InputError

SOURCE = "Kingma & Welling 2014, arXiv 1312.6114 (evidence bound); spike times as latents: our own"

_JUDGING_BATCH = 500
_JUDGING_SEED = 3
# Standard deviation of the noise that is to be taken away, of intensities 0 ... 1.
_NOISE = 0.4


@dataclass(frozen=True, kw_only=True)
class VaeRecipe(ConvolutionalRecipe):
    """What variational autoencoders have in common; a subclass gives the neurons.

    The epoch with the highest bound on the validation split is kept.

    Attributes:
        encoder_maps, features, decoder_maps: see `firstspike.models.vae.Vae`; `noise_size` are its latents.
        corruption: what the encoder sees is changed, and the image as it was is to come out: "noise" adds
            normal noise of standard deviation 0.4, "half" blackens the lower half; "none".
        rate: Adam's.
    """

    noise_size: Count = 16
    encoder_maps: Count = 32
    features: Count = 128
    decoder_maps: Count = 48
    corruption: Literal["none", "noise", "half"] = "none"
    rate: Rate = 2e-3

    judged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.conditional:
            raise InputError("a variational autoencoder takes no label; leave conditional out")

    def build(self, shape: tuple[int, ...], classes: int) -> Vae:
        """Return the network, freshly drawn."""
        return Vae(
            shape,
            latents=self.noise_size,
            encoder_maps=self.encoder_maps,
            features=self.features,
            decoder_maps=self.decoder_maps,
            levels=self.levels(),
        )

    def prepare(self, model: torch.nn.Module, train: ImageSet) -> None:
        """Let the decoder start at the mean intensity of the images to learn."""
        cast(Vae, model).decoder.start_at(self.starting_pixels(train))

    def optimizers(self, model: torch.nn.Module) -> dict[str, torch.optim.Optimizer]:
        """Return Adam."""
        return {"optimizer": torch.optim.Adam(model.parameters(), self.rate, fused=True)}

    def plain(self, inputs: Tensor) -> Tensor:
        """Return the pixels that the encoder sees."""
        return self.pixels(inputs)

    def corrupted(self, images: Tensor) -> Tensor:
        """Return images uint8 as `corruption` changes them.

        Raises:
            TypeError: they are of another type.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"expected images uint8, found {images.dtype}")
        if self.corruption == "noise":
            noisy = images.to(torch.float32) + _NOISE * 255 * torch.randn(images.shape)
            return noisy.round().clamp(0, 255).to(torch.uint8)
        if self.corruption == "half":
            upper = images.clone()
            upper[..., images.shape[-2] // 2 :, :] = 0
            return upper
        return images

    def step(
        self, model: torch.nn.Module, inputs: Tensor, labels: Tensor, descend: Descend
    ) -> dict[str, Tensor]:
        """Take one step up the bound."""
        vae = cast(Vae, model)
        vae.encoder.dtype = vae.decoder.dtype = self._dtype(inputs)
        found = vae(self.pixels(self.corrupted(inputs)), self.pixels(inputs))
        loss = -found.bound.mean()
        # Per pixel, so that the rate means the same for images of all sizes.
        descend("optimizer", loss / inputs[0].numel())
        return {"loss": loss, "divergence": found.divergence.mean()}

    @torch.no_grad()
    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the bound and the error of the reconstruction on the validation split."""
        vae, found = self._ready(model), self.chosen(validation)
        bounds, squares = [], []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_JUDGING_SEED)
            for images in found.images.split(_JUDGING_BATCH):
                wanted, seen = self.pixels(images), self.pixels(self.corrupted(images))
                bounds.append(vae(seen, wanted).bound)
                squares.append((vae.reconstruct(seen) - wanted).square().flatten(1).mean(1))
        return {
            "validation_bound": float(torch.cat(bounds).mean()),
            "validation_reconstruction_error": float(torch.cat(squares).mean()),
        }

    def score(self, figures: Any) -> float:
        """Return the bound."""
        return float(figures.get("validation_bound", float("-inf")))

    def further(
        self, model: torch.nn.Module, generator: Generator, test: ImageSet, count: int, features: Features
    ) -> dict[str, float]:
        """Return the bound and the error of the reconstruction on the test images."""
        found = self.judge(model, test)
        return {name.removeprefix("validation_"): value for name, value in found.items()}

    def reconstructed(self, model: torch.nn.Module, images: Tensor) -> Tensor:
        """Return what comes out for images uint8 as they are, uint8 ``(batch, ...)``."""
        vae = self._ready(model)
        return vae.decoder.images(vae.reconstruct(self.pixels(images)))

    def generator(self, model: torch.nn.Module) -> Generator:
        """Return the decoder with the prior of its latents."""
        return self._ready(model).generator()

    def _ready(self, model: torch.nn.Module) -> Vae:
        """The network as it is measured."""
        vae = cast(Vae, model).eval()
        vae.encoder.dtype = vae.decoder.dtype = torch.float32
        return vae


@dataclass(frozen=True, kw_only=True)
class SpikingVae(VaeRecipe):
    """A variational autoencoder of which every neuron, latents too, spikes at most once.

    Attributes:
        steps, latent_steps, pixel_steps: windows of hidden neurons, latents and pixels.
        clip: membrane, after batch normalisation, at which a hidden neuron fires at step 0.
    """

    # With half of both a reconstruction's error is a tenth above the ANN's.
    steps: Steps = 32
    latent_steps: Steps = 64
    pixel_steps: Steps = 64
    clip: Positive = 4.0

    def levels(self) -> Levels:
        """Return the windows."""
        return Levels(
            steps=self.steps, in_steps=self.latent_steps, pixel_steps=self.pixel_steps, clip=self.clip
        )

    def exported(self, model: torch.nn.Module) -> SpikingGenerator:
        """Return the decoder on spike times with the prior of its latents."""
        return cast(SpikingGenerator, self.generator(model))


@dataclass(frozen=True, kw_only=True)
class AnnVae(VaeRecipe):
    """The ANN of the same size, with normal latents."""

    def levels(self) -> None:
        """Return that there are none."""


_ON_DIGITS = {
    "noise_size": 8,
    "encoder_maps": 16,
    "features": 64,
    "decoder_maps": 16,
    "batch_size": 32,
    "epochs": 60,
}

PRESETS = (
    Preset(
        "spiking-vae",
        "variational autoencoder of window neurons with spike times as latents",
        SOURCE,
        SpikingVae(),
        on_digits=_ON_DIGITS,
    ),
    Preset(
        "spiking-vae-fashion",
        "the same on Fashion-MNIST",
        SOURCE,
        SpikingVae(dataset="fashion-mnist"),
        one_dataset=True,
    ),
    Preset(
        "ann-vae",
        "the ANN autoencoder of the same size with normal latents",
        SOURCE,
        AnnVae(),
        on_digits=_ON_DIGITS,
        note="the reference that spiking-vae is measured against",
    ),
    Preset(
        "ann-vae-fashion",
        "the same on Fashion-MNIST",
        SOURCE,
        AnnVae(dataset="fashion-mnist"),
        one_dataset=True,
        note="the reference that spiking-vae-fashion is measured against",
    ),
)
