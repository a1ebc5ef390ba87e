"""A preset: a named recipe with what it should reach."""

import dataclasses
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, SupportsIndex

from firstspike.data import Dataset
from firstspike.data import dataset as find_dataset
from firstspike.metrics.figures import describe
from firstspike.recipes.base import Recipe
from firstspike.recipes.fields import changed
from firstspike.support import InputError, option

# Along an axis. Smaller images of a user's own are trained on like the 8 x 8 digits.
_SMALL_SIDE = 16


@dataclass(frozen=True)
class Preset:
    """A named recipe.

    Attributes:
        name: as the command line knows it.
        summary: one line.
        source: the paper that it comes from.
        recipe: on MNIST, or its own data set.
        paper: what the paper measured, by the name of the figure in a report; shares, not percent.
        target: what it should reach, by the name of the figure.
        note: what is to be expected besides figures.
        on_digits: fields that differ on the small embedded digits, and on small images of your own.
        takes_digit: whether ``--digit`` chooses the class.
        one_dataset: the recipe is for its own data set, and the user's, only.
    """

    name: str
    summary: str
    source: str
    recipe: Recipe
    paper: Mapping[str, float] = field(default_factory=dict)
    target: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    on_digits: Mapping[str, Any] = field(default_factory=dict)
    takes_digit: bool = False
    one_dataset: bool = False

    @property
    def expected(self) -> str:
        """What it should reach and what the paper states, in words."""
        target = f"target: {describe(self.target, bounds=True)}" if self.target else ""
        paper = f"paper: {describe(self.paper)}" if self.paper else ""
        return "; ".join(part for part in (target, paper, self.note) if part)

    def configure(
        self,
        *,
        dataset: str | Dataset | None = None,
        digit: int | None = None,
        epochs: int | None = None,
        changes: Mapping[str, str] | None = None,
    ) -> Recipe:
        """Return the recipe for a data set, a digit and a number of epochs.

        Args:
            dataset, digit, epochs: instead of the preset's own. Data of yours are what
                `firstspike.data.own` returns: `on_digits` holds for images of fewer than 16 pixels along an
                axis too, and plain numbers are neither augmented nor cut off at a `min_intensity`.
            changes: other fields by their dotted names, as texts for `firstspike.recipes.fields.changed`.

        Raises:
            InputError: a digit that the preset does not take, lacks, or that does not exist; an unknown
                data set, or another than its only one; a field that does not exist or has an argument of
                its own, or a value that it refuses.
        """
        recipe = self.recipe
        if dataset is not None:
            if self.one_dataset and isinstance(dataset, str) and dataset != recipe.dataset:
                raise InputError(
                    f"preset {self.name} is made for {recipe.dataset}; leave --dataset out, or name data "
                    "of your own by --data"
                )
            small = not isinstance(dataset, str) and min(dataset.shape[1:]) < _SMALL_SIDE
            if dataset == "digits" or small:
                recipe = dataclasses.replace(recipe, **self.on_digits)
            recipe = recipe.on(dataset)
        if self.takes_digit:
            data = find_dataset(recipe.dataset)
            choices = data.class_choices
            if digit is None:
                raise InputError(f"preset {self.name} learns one class; give {option('digit')} {choices}")
            last = data.classes - 1
            if isinstance(digit, bool) or not isinstance(digit, SupportsIndex) or not 0 <= digit <= last:
                raise InputError(f"{option('digit')} must be {choices}, found {digit!r}")
            recipe = changed(recipe, "digit", str(operator.index(digit)))
        elif digit is not None:
            raise InputError(f"preset {self.name} takes no {option('digit')}")
        if epochs is not None:
            if epochs < 1:
                raise InputError(f"{option('epochs')} must be 1 or more, found {epochs}")
            recipe = dataclasses.replace(recipe, epochs=epochs)
        for name, text in (changes or {}).items():
            if name == "digit" and not self.takes_digit:
                raise InputError(f"preset {self.name} takes no {option('digit')}")
            if name in ("dataset", "digit", "epochs"):
                raise InputError(f"--set {name}={text}: give --{name} {text} instead")
            try:
                recipe = changed(recipe, name, text)
            except InputError as error:
                raise InputError(f"--set {name}={text}: {error}") from error
        return recipe
