"""What a run of `firstspike.fit` holds of its module: names and numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from firstspike.recipes.base import Classifier
from firstspike.recipes.fields import Count
from firstspike.support import InputError


@dataclass(frozen=True, kw_only=True)
class Fit(Classifier):
    """What `fit` was asked to do, as far as a file can hold it; its module and loss are named only.

    Attributes:
        network, loss: names of the module's class and of the loss function.
        parameters, samples: numbers of them.
    """

    network: str
    loss: str
    parameters: int
    samples: Count

    def sizes(self) -> tuple[tuple[int, ...], int]:
        """Refuse: the module is the caller's."""
        raise InputError(
            f"this run holds the weights of a module {self.network} that firstspike.fit was given; make "
            "one and fill it by RunFolder.open(...).load_model(module)"
        )

    def build(self, shape: tuple[int, ...], classes: int) -> torch.nn.Module:
        """Refuse: the module is the caller's."""
        raise NotImplementedError

    def batch_loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Refuse: the loss is the caller's."""
        raise NotImplementedError
