"""What is known of a data set before its files are opened."""

from firstspike.errors import InputError

_SHAPES = {"digits": (8, 8), "mnist": (28, 28), "fashion-mnist": (28, 28)}


def image_shape(dataset: str) -> tuple[int, int]:
    """Return ``(height, width)`` of the images of `dataset`.

    Raises:
        InputError: the data set is unknown.
    """
    if dataset not in _SHAPES:
        raise InputError(f"unknown data set {dataset!r}: expected one of {', '.join(_SHAPES)}")
    return _SHAPES[dataset]


def number_of_classes(dataset: str) -> int:
    """Return the number of classes of `dataset`: 10 for every one there is."""
    image_shape(dataset)
    return 10
