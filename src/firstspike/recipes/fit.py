"""What a run of `firstspike.fit` holds of its module: names and numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from firstspike.recipes.base import Classifier
from firstspike.recipes.fields import Count
from firstspike.support import InputError


@dataclass(frozen=True, kw_only=True)
class Fit(Classifier):
    """What `fit` was asked to do, as far as a file can hold it; its module and loss as they print.

    Attributes:
        network, loss: names of the module's class and of the loss function, with the arguments that a
            ``functools.partial`` gives it.
        printed: the module as it prints itself, its settings among it.
        parameters, samples: numbers of them.
        sha256: of inputs and targets, those for validation included.
    """

    network: str
    loss: str
    parameters: int
    samples: Count
    sha256: str
    printed: str

    def sizes(self) -> tuple[tuple[int, ...], int]:
        """Refuse: the module is the caller's."""
        raise InputError(
            f"this run holds the weights of a module {self.network} that firstspike.fit was given; make "
            "one and fill it by RunFolder.open(...).load_model(module)"
        )

    def score(self, figures: Mapping[str, Any]) -> float:
        """Return the validation loss with its sign changed; without one all epochs are equal."""
        return -float(figures.get("validation_loss", 0.0))

    def build(self, shape: tuple[int, ...], classes: int) -> torch.nn.Module:
        """Refuse: the module is the caller's."""
        raise NotImplementedError

    def batch_loss(self, model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Refuse: the loss is the caller's."""
        raise NotImplementedError
