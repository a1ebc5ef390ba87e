"""What is known of a data set before its files are opened, and how they are read."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from firstspike.data.images import ImageSet
from firstspike.support import InputError, did_you_mean, option, whole_number

Folder = str | os.PathLike[str] | None
SPLITS = ("train", "validation", "test")
# Of the names of classes in a message.
_NAMES_LISTED = 20


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
        class_names: names of the classes in the order of their numbers; empty where they have none.

    Raises:
        TypeError: `load` is no function.
        ValueError: `name` is empty, a size is below 1, there are fewer than two classes, or `class_names`
            are not as many different texts.
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
        if isinstance(self.class_names, str):
            raise ValueError(f"{self.name}: class_names must be a name each, found {self.class_names!r}")
        names = tuple(self.class_names)
        texts = all(isinstance(name, str) and name for name in names)
        if names and not (texts and len(set(names)) == len(names) == self.classes):
            raise ValueError(
                f"{self.name}: class_names must be {self.classes} different texts, found {names}"
            )
        object.__setattr__(self, "class_names", names)

    @property
    def identity(self) -> str:
        """What tells it from other data, in words: its name."""
        return self.name

    @property
    def is_table(self) -> bool:
        """Whether its samples are plain numbers, not images."""
        return self.shape[:2] == (1, 1)

    @property
    def named_by_number(self) -> bool:
        """Whether a number asks for the class at that place.

        It does not where a number is the name of another class, as that of a folder ``10`` next to ``2``.
        """
        numbers = map(whole_number, self.class_names)
        return all(number in (None, place) for place, number in enumerate(numbers))

    @property
    def class_choices(self) -> str:
        """What a class may be asked for by, in words: ``0 ... 2, or one of bus, train, tram``."""
        numbers = f"0 ... {self.classes - 1}"
        if not self.class_names or self.class_names == tuple(map(str, range(self.classes))):
            return numbers
        more = ["..."] * (len(self.class_names) > _NAMES_LISTED)
        names = f"one of {', '.join([*self.class_names[:_NAMES_LISTED], *more])}"
        return f"{numbers}, or {names}" if self.named_by_number else names

    def class_name(self, number: int) -> str:
        """Return the name of a class, or its number where classes have none."""
        return self.class_names[number] if self.class_names else str(number)

    def class_number(self, text: str, name: str) -> int:
        """Return the number of the class that a text asks for.

        Args:
            text: a name, whose case need not agree where only one name fits; or a number, where
                `named_by_number`, whose range is not looked at.
            name: of the option that gives it, for the message.

        Raises:
            InputError: it is neither.
        """
        if text in self.class_names:
            return self.class_names.index(text)
        folded = [known.casefold() for known in self.class_names]
        if folded.count(text.casefold()) == 1:
            return folded.index(text.casefold())
        number = whole_number(text)
        if number is not None and self.named_by_number:
            return number
        kind = "an integer, " if self.named_by_number else ""
        unseen = self.class_names[_NAMES_LISTED:]
        raise InputError(
            f"argument {option(name)}: expected {kind}{self.class_choices}, found {text!r}"
            f"{did_you_mean(text, unseen)}"
        )

    def __str__(self) -> str:
        """Return the name."""
        return self.name
