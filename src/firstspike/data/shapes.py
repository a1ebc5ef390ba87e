"""What is known of a data set before its files are opened."""

from firstspike.support import InputError

_SHAPES = {
    "digits": (1, 8, 8),
    "mnist": (1, 28, 28),
    "fashion-mnist": (1, 28, 28),
    "cifar-10": (3, 32, 32),
    "cifar-100": (3, 32, 32),
    "tiny-imagenet": (3, 64, 64),
    "n-mnist": (2, 34, 34),
    "dvs-gesture": (2, 128, 128),
}
_CLASSES = {"cifar-100": 100, "tiny-imagenet": 200, "dvs-gesture": 11}


def image_shape(dataset: str) -> tuple[int, int]:
    """Return ``(height, width)`` of the images of `dataset`.

    Raises:
        InputError: the data set is unknown.
    """
    return input_shape(dataset)[1:]


def input_shape(dataset: str) -> tuple[int, int, int]:
    """Return ``(channels, height, width)`` of a sample; an event set's channels are its polarities.

    Raises:
        InputError: the data set is unknown.
    """
    if dataset not in _SHAPES:
        raise InputError(f"unknown data set {dataset!r}: expected one of {', '.join(_SHAPES)}")
    return _SHAPES[dataset]


def number_of_classes(dataset: str) -> int:
    """Return the number of classes of `dataset`.

    Raises:
        InputError: the data set is unknown.
    """
    input_shape(dataset)
    return _CLASSES.get(dataset, 10)
