"""What is known of a data set before its files are opened, and how they are read."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from firstspike.data.images import ImageSet

Folder = str | os.PathLike[str] | None
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """A data set. One of your own can be used wherever the name of one is taken.

    Attributes:
        name: in configurations, on the command line, in messages.
        shape: ``(channels, height, width)`` of a sample; an event set's channels are its polarities, plain
            numbers are ``(1, 1, features)``.
        classes: number of classes.
        load: a function of the split ("train", "validation" or "test") and of the user's folder (None if
            none is named) that returns the `ImageSet`.
        summary: what it holds and its source, in one line.
        where: "embedded" needs nothing, "download" is fetched where no folder has it, "folder" has to be
            put into a folder by the user.
        class_names: names of the classes in the order of their numbers, which `firstspike sample --label`
            and `train --digit` take too; empty where they have none.

    Raises:
        TypeError: `load` is no function.
        ValueError: `name` is empty, a size is below 1, there are fewer than two classes, or another number
            of names, or one twice.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    load: Callable[[str, Folder], ImageSet]
    summary: str = ""
    where: Literal["embedded", "download", "folder"] = "embedded"
    class_names: tuple[str, ...] = ()

    # Whether a configuration holds its fields, which find it again, instead of its name.
    recorded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a data set needs a name")
        if not callable(self.load):
            raise TypeError(
                f"{self.name}: load must be a function of split and folder, found {self.load!r:.80}"
            )
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"{self.name}: shape must be (channels, height, width), found {self.shape}")
        if self.classes < 2:
            raise ValueError(f"{self.name}: classes must be 2 or more, found {self.classes}")
        if self.class_names and not len(set(self.class_names)) == len(self.class_names) == self.classes:
            raise ValueError(
                f"{self.name}: class_names must be {self.classes} different names, found {self.class_names}"
            )

    @property
    def identity(self) -> str:
        """What tells it from other data, in words: its name."""
        return self.name

    @property
    def is_table(self) -> bool:
        """Whether its samples are plain numbers, not images."""
        return self.shape[:2] == (1, 1)

    def __str__(self) -> str:
        """Return the name."""
        return self.name
