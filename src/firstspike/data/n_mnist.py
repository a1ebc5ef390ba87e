"""N-MNIST (Orchard et al. 2015): MNIST before a moving event camera, in its own binary files."""

from pathlib import Path

import numpy as np
import torch

from firstspike.data import _source
from firstspike.data.description import Dataset, Folder
from firstspike.data.events import EventSet, Recording, check_recording
from firstspike.data.images import ImageSet
from firstspike.data.mnist import MNIST_FILES, read_official
from firstspike.support import InputError

SENSOR = (34, 34)
_VALIDATION_SHARE = 0.15
_CLOCK_RAN_OVER = 240


def read_n_mnist(path: Path) -> Recording:
    """Return the events of one ``.bin`` file.

    An event has 40 bits: column, row (8 each), polarity (1), microseconds (23, the highest first). An
    event of row 240 is none: the sensor's own clock of 13 bits ran over, and later times grow by 2^13.

    Raises:
        InputError: the file is empty, truncated, or holds an event off the sensor or out of order.
        OSError: it cannot be read.
    """
    content = np.fromfile(path, np.uint8)
    if len(content) % 5:
        raise InputError(
            f"{path}: truncated, {len(content):,} bytes are no whole events of 5; fetch the file again"
        )
    one, two, three, four, five = content.reshape(-1, 5).astype(np.int64).T
    ran_over = two == _CLOCK_RAN_OVER
    time_us = (((three & 127) << 16) | (four << 8) | five) + (np.cumsum(ran_over) << 13)
    kept = ~ran_over
    events = Recording(one[kept], two[kept], three[kept] >> 7, time_us[kept], SENSOR)
    return check_recording(events, path)


def load_n_mnist(split: str, data_dir: Folder = None) -> EventSet:
    """Return one split of N-MNIST, or of a part of it in the same layout ``Train/<digit>/<id>.bin``.

    Training and validation recordings are those under ``Train`` in the order of `_source.split`, the last
    15 % of which validate; the test recordings are those under ``Test``. Nothing is downloaded.

    Args:
        split: "train", "validation" or "test".
        data_dir: a folder that holds ``Train`` and ``Test``, itself or in ``n-mnist`` or
            ``n-mnist-subset``. Without it the folder that FIRSTSPIKE_DATA names is searched, then the
            download cache.

    Raises:
        InputError: no recordings, or a damaged one.
        OSError: a file cannot be read.
    """
    paths = _paths(split, data_dir)
    labels = torch.tensor([int(path.parent.name) for path in paths], dtype=torch.int64)
    return EventSet("n-mnist", split, tuple(map(read_n_mnist, paths)), labels, 10)


def recorded_images(split: str, data_dir: Folder = None) -> ImageSet:
    """Return the images of MNIST that the recordings of `load_n_mnist` were made of, in their order.

    A recording bears the number of its image in the official files, from 1.

    Args:
        split: "train", "validation" or "test".
        data_dir: a folder that holds both data sets; see `load_n_mnist`.

    Raises:
        InputError: either data set is missing or damaged, or a recording's number is not that of an image
            of its digit.
        OSError: a file cannot be read.
    """
    paths = _paths(split, data_dir)
    images, labels = read_official(MNIST_FILES, split == "test", data_dir)
    places = []
    for path in paths:
        number = int(path.stem) if path.stem.isdecimal() else 0
        if not 0 < number <= len(labels) or labels[number - 1] != int(path.parent.name):
            raise InputError(
                f"{path}: expected the number of an image of this digit in MNIST's files; keep the "
                "published names"
            )
        places.append(number - 1)
    return ImageSet.of(images[places], labels[places], num_classes=10, name="mnist", split=split)


def _paths(split: str, data_dir: Folder) -> list[Path]:
    folder = find_n_mnist("Test" if split == "test" else "Train", data_dir)
    paths = _source.listed(folder, "[0-9]/*.bin")
    if not paths:
        raise InputError(f"{folder}: expected recordings <digit>/<id>.bin, found none")
    if split == "test":
        return paths
    chosen = _source.split(len(paths), int(_VALIDATION_SHARE * len(paths)))[split]
    return [paths[k] for k in chosen]


def find_n_mnist(part: str, data_dir: Folder) -> Path:
    """Return the folder ``Train`` or ``Test``; InputError where there is none."""
    (folder,) = _source.find(
        "n-mnist",
        [(part,)],
        _source.roots(data_dir),
        below=("n-mnist", "n-mnist-subset"),
        advice="unpack the archives of https://www.garrickorchard.com/datasets/n-mnist and name the folder "
        "by --data-dir",
        is_there=Path.is_dir,
    )
    return folder


def _first_spikes(split: str, data_dir: Folder) -> ImageSet:
    return load_n_mnist(split, data_dir).first_spikes()


DATASET = Dataset(
    "n-mnist",
    shape=(2, *SENSOR),
    classes=10,
    load=_first_spikes,
    summary="MNIST before a moving event camera, first events (Orchard et al. 2015)",
    where="folder",
)
