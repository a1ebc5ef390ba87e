"""What recipes of generators have in common: their images, their report and their samples."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from firstspike.codes import encode_latency
from firstspike.data import ImageSet, dataset
from firstspike.metrics.controls import (
    NEIGHBOURS,
    GenerationQuality,
    classification_accuracy_score,
    control_quality,
    quality,
)
from firstspike.metrics.features import Features, feature_network
from firstspike.metrics.report import Progress
from firstspike.metrics.sampling import Generator, Samples, generation_cost, sample
from firstspike.models.conv_gan import Levels, check_sides
from firstspike.recipes.base import MixedPrecision, Recipe, maps
from firstspike.recipes.fields import Count, Range, ShareBelowOne
from firstspike.support import InputError

SAMPLE_SEED = 1
# Sides of an image; what the feature network can reduce twice.
_SMALLEST_SIDE = 4
_STARTING_IMAGES = 1000


@dataclass(frozen=True)
class GenerationReport:
    """Quality of as many samples as there are test images.

    Attributes:
        quality: of the samples.
        cost: per image, see `firstspike.metrics.sampling.generation_cost`.
        controls: quality of real images and of the class mean's pixels.
        further: figures of this kind of generator: of one that takes the label what
            `firstspike.metrics.controls.classification_accuracy_score` returns.
    """

    quality: GenerationQuality
    cost: Mapping[str, Any]
    controls: Mapping[str, GenerationQuality]
    further: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures under the names that ``firstspike evaluate --json`` prints."""
        controls = {name: figures.as_dict() for name, figures in self.controls.items()}
        figures = self.quality.as_dict() | dict(self.further) | dict(self.cost)
        return figures | {"controls": controls}


@dataclass(frozen=True, kw_only=True)
class GenerativeRecipe(Recipe):
    """A recipe whose kept network draws images of noise; a subclass gives networks and losses.

    The generator's moving average after the last epoch is kept.

    Attributes:
        digit: class to learn; None for all.
        conditional: give the label to the networks; needs ``digit`` None.
        noise_size: noise neurons.
    """

    digit: Annotated[int, Range(0)] | None = None
    conditional: bool = False
    noise_size: Count = 100
    ema: ShareBelowOne = 0.998

    drops_last: ClassVar[bool] = True
    judged: ClassVar[bool] = False
    in_processes: ClassVar[bool] = False
    channels: ClassVar[Mapping[int, str]] = {1: "grey"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.conditional and self.digit is not None:
            raise InputError("a conditional GAN learns all classes; leave out --digit")

    def data(self, split: str, data_dir: Path | None = None) -> ImageSet:
        """Return a split of the data set.

        Raises:
            InputError: its samples are no images of 8 bits, or of colour where the networks draw grey;
                see `firstspike.data.load`.
        """
        self.check_kind()
        found = super().data(split, data_dir)
        if found.images.dtype != torch.uint8:
            raise InputError(
                f"this network draws images of 8 bits, and {self.dataset} has {found.images.dtype}; give "
                "uint8 images"
            )
        return found

    def check_kind(self) -> None:
        """Raise InputError if the data set has no images such as the networks draw."""
        channels, *sides = self.sizes()[0]
        if channels not in self.channels or min(sides) < _SMALLEST_SIDE:
            kinds = " or ".join(self.channels.values())
            other = channels == 3 and 3 not in self.channels
            colour = "; spiking-gan-conv and the like draw colour" if other else ""
            raise InputError(
                f"this network draws {kinds} images of {_SMALLEST_SIDE} x {_SMALLEST_SIDE} pixels or more, "
                f"and {self.dataset} has none; give another --dataset or --data{colour}"
            )

    @abstractmethod
    def generator(self, model: torch.nn.Module) -> Generator:
        """Return the generator that is kept as samples are drawn from it."""

    def check_generator(self, generator: Generator) -> None:
        """Raise InputError if it draws other images than the data set's; one built for them does not."""

    def report(
        self,
        model: torch.nn.Module,
        test: ImageSet,
        data_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> GenerationReport:
        """Return quality, cost and controls, measured against the test images of the class.

        Raises:
            InputError: too few test images; see `check_generator`.
        """
        generator = self.generator(model)
        self.check_generator(generator)
        test, train = self.chosen(test), self.chosen(self.data("train", data_dir))
        if len(test) <= NEIGHBOURS:
            one = "" if self.digit is None else f" of class {dataset(self.dataset).class_name(self.digit)}"
            raise InputError(
                f"the test split of {self.dataset} has {len(test)} images{one}, and recall and precision "
                f"need {NEIGHBOURS + 1}; give more images"
            )
        features = feature_network(self.dataset, data_dir)
        second = feature_network(self.dataset, data_dir, "second")
        samples, measured = self.generate(generator, test, train, features, second)
        return GenerationReport(
            measured,
            generation_cost(generator, samples),
            control_quality(test, train, features, second),
            self.further(model, generator, test, len(train), features),
        )

    def generate(
        self,
        generator: Generator,
        test: ImageSet,
        train: ImageSet,
        features: Features,
        second: Features | None = None,
    ) -> tuple[Samples, GenerationQuality]:
        """Return as many samples as there are test images of the class, and their quality."""
        samples = sample(generator, len(test), SAMPLE_SEED)
        labels = samples.labels if self.digit is None else torch.full((len(test),), self.digit)
        asked = labels if int(labels.min()) >= 0 else None
        return samples, quality(samples.images, asked, test, train, features, second)

    def further(
        self,
        model: torch.nn.Module,
        generator: Generator,
        test: ImageSet,
        count: int,
        features: Features,
    ) -> dict[str, float]:
        """Return figures besides the samples' quality; of `count` samples, where one learns from them."""
        if not self.conditional:
            return {}
        drawn = sample(generator, count, SAMPLE_SEED + 1)
        return classification_accuracy_score(drawn.images, drawn.labels, test, features)

    def sample(
        self, model: torch.nn.Module, count: int, seed: int = 0, label: int | None = None
    ) -> Samples:
        """Return `count` generated images, see `firstspike.metrics.sampling.sample`."""
        return sample(self.generator(model), count, seed, label)

    def chosen(self, images: ImageSet) -> ImageSet:
        """Return the images of the class to learn."""
        return images if self.digit is None else images.of_class(self.digit)


@dataclass(frozen=True, kw_only=True)
class ConvolutionalRecipe(MixedPrecision, GenerativeRecipe):
    """A recipe of convolutional networks; its rates fall to 0 along a line."""

    batch_size: Count = 128
    epochs: Count = 12

    channels: ClassVar[Mapping[int, str]] = {1: "grey", 3: "colour"}

    @abstractmethod
    def levels(self) -> Levels | None:
        """Return the windows of window neurons; None for an ANN."""

    def data(self, split: str, data_dir: Path | None = None) -> ImageSet:
        """Return a split of the data set.

        Raises:
            InputError: its images have sides that are no multiples of 4; see `GenerativeRecipe.data`.
        """
        self.check_kind()
        check_sides(*self.sizes()[0][1:])
        return super().data(split, data_dir)

    def rate_factor(self, step: int, total: int) -> float:
        """Return the factor, along a line down to 0."""
        return 1 - step / total

    def examples(self, train: ImageSet) -> tuple[Tensor, Tensor]:
        """Return the images to learn and their labels."""
        chosen = self.chosen(train)
        return chosen.images, chosen.labels

    def pixels(self, images: Tensor) -> Tensor:
        """Return images uint8 as networks take them, float32 ``(batch, channels, height, width)``.

        These are the values of the pixels' spikes, or for an ANN the intensities.
        """
        levels = self.levels()
        if levels is None:
            return maps(images).to(torch.float32) / 255
        return encode_latency(maps(images), levels.pixel_steps).values

    def starting_pixels(self, train: ImageSet) -> Tensor:
        """Return some of the images to learn, at whose mean a generator starts."""
        return self.pixels(self.chosen(train).images[:_STARTING_IMAGES])
