"""N-MNIST (Orchard et al. 2015): MNIST before a moving event camera, in its own binary files."""

import os
from pathlib import Path

import numpy as np
import torch

from firstspike.data.events import EventSet, Recording, check_recording
from firstspike.data.mnist import DATA_VARIABLE
from firstspike.support import InputError, cache_dir

SENSOR = (34, 34)
_FOLDERS = ("", "n-mnist", "n-mnist-subset", "N-MNIST", "NMNIST")
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


def load_n_mnist(split: str, data_dir: str | os.PathLike[str] | None = None) -> EventSet:
    """Return one split of N-MNIST, or of a part of it in the same layout ``Train/<digit>/<id>.bin``.

    Training and validation recordings are those under ``Train`` in the order of
    ``numpy.random.default_rng(0).permutation(count)``, the last 15 % of which validate; the test recordings
    are those under ``Test``. Nothing is downloaded.

    Args:
        split: "train", "validation" or "test".
        data_dir: a folder that holds ``Train`` and ``Test``, itself or in ``n-mnist`` or
            ``n-mnist-subset``. Without it the folder that FIRSTSPIKE_DATA names is searched, then the
            download cache.

    Raises:
        InputError: no recordings, or a damaged one.
        OSError: a file cannot be read.
    """
    folder = find_n_mnist("Test" if split == "test" else "Train", data_dir)
    paths = sorted(folder.glob("[0-9]/[!.]*.bin"), key=lambda path: (path.parent.name, path.name))
    if not paths:
        raise InputError(f"{folder}: expected recordings <digit>/<id>.bin, found none")
    if split != "test":
        order = np.random.default_rng(0).permutation(len(paths))
        num_train = len(paths) - int(_VALIDATION_SHARE * len(paths))
        chosen = order[:num_train] if split == "train" else order[num_train:]
        paths = [paths[k] for k in chosen]
    labels = torch.tensor([int(path.parent.name) for path in paths], dtype=torch.int64)
    return EventSet("n-mnist", split, tuple(map(read_n_mnist, paths)), labels, 10)


def find_n_mnist(part: str, data_dir: str | os.PathLike[str] | None) -> Path:
    """Return the folder ``Train`` or ``Test``; InputError where there is none."""
    named = os.environ.get(DATA_VARIABLE) if data_dir is None else os.fspath(data_dir)
    roots = [Path(named).expanduser()] if named else []
    if data_dir is None:
        roots.append(cache_dir())
    for root in roots:
        for folder in _FOLDERS:
            if (root / folder / part).is_dir():
                return root / folder / part
    raise InputError(
        f"n-mnist: no folder {part} in {' or '.join(map(str, roots))} or in n-mnist or n-mnist-subset "
        "below; unpack the archives of https://www.garrickorchard.com/datasets/n-mnist and name the folder "
        "by --data-dir"
    )
