"""What a recipe is: one frozen value that builds its network, trains it, judges it and reports on it.

`firstspike.training.loop` trains any `Recipe`. A family of recipes is one file: a subclass and its presets.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, cast

import torch
from torch import Tensor

from firstspike.data import Dataset, ImageSet, dataset, load
from firstspike.data.augment import (
    check_bytes,
)
from firstspike.metrics.report import Progress, Report, report
from firstspike.metrics.sampling import Samples
from firstspike.models.gan import SpikingGenerator
from firstspike.models.layout import parse_layout
from firstspike.models.precision import Precision, fast_precision
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.spiking_form import SpikingForm, spiking_form
from firstspike.models.start import start_as_identity, whiten
from firstspike.models.window import WindowNetwork
from firstspike.recipes.augmentation import Augmentation
from firstspike.recipes.fields import (
    Checked,
    Count,
    NotNegative,
    Range,
    Rate,
    Share,
    ShareBelowOne,
    Steps,
)
from firstspike.recipes.optimizers import AdamW, Muon, Sgd
from firstspike.spikes import Spikes
from firstspike.support import InputError

# Of which the covariance of patches is taken.
WHITENING_IMAGES = 5000

# Takes the name of an optimiser and a loss, a mean over the samples given: gradients, then a step.
Descend = Callable[[str, Tensor], None]


def maps(images: Tensor) -> Tensor:
    """Return images ``(batch, height, width)`` or ``(batch, channels, height, width)`` with channels."""
    return images.unsqueeze(1) if images.dim() == 3 else images


class Figures(Protocol):
    """What a recipe reports."""

    def as_dict(self) -> dict[str, Any]:
        """Return the figures under the names that ``firstspike evaluate --json`` prints."""
        ...


@dataclass(frozen=True)
class LayerActivity:
    """What the neurons of a layer do on some images.

    Attributes:
        spikes: theirs, ``(batch, ...)``.
        membrane: at the end of the inputs, ``(batch, ...)``.
        weight: the parameter of the layer's first connection.
    """

    spikes: Spikes
    membrane: Tensor
    weight: Tensor


@dataclass(frozen=True, kw_only=True)
class Recipe(Checked, ABC):
    """Everything that defines a run but its seed: data, network, loss, optimisers, schedule.

    Attributes:
        dataset: name known to `firstspike.data.load`, or a `Dataset` of your own, of which a configuration
            holds the name.
        batch_size, epochs: of the training.
        ema: decay per step of the moving average of the weights, which is what is kept; 0 for none. A
            training of few steps takes ``1 - 4 / steps`` instead, so that its average forgets the untrained
            weights.
        look_ahead: steps after which the average moves, by `ema`, and the weights are set back to it
            (Zhang et al. 2019, arXiv 1907.08610); 0: the average moves at every step, and nothing is set
            back.
    """

    dataset: str | Dataset = "mnist"
    batch_size: Count = 128
    epochs: Count = 20
    ema: ShareBelowOne = 0.0
    look_ahead: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.look_ahead and not self.ema:
            raise InputError(
                "look_ahead sets the weights back to their average, which is these themselves without ema; "
                "give ema, such as 0.8, or leave look_ahead at 0"
            )

    # Whether it can be trained; what cannot was made elsewhere, and is measured on any data.
    trainable: ClassVar[bool] = True
    # Whether a last batch of fewer samples is left out, where there are others.
    drops_last: ClassVar[bool] = False
    # Whether its epochs are judged on the validation split.
    judged: ClassVar[bool] = True
    # Whether it trains on a GPU and gains by torch.compile; under torchrun; is looked into by --diagnose.
    on_gpu: ClassVar[bool] = False
    in_processes: ClassVar[bool] = True
    has_layers: ClassVar[bool] = False

    def data(self, split: str, data_dir: Path | None = None) -> ImageSet:
        """Return a split of the data set.

        Raises:
            InputError: see `firstspike.data.load`.
        """
        return load(self.dataset, split, data_dir)

    def sizes(self) -> tuple[tuple[int, ...], int]:
        """Return the shape ``(channels, height, width)`` of a sample and the number of classes."""
        known = dataset(self.dataset)
        return known.shape, known.classes

    def on(self, data: str | Dataset) -> Self:
        """Return the recipe for another data set, with the fields changed that make no sense there.

        Raises:
            InputError: there is none of that name.
        """
        # Before the name is part of a path.
        dataset(data)
        return dataclasses.replace(self, dataset=data)

    def precision_on(self, device: str) -> Precision:
        """Return the precision of a training on `device`."""
        return "float32"

    def at(self, precision: Precision) -> Self:
        """Return the recipe with its precision settled."""
        return self

    @abstractmethod
    def build(self, shape: tuple[int, ...], classes: int) -> torch.nn.Module:
        """Return all that is trained, freshly drawn; the weights come from torch's global random state.

        Args:
            shape: ``(channels, height, width)`` of a sample.
            classes: how many there are.
        """

    def kept(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the part of what `build` returns that is averaged, judged and kept: all of it."""
        return model

    @abstractmethod
    def optimizers(self, model: torch.nn.Module) -> dict[str, torch.optim.Optimizer]:
        """Return the optimisers of what `build` returned by name, at their full learning rates."""

    def rate_factor(self, step: int, total: int) -> float:
        """Return what the learning rates are multiplied by in step `step` of `total`."""
        return 1.0

    def examples(self, train: ImageSet) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels that batches are taken from."""
        return train.images, train.labels

    def prepare(self, model: torch.nn.Module, train: ImageSet) -> None:
        """Give a freshly drawn model what it starts from besides chance, such as the training images."""

    def augment(self, inputs: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Return a batch of inputs, changed at random.

        Args:
            inputs: the batch.
            index: int64 ``(batch,)``, its samples' places in the training set.
            epoch: from 0.
        """
        return inputs

    def plain(self, inputs: Tensor) -> Tensor:
        """Return inputs as `kept` takes them."""
        return maps(inputs)

    @abstractmethod
    def step(
        self, model: torch.nn.Module, inputs: Tensor, labels: Tensor, descend: Descend
    ) -> dict[str, Tensor]:
        """Take one step on a batch and return its losses, scalars by name.

        Args:
            model: what `build` returned.
            inputs, labels: the batch, on the model's device.
            descend: updates by an optimiser's name and a loss; sums gradients over processes.
        """

    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return an epoch's figures on the validation split, for recipes that are `judged`."""
        return {}

    def score(self, figures: Mapping[str, Any]) -> float:
        """Return what the best epoch has most of; of equals the later is kept."""
        return float(figures.get("validation_accuracy", 0.0))

    def compilable(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the layers that gain by torch.compile."""
        return []

    def layers(self, model: torch.nn.Module, images: Tensor) -> Iterator[LayerActivity]:
        """Yield what each layer of neurons does, from the input on; for recipes that `has_layers`."""
        raise NotImplementedError

    def without_dropout(self, model: torch.nn.Module) -> None:
        """Take dropout out of a model whose layers are looked into; for recipes that have it."""

    @abstractmethod
    def report(
        self,
        model: torch.nn.Module,
        test: ImageSet,
        data_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> Figures:
        """Return every figure of a trained model on the test set.

        Args:
            model: what was kept.
            test: the test set.
            data_dir: for other splits that the figures need.
            progress: told how many samples of the test set are measured, where they are one after the
                other.
        """

    def exported(self, model: torch.nn.Module) -> SpikingForm | SpikingGenerator:
        """Return a trained model on spike times with its encoder, as it leaves for other places.

        Raises:
            InputError: it has no such form.
        """
        raise InputError(
            f"{type(self).__name__} makes no network of spike times, so nothing can be exported"
        )

    def sample(
        self, model: torch.nn.Module, count: int, seed: int = 0, label: int | None = None
    ) -> Samples:
        """Return `count` generated images.

        Raises:
            InputError: the recipe makes no generator.
        """
        raise InputError("this run holds a classifier, which generates nothing; give the folder of a GAN")


@dataclass(frozen=True, kw_only=True)
class Classifier(Recipe):
    """A network that decides, trained by one loss and one optimiser; a subclass gives both.

    Attributes:
        augmentation: random changes of the training images.
        rate, weight_decay: the optimiser's; the rate falls to 0 along a cosine,
        warmup: after rising over this share of all steps.
    """

    augmentation: Augmentation = field(default_factory=Augmentation)
    rate: Rate = 1e-3
    weight_decay: NotNegative = 0.0
    warmup: Share = 0.05

    def data(self, split: str, data_dir: Path | None = None) -> ImageSet:
        """Return a split of the data set.

        Raises:
            InputError: its samples are not what `augmentation` changes; see `firstspike.data.load`.
        """
        found = super().data(split, data_dir)
        if self.augmentation != Augmentation():
            check_bytes(found.images)
        return found

    def optimizers(self, model: torch.nn.Module) -> dict[str, torch.optim.Optimizer]:
        """Return AdamW, under which weights decay and the other parameters do not."""
        return {"optimizer": AdamW().of(model, self.rate, self.weight_decay)}

    def rate_factor(self, step: int, total: int) -> float:
        """Return the factor: up linearly over the share `warmup`, times a half cosine down to 0."""
        rise = min(1.0, (step + 1) / max(self.warmup * total, 1))
        return rise * 0.5 * (1 + math.cos(math.pi * step / total))

    def augment(self, inputs: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Return images as `augmentation` changes them."""
        return self.augmentation(inputs, index, epoch)

    def on(self, data: str | Dataset) -> Self:
        """Return the recipe for another data set; plain numbers are not augmented."""
        recipe = super().on(data)
        if not dataset(data).is_table:
            return recipe
        return dataclasses.replace(recipe, augmentation=Augmentation())

    @abstractmethod
    def batch_loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch of images uint8, a scalar."""

    def step(
        self, model: torch.nn.Module, inputs: Tensor, labels: Tensor, descend: Descend
    ) -> dict[str, Tensor]:
        """Take one step down the loss."""
        loss = self.batch_loss(model, inputs, labels)
        descend("optimizer", loss)
        return {"loss": loss}

    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the figures of the validation split; the accuracy by the network's own rule chooses."""
        found = self.report(model, validation)
        return {
            f"validation_{name}": value
            for name, value in (
                ("accuracy", found.accuracy),
                ("tie_rate", found.tie_rate),
                ("silent_rate", found.silent_rate),
            )
            if value is not None
        }

    def report(
        self,
        model: torch.nn.Module,
        test: ImageSet,
        data_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> Report:
        """Return accuracy and cost on images, see `firstspike.metrics.report.report`."""
        return report(model, maps(test.images), test.labels, progress=progress)


@dataclass(frozen=True, kw_only=True)
class MixedPrecision(Checked):
    """What a recipe that trains in half precision where that is fast is besides, named before its kind.

    No `Recipe` itself: its fields' defaults would take the place of those of the other base.

    Attributes:
        precision: of activations during training; weights, validation and tests are float32. "auto" takes
            what the processor or GPU does well, which the run records.
    """

    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def precision_on(self, device: str) -> Precision:
        """Return the precision of a training on `device`."""
        return fast_precision(device) if self.precision == "auto" else self.precision

    def at(self, precision: Precision) -> Self:
        """Return the recipe with its precision settled."""
        return dataclasses.replace(self, precision=precision)

    def _dtype(self, images: Tensor) -> torch.dtype:
        """The type of activations on the images' device."""
        return torch.bfloat16 if self.precision_on(str(images.device)) == "bfloat16" else torch.float32


@dataclass(frozen=True, kw_only=True)
class DeepClassifier(MixedPrecision, Classifier):
    """A classifier of several layers given by a layout, on maps; it trains on a GPU too.

    Attributes:
        optimizer: what takes the steps.
        identity_start: the first filters of a convolution of odd size that gives no fewer maps than it
            takes pass these on.
    """

    rate: Rate = 2e-3
    weight_decay: NotNegative = 0.01
    optimizer: AdamW | Sgd | Muon = field(default_factory=AdamW)
    identity_start: bool = False

    on_gpu: ClassVar[bool] = True

    def optimizers(self, model: torch.nn.Module) -> dict[str, torch.optim.Optimizer]:
        """Return the optimiser."""
        return {"optimizer": self.optimizer.of(model, self.rate, self.weight_decay)}

    def prepare(self, model: torch.nn.Module, train: ImageSet) -> None:
        """Start convolutions as the identity, and whiten by the training images."""
        if self.identity_start:
            start_as_identity(model)
        whiten(model, maps(train.images[:WHITENING_IMAGES]))


@dataclass(frozen=True, kw_only=True)
class SpikeClassifier(DeepClassifier):
    """A deep network that is trained without spike times and measured on its layers of spike times.

    Attributes:
        layout: the hidden layers, see `firstspike.models.layout.parse_layout`.
        steps: ``T`` of every layer.
        pool_first: see `firstspike.models.window.WindowNetwork`.
    """

    layout: str = "32C5s2-64C3-A2-128C3-F128"
    steps: Steps = 8
    pool_first: bool = False

    has_layers: ClassVar[bool] = True
    # The parts of a layout that the network is built of.
    parts: ClassVar[tuple[type[Any], ...]]

    def exported(self, model: torch.nn.Module) -> SpikingForm:
        """Return the layers of spike times."""
        return spiking_form(cast(RasterNetwork | WindowNetwork, model))

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_layout(self.layout, self.parts)

    def judge(self, model: torch.nn.Module, validation: ImageSet) -> dict[str, Any]:
        """Return the figures of the validation split; the accuracy by output spikes chooses."""
        found = self.report(model, validation)
        return {
            "validation_accuracy": found.accuracy,
            "validation_accuracy_spikes": found.accuracy,
            "validation_accuracy_membrane": found.accuracy_membrane,
            "validation_tie_rate": found.tie_rate,
            "validation_silent_rate": found.silent_rate,
            "steps_to_decision": found.steps_to_decision,
            "spikes_per_hidden_neuron": found.spikes_per_hidden_neuron,
        }
