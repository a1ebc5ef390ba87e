"""A network that was made elsewhere, such as a converted one: described whole, measured, never trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

import torch
from torch import Tensor

from firstspike.data import Dataset, ImageSet, dataset
from firstspike.metrics.report import Progress, Report, report, stack_form
from firstspike.models.spiking_form import SpikingForm
from firstspike.nn import Stack
from firstspike.nn.description import StackDescription
from firstspike.recipes.base import Descend, Recipe, maps
from firstspike.support import InputError


class NotTrained:
    """What recipes of finished networks have in common, before `Recipe` among their bases."""

    trainable: ClassVar[bool] = False

    def optimizers(self, model: torch.nn.Module) -> dict[str, torch.optim.Optimizer]:
        """Refuse: it is not trained."""
        raise NotImplementedError

    def step(
        self, model: torch.nn.Module, inputs: Tensor, labels: Tensor, descend: Descend
    ) -> dict[str, Tensor]:
        """Refuse: it is not trained."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Converted(NotTrained, Recipe):
    """A `Stack` that is measured on a data set; `firstspike.save_network` makes runs of it.

    Attributes:
        dataset: what it is measured on; an empty name for none.
        network: the stack without its weights.
        in_shape: of a sample, where it is known and `dataset` does not say it.
    """

    dataset: str | Dataset = ""
    network: StackDescription
    in_shape: tuple[int, ...] | None = None

    def data(self, split: str, data_dir: Path | None = None) -> ImageSet:
        """Return a split of the data set.

        Raises:
            InputError: none is named; see `firstspike.data.load`.
        """
        if not self.dataset:
            raise InputError(
                "the run names no data set; name labelled images by --data, or save it with one: "
                "save_network(path, net, data)"
            )
        return super().data(split, data_dir)

    def sizes(self) -> tuple[tuple[int, ...], int]:
        """Return no sizes: the description has them, and the data set may not be there."""
        return (), 0

    def build(self, shape: tuple[int, ...], classes: int) -> Stack:
        """Return the stack, its weights drawn alike each time.

        Raises:
            InputError: the description is of none that works.
        """
        return built(self.network)

    def report(
        self,
        model: torch.nn.Module,
        test: ImageSet,
        data_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> Report:
        """Return accuracy and cost on images.

        Raises:
            InputError: the network does not take the images, or has fewer outputs than they have classes.
        """
        check_takes(cast(Stack, model), test.shape, test.num_classes, test.name)
        return report(model, maps(test.images), test.labels, progress=progress)

    def exported(self, model: torch.nn.Module) -> SpikingForm:
        """Return the network.

        Raises:
            InputError: the shape of its input is not known.
        """
        stack = cast(Stack, model)
        shape = dataset(self.dataset).shape if self.dataset else self.in_shape
        try:
            return stack_form(stack, None, stack.shapes(shape)[0])
        except ValueError as error:
            raise InputError(
                f"the run does not say what the network takes ({error}); save it with a data set or its "
                "in_shape: save_network(path, net, data)"
            ) from error


def built(network: StackDescription) -> Stack:
    """Return the stack that is described.

    Raises:
        InputError: there is none such.
    """
    try:
        return network.build()
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        # torch's own are of sizes that no memory holds.
        raise InputError(f"the network described cannot be built: {error}") from error


def check_takes(stack: Stack, shape: tuple[int, ...], classes: int, name: str) -> None:
    """Raise InputError unless a network classifies samples of that shape into so many classes.

    Args:
        stack: the network.
        shape: ``(channels, height, width)`` of a sample.
        classes: how many there are.
        name: of the data, for the message.
    """
    try:
        *_, outputs = stack.shapes(shape)
    except ValueError as error:
        raise InputError(f"the network does not take the images of {name}: {error}") from error
    if len(outputs) != 1 or outputs[0] < classes:
        raise InputError(
            f"the network gives {' x '.join(map(str, outputs))} outputs, {name} has {classes} classes; "
            "name other data"
        )
