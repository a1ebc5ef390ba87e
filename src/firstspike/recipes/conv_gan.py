"""Convolutional GANs of window neurons, and the ANN of equal size."""

from dataclasses import dataclass
from typing import Annotated, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.data import ImageSet
from firstspike.data.augment import shift
from firstspike.metrics.features import Features
from firstspike.metrics.sampling import Generator
from firstspike.models.conv_gan import ConvGenerator, Critic, Labels, Levels, draw_noise
from firstspike.models.gan import SpikingGenerator, with_one_hot
from firstspike.recipes.base import Descend
from firstspike.recipes.fields import Count, NotNegative, Positive, Range, Rate, Steps
from firstspike.recipes.generation import ConvolutionalRecipe
from firstspike.recipes.presets import Preset

SOURCE = "Miyato et al. 2018, arXiv 1802.05957 (hinge loss, spectral norm); networks: our own"

_PLAIN_SEED = 2


class ConvGan(torch.nn.Module):
    """Both networks."""

    def __init__(self, generator: ConvGenerator, critic: Critic) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic


@dataclass(frozen=True, kw_only=True)
class ConvGanRecipe(ConvolutionalRecipe):
    """What convolutional GANs have in common; a subclass gives the neurons.

    A step: the critic learns on a batch of real and one of generated images by the hinge loss, then the
    generator learns through the critic's new weights on the same generated images.

    Attributes:
        generator_maps, critic_maps, critic_features: see `firstspike.models.conv_gan`.
        labels, spectral: of the critic, likewise.
        shift_px: what the critic sees, real or generated, is shifted at random by up to so many pixels.
        generator_rate, critic_rate: Adam's, with betas 0.5 and 0.99.
    """

    noise_size: Count = 64
    conditional: bool = True
    generator_maps: Count = 48
    critic_maps: Count = 32
    critic_features: Count = 128
    labels: Labels = "projection"
    spectral: bool = True
    shift_px: Annotated[int, Range(0)] = 1
    generator_rate: Rate = 4e-3
    critic_rate: Rate = 2e-3
    epochs: Count = 24

    def build(self, shape: tuple[int, ...], classes: int) -> ConvGan:
        """Return both networks, freshly drawn."""
        classes = classes if self.conditional else 0
        generator = ConvGenerator(
            shape,
            noise_size=self.noise_size,
            num_classes=classes,
            maps=self.generator_maps,
            levels=self.levels(),
        )
        critic = Critic(
            shape,
            num_classes=classes,
            maps=self.critic_maps,
            features=self.critic_features,
            labels=self.labels,
            spectral=self.spectral,
            levels=self.levels(),
        )
        return ConvGan(generator, critic)

    def prepare(self, model: torch.nn.Module, train: ImageSet) -> None:
        """Let the generator start at the mean intensity of the images to learn."""
        cast(ConvGan, model).generator.start_at(self.starting_pixels(train))

    def kept(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the generator."""
        return cast(ConvGan, model).generator

    def optimizers(self, model: torch.nn.Module) -> dict[str, torch.optim.Optimizer]:
        """Return one optimiser for each network."""
        gan = cast(ConvGan, model)
        pairs = (
            ("generator", gan.generator, self.generator_rate),
            ("critic", gan.critic, self.critic_rate),
        )
        return {
            name: torch.optim.Adam(module.parameters(), rate, (0.5, 0.99), fused=True)
            for name, module, rate in pairs
        }

    def plain(self, inputs: Tensor) -> Tensor:
        """Return as many inputs of the generator."""
        noise = draw_noise(
            len(inputs), self.noise_size, self.levels(), torch.Generator().manual_seed(_PLAIN_SEED)
        )
        if not self.conditional:
            return noise
        classes = self.sizes()[1]
        return with_one_hot(noise, torch.arange(len(inputs)) % classes, classes)

    def step(
        self, model: torch.nn.Module, inputs: Tensor, labels: Tensor, descend: Descend
    ) -> dict[str, Tensor]:
        """Update both networks on one batch."""
        gan, count = cast(ConvGan, model), len(inputs)
        gan.generator.dtype = gan.critic.dtype = self._dtype(inputs)
        asked = labels if self.conditional else None
        received = gan.generator.received(gan.generator.noise(count), asked)
        fake, penalty = self.generated(gan.generator, received)
        both = shift(torch.cat([self.pixels(inputs), fake.detach()]), self.shift_px)
        score, named = gan.critic(both, None if asked is None else torch.cat([asked, asked]))
        critic_loss = F.relu(1 - score[:count]).mean() + F.relu(1 + score[count:]).mean()
        if named is not None:
            critic_loss = critic_loss + F.cross_entropy(named[:count], labels)
        descend("critic", critic_loss)

        gan.critic.requires_grad_(False)
        score, named = gan.critic(shift(fake, self.shift_px), asked)
        generator_loss = -score.mean()
        if named is not None:
            generator_loss = generator_loss + F.cross_entropy(named, labels)
        descend("generator", generator_loss + penalty)
        gan.critic.requires_grad_(True)
        return {"generator_loss": generator_loss, "critic_loss": critic_loss}

    def further(
        self, model: torch.nn.Module, generator: Generator, test: ImageSet, count: int, features: Features
    ) -> dict[str, float]:
        """Return what a classifier learns; its images are drawn on values, which are the same."""
        return super().further(model, cast(ConvGenerator, model), test, count, features)

    def generated(self, generator: ConvGenerator, received: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return pixels, and what is added to the generator's loss for its hidden neurons' spikes."""
        return generator.trace(received)[-1], 0.0


@dataclass(frozen=True, kw_only=True)
class SpikingConvGan(ConvGanRecipe):
    """A convolutional GAN of which both networks spike at most once per neuron.

    Attributes:
        steps, in_steps, pixel_steps, clip, critic_clip: see `firstspike.models.conv_gan.Levels`.
        spike_penalty: weight of the mean value ``1 - t/T`` of the generator's hidden neurons in its loss,
            which makes them fire later, or not at all.
    """

    steps: Steps = 16
    in_steps: Steps = 16
    pixel_steps: Steps = 64
    clip: Positive = 4.0
    critic_clip: Positive = 1.0
    spike_penalty: NotNegative = 0.25

    def levels(self) -> Levels:
        """Return the windows."""
        return Levels(
            steps=self.steps,
            in_steps=self.in_steps,
            pixel_steps=self.pixel_steps,
            clip=self.clip,
            critic_clip=self.critic_clip,
        )

    def generated(self, generator: ConvGenerator, received: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return pixels and the spike penalty."""
        if not self.spike_penalty:
            return super().generated(generator, received)
        pixels, mean = generator.with_mean(received)
        return pixels, self.spike_penalty * mean

    def generator(self, model: torch.nn.Module) -> SpikingGenerator:
        """Return the generator on spike times."""
        return cast(ConvGenerator, model).eval().spiking()

    def exported(self, model: torch.nn.Module) -> SpikingGenerator:
        """Return the generator on spike times."""
        return self.generator(model)


@dataclass(frozen=True, kw_only=True)
class AnnConvGan(ConvGanRecipe):
    """The ANN GAN of the same size: ReLUs in the generator, leaky ones in the critic."""

    def levels(self) -> None:
        """Return that there are none."""

    def generator(self, model: torch.nn.Module) -> Generator:
        """Return the generator."""
        generator = cast(ConvGenerator, model).eval()
        generator.dtype = torch.float32
        return generator


_ON_DIGITS = {
    "noise_size": 16,
    "generator_maps": 16,
    "critic_maps": 16,
    "critic_features": 32,
    "shift_px": 0,
    "generator_rate": 4e-4,
    "critic_rate": 4e-4,
    "batch_size": 32,
    "epochs": 60,
}

PRESETS = (
    Preset(
        "spiking-gan-conv",
        "convolutional GAN of window neurons that takes the label, all digits in one",
        SOURCE,
        SpikingConvGan(),
        on_digits=_ON_DIGITS,
        target={
            "frechet_distance": 3.5,
            "recall": 0.9,
            "right_label_rate": 0.985,
            "classification_accuracy_score": 0.975,
            "spikes_per_neuron": 0.35,
        },
    ),
    Preset(
        "spiking-gan-conv-fashion",
        "the same on Fashion-MNIST",
        SOURCE,
        SpikingConvGan(dataset="fashion-mnist"),
        one_dataset=True,
        target={"recall": 0.8, "spikes_per_neuron": 0.35},
    ),
    Preset(
        "ann-gan-conv",
        "the convolutional ANN GAN of the same size",
        SOURCE,
        AnnConvGan(),
        on_digits=_ON_DIGITS,
        note="the reference that spiking-gan-conv is measured against",
    ),
    Preset(
        "ann-gan-conv-fashion",
        "the same on Fashion-MNIST",
        SOURCE,
        AnnConvGan(dataset="fashion-mnist"),
        one_dataset=True,
        note="the reference that spiking-gan-conv-fashion is measured against",
    ),
)
