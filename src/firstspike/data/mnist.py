"""MNIST and Fashion-MNIST from a folder of the user's, or from the download cache."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from firstspike.data import _source
from firstspike.data._source import DATA_VARIABLE, NotHereError
from firstspike.data.description import Dataset, Folder
from firstspike.data.download import fetch
from firstspike.data.idx import check_pair, decode_idx, read_content
from firstspike.data.images import ImageSet
from firstspike.support import InputError, cache_dir, expanded

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IdxFile:
    """One file of a data set.

    Args:
        stem: "train-images" and the like.
        num_dims: dimensions of its array, which is also the digit in its name.
        gzip_md5: MD5 of the file as the mirrors serve it.
        content_md5: MD5 of the uncompressed file, whoever compressed it and how.
    """

    stem: str
    num_dims: int
    gzip_md5: str
    content_md5: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which it is found, the official one without ``.gz`` first."""
        hyphen, dot = (f"{self.stem}{mark}idx{self.num_dims}-ubyte" for mark in "-.")
        return hyphen, f"{hyphen}.gz", dot, f"{dot}.gz"


@dataclass(frozen=True)
class IdxFiles:
    """The files of a data set that is published as two pairs of IDX files.

    Args:
        name: of the data set, and of its folder.
        mirrors: addresses that end in a slash, tried in this order.
        train: images and labels from which training and validation images are taken.
        test: images and labels of the official test set.
        num_validation: how many of the `train` images are kept for validation.
        num_classes: labels lie in ``0 ... num_classes - 1``.
    """

    name: str
    mirrors: tuple[str, ...]
    train: tuple[IdxFile, IdxFile]
    test: tuple[IdxFile, IdxFile]
    num_validation: int = 5_000
    num_classes: int = 10


# http mirrors are safe here: the checksum decides.
MNIST_FILES = IdxFiles(
    name="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    train=(
        IdxFile("train-images", 3, "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
        IdxFile("train-labels", 1, "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
    ),
    test=(
        IdxFile("t10k-images", 3, "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
        IdxFile("t10k-labels", 1, "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
    ),
)
FASHION_MNIST_FILES = IdxFiles(
    name="fashion-mnist",
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    train=(
        IdxFile("train-images", 3, "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        IdxFile("train-labels", 1, "25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9"),
    ),
    test=(
        IdxFile("t10k-images", 3, "bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"),
        IdxFile("t10k-labels", 1, "bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"),
    ),
)
# Both have the same file names and shapes: only the checksum tells them apart.
_KNOWN = (MNIST_FILES, FASHION_MNIST_FILES)


def load_idx(files: IdxFiles, split: str, data_dir: Folder = None) -> ImageSet:
    """Return one split of a data set that is published as IDX files.

    Training and validation images are the official training set in the order of `_source.split`. The
    official test set keeps its order. Only the files of the split are read.

    Args:
        files: of which set.
        split: "train", "validation" or "test".
        data_dir: the folder to take the files from. Without it the folder that FIRSTSPIKE_DATA
            names is used where it holds the set, and the download cache otherwise, which is
            logged as a warning, once.

    Raises:
        InputError: `data_dir` lacks the set, the download failed, or a file is damaged, has
            another checksum than the official one, or does not belong to the set.
        OSError: a file cannot be read, or the cache cannot be written.
    """
    images, labels = read_official(files, split == "test", data_dir)
    if split != "test":
        chosen = _source.split(len(images), files.num_validation)[split]
        images, labels = images[chosen], labels[chosen]
    return ImageSet.of(images, labels, num_classes=files.num_classes, name=files.name, split=split)


def read_official(files: IdxFiles, test: bool, data_dir: Folder) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of the official training or test set in the order of its files.

    Args:
        files: of which set.
        test: whether the test set.
        data_dir: see `load_idx`, as are the errors.
    """
    pair = files.test if test else files.train
    if data_dir is not None:
        return _read_pair(files, pair, _find(files, pair, expanded(data_dir, "data_dir")))
    lacking = None
    default_dir = os.environ.get(DATA_VARIABLE)
    if default_dir:
        try:
            return _read_pair(files, pair, _find(files, pair, expanded(default_dir, DATA_VARIABLE)))
        except NotHereError as error:
            lacking = f"{DATA_VARIABLE} was of no use: {error}"
            _log.info("%s; using the download cache", lacking)
    folder = cache_dir() / files.name
    try:
        paths = [fetch(f"{file.names[0]}.gz", file.gzip_md5, files.mirrors, folder) for file in pair]
    except InputError as error:
        raise InputError(f"{files.name}: {error}{f'; {lacking}' if lacking else ''}") from error
    if lacking:
        # After the download: where it fails, the error says all of this.
        _warn_once(f"{DATA_VARIABLE}={default_dir} lacks files of {files.name}; those of {folder} serve")
    return _read_pair(files, pair, paths)


@cache
def _warn_once(message: str) -> None:
    _log.warning(message)


def _find(files: IdxFiles, pair: Sequence[IdxFile], folder: Path) -> list[Path]:
    return _source.find(
        files.name,
        [file.names for file in pair],
        [folder],
        # "raw" is torchvision's, below the set's name.
        below=(files.name, "raw"),
        advice="put the files there (raw or .gz), or name their folder by --data-dir",
    )


def _read_pair(
    files: IdxFiles, pair: Sequence[IdxFile], paths: Sequence[Path]
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (_read_file(files, file, path) for file, path in zip(pair, paths, strict=True))
    check_pair(images, labels, files.num_classes, *paths)
    return images, labels


def _read_file(files: IdxFiles, file: IdxFile, path: Path) -> np.ndarray:
    content = read_content(path)
    array = decode_idx(content, path, file.num_dims)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found == file.content_md5:
        return array
    for other in _KNOWN:
        if found in {known.content_md5 for known in (*other.train, *other.test)}:
            raise NotHereError(
                f"{path}: expected {file.stem} of {files.name}, found a file of {other.name}; "
                f"ask for {other.name} or name the folder of {files.name}"
            )
    raise InputError(
        f"{path}: checksum (MD5 of the uncompressed file) expected {file.content_md5}, "
        f"found {found}; delete the file or fetch it again"
    )


MNIST = Dataset(
    "mnist",
    shape=(1, 28, 28),
    classes=10,
    load=partial(load_idx, MNIST_FILES),
    summary="70,000 handwritten digits (LeCun, Cortes, Burges)",
    where="download",
)
FASHION_MNIST = Dataset(
    "fashion-mnist",
    shape=(1, 28, 28),
    classes=10,
    load=partial(load_idx, FASHION_MNIST_FILES),
    summary="70,000 grey images of clothing (Xiao, Rasul, Vollgraf 2017)",
    where="download",
    class_names=(
        *("t-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
)
