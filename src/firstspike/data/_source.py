"""Where the files of data sets lie, and which images validate: one way for all sets."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from firstspike.data.description import Folder
from firstspike.support import InputError, cache_dir, expanded

DATA_VARIABLE = "FIRSTSPIKE_DATA"
# As deep as torchvision's tree below a folder of the set's name: mnist/MNIST/raw.
_DEPTH = 3


class NotHereError(InputError):
    """The folders that were searched do not hold the data set."""


def split(count: int, num_validation: int) -> dict[str, np.ndarray]:
    """Return which samples of an official training set of `count` train and which validate.

    The order is ``numpy.random.default_rng(0).permutation(count)``; its last `num_validation` validate.
    """
    order = np.random.default_rng(0).permutation(count)
    num_train = count - num_validation
    return {"train": order[:num_train], "validation": order[num_train:]}


def stratified_order(labels: np.ndarray) -> np.ndarray:
    """Return an order of the indices in which every stretch has the classes of the whole.

    Each class is shuffled with a fixed seed and spread evenly over 0 ... 1; the indices follow in
    the order of these positions.
    """
    shuffled = np.random.default_rng(0).permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(position, kind="stable")


def roots(data_dir: Folder) -> list[Path]:
    """Return the folders to search: `data_dir` alone if it is named, else FIRSTSPIKE_DATA's and the cache.

    Raises:
        InputError: one begins with the home folder of an unknown user.
    """
    if data_dir is not None:
        return [expanded(data_dir, "data_dir")]
    named = os.environ.get(DATA_VARIABLE)
    return [*([expanded(named, DATA_VARIABLE)] if named else []), cache_dir()]


def find(
    name: str,
    wanted: Sequence[Sequence[str]],
    roots: Sequence[Path],
    *,
    below: Sequence[str],
    advice: str,
    is_there: Callable[[Path], bool] = Path.is_file,
) -> list[Path]:
    """Return where the files of a data set lie, all of them in one place.

    A place is a root, or a folder in it (down to three levels) that is called as one of `below`, whatever
    its case, hyphens and underscores; the folders come first, in the order of `below`. A file may also lie
    in a folder of its own name, as Kaggle's archives have it. Contents are not looked at.

    Args:
        name: the data set, for the error.
        wanted: the accepted names of each file, the usual one first.
        roots: folders to search, in this order; see `roots`.
        below: names of folders that the set is usually kept in.
        advice: what to do if nothing is found, for the error.
        is_there: ``Path.is_dir`` to look for folders instead.

    Raises:
        NotHereError: no place holds all of them; the line says what was looked for, and where.
        OSError: a folder cannot be listed.
    """
    partial: list[Path] = []
    for root in roots:
        for place in _places(root, below, _DEPTH):
            found = [path for names in wanted if (path := _existing(place, names, is_there)) is not None]
            if len(found) == len(wanted):
                return found
            partial += found
    missing = " and ".join(names[0] for names in wanted)
    raise NotHereError(
        f"{name}: expected {missing}{' together' if len(wanted) > 1 else ''} in "
        f"{' or '.join(map(_described, roots))}, or below in a folder {' or '.join(below)}; found "
        f"{'only ' + ', '.join(map(str, partial)) if partial else 'none of them'}; {advice}"
    )


def listed(folder: Path, pattern: str) -> list[Path]:
    """Return the files in `folder` that fit a pattern, in the same order on every system.

    Hidden ones are left out, such as what macOS leaves beside unpacked files.
    """
    found = (path for path in folder.glob(pattern) if not path.name.startswith("."))
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _places(folder: Path, below: Sequence[str], depth: int) -> Iterator[Path]:
    keys = [_key(name) for name in below]
    if depth and folder.is_dir():
        inner = [path for path in folder.iterdir() if _key(path.name) in keys and path.is_dir()]
        for path in sorted(inner, key=lambda p: (keys.index(_key(p.name)), p.name not in below, p.name)):
            yield from _places(path, below, depth - 1)
    yield folder


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _existing(place: Path, names: Sequence[str], is_there: Callable[[Path], bool]) -> Path | None:
    for name in names:
        for path in (*(place / name / inner for inner in names), place / name):
            if is_there(path):
                return path
    return None


def _described(root: Path) -> str:
    if root.is_dir():
        return str(root)
    return f"{root} ({'a file' if root.exists() else 'which does not exist'})"
