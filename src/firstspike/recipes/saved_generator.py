"""A generator whose run holds its layers: made smaller or made elsewhere, drawn from, never trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from firstspike.data import Dataset
from firstspike.metrics.sampling import Generator
from firstspike.models.gan import SpikingGenerator
from firstspike.nn.description import StackDescription, describe
from firstspike.recipes.converted import NotTrained, built
from firstspike.recipes.generation import GenerativeRecipe
from firstspike.support import InputError


@dataclass(frozen=True, kw_only=True)
class SavedGenerator(NotTrained, GenerativeRecipe):
    """A `SpikingGenerator` that is measured beside real images; `firstspike.save_network` makes runs of it.

    Attributes:
        network: its stack without the weights.
        prior: whether its noise neurons have a prior.
    """

    network: StackDescription
    prior: bool = False

    channels: ClassVar[Mapping[int, str]] = {1: "grey", 3: "colour"}

    def build(self, shape: tuple[int, ...], classes: int) -> SpikingGenerator:
        """Return the generator, its weights drawn alike each time.

        Raises:
            InputError: the description is of none that works.
        """
        stack = built(self.network)
        prior = torch.ones(self.noise_size, stack.steps + 1) if self.prior else None
        labels = classes if self.conditional else 0
        try:
            return SpikingGenerator(stack, self.noise_size, shape, labels, prior)
        except ValueError as error:
            raise InputError(f"the saved generator does not fit its configuration: {error}") from error

    def check_generator(self, generator: Generator) -> None:
        """Raise InputError unless it draws what the data set holds."""
        generator = cast(SpikingGenerator, generator)
        (channels, *sides), classes = self.sizes()
        wanted = tuple(sides) if channels == 1 else (channels, *sides)
        if generator.image_shape != wanted or generator.num_classes not in (0, classes):
            raise InputError(
                f"the generator draws {' x '.join(map(str, generator.image_shape))} pixels of "
                f"{generator.num_classes or 'no'} classes, {self.dataset} has "
                f"{' x '.join(map(str, wanted))} and {classes}; name other data"
            )

    def generator(self, model: torch.nn.Module) -> Generator:
        """Return the generator."""
        return cast(SpikingGenerator, model)

    def exported(self, model: torch.nn.Module) -> SpikingGenerator:
        """Return the generator."""
        return cast(SpikingGenerator, model)


def saved_generator(
    generator: SpikingGenerator, dataset: str | Dataset, digit: int | None = None
) -> SavedGenerator:
    """Return the recipe of a generator that draws what a data set, or one class of it, holds.

    Raises:
        InputError: there is no such data set, or its images or classes are not the generator's.
        TypeError: see `firstspike.nn.description.describe`.
    """
    made = SavedGenerator(
        dataset=dataset,
        digit=digit,
        conditional=generator.num_classes > 0,
        noise_size=generator.noise_size,
        network=describe(generator.stack),
        prior=generator.prior is not None,
    )
    made.check_generator(generator)
    return made
