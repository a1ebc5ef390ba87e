"""CIFAR-10 and CIFAR-100 from a folder, in the python or the binary version."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from firstspike.data.images import ImageSet
from firstspike.data.mnist import DATA_VARIABLE
from firstspike.data.unpickle import load_arrays
from firstspike.support import InputError, cache_dir

_SIDE, _CHANNELS = 32, 3
_PIXELS = _CHANNELS * _SIDE * _SIDE
# Of CIFAR-100, in the binary files before the class.
_SUPERCLASSES = 20


@dataclass(frozen=True)
class CifarFile:
    """One file of python batches: its name and the MD5 of the official one, None for a made one."""

    name: str
    md5: str | None


@dataclass(frozen=True)
class CifarDataset:
    """What is known of a CIFAR set.

    Args:
        name: as given to `firstspike.data.load`.
        python_folder, binary_folder: where the files of each version lie.
        train, test: the python batches.
        binary_train, binary_test: names of the binary files. Their checksums are not kept here: their sizes
            and labels are checked instead, so that a file with other pixels would pass.
        num_train_images, num_test_images: how many the binary files hold together; None for made ones.
        label_key: entry of a python batch that holds the labels.
        label_bytes: bytes before the pixels of a binary record, the label last.
        num_classes: labels lie in ``0 ... num_classes - 1``.
        num_validation: how many of the training images are kept for validation.
    """

    name: str
    python_folder: str
    binary_folder: str
    train: tuple[CifarFile, ...]
    test: tuple[CifarFile, ...]
    binary_train: tuple[str, ...]
    binary_test: tuple[str, ...]
    label_key: bytes
    label_bytes: int
    num_classes: int
    num_train_images: int | None = 50_000
    num_test_images: int | None = 10_000
    num_validation: int = 5_000


CIFAR_10 = CifarDataset(
    name="cifar-10",
    python_folder="cifar-10-batches-py",
    binary_folder="cifar-10-batches-bin",
    train=(
        CifarFile("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        CifarFile("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        CifarFile("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        CifarFile("data_batch_4", "634d18415352ddfa80567beed471001a"),
        CifarFile("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
    ),
    test=(CifarFile("test_batch", "40351d587109b95175f43aff81a1287e"),),
    binary_train=tuple(f"data_batch_{k}.bin" for k in range(1, 6)),
    binary_test=("test_batch.bin",),
    label_key=b"labels",
    label_bytes=1,
    num_classes=10,
)
CIFAR_100 = CifarDataset(
    name="cifar-100",
    python_folder="cifar-100-python",
    binary_folder="cifar-100-binary",
    train=(CifarFile("train", "16019d7e3df5f24257cddd939b257f8d"),),
    test=(CifarFile("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),),
    binary_train=("train.bin",),
    binary_test=("test.bin",),
    label_key=b"fine_labels",
    label_bytes=2,
    num_classes=100,
)
CIFAR_DATASETS = {dataset.name: dataset for dataset in (CIFAR_10, CIFAR_100)}


def load_cifar(
    dataset: CifarDataset, split: str, data_dir: str | os.PathLike[str] | None = None
) -> ImageSet:
    """Return one split of a CIFAR set.

    Training and validation images are the official training set in the order of
    ``numpy.random.default_rng(0).permutation(count)``, the last 5,000 of which validate. The official test
    set keeps its order. Nothing is downloaded.

    Args:
        dataset: which one.
        split: "train", "validation" or "test".
        data_dir: a folder that holds the files or their folder, of either version. Without it the folder
            that FIRSTSPIKE_DATA names is searched, then ``<name>`` in `firstspike.support.cache_dir`.

    Raises:
        InputError: no files, a damaged or unofficial one, or one that holds more than arrays.
        OSError: a file cannot be read.
    """
    images, labels = _read(dataset, split == "test", data_dir)
    chosen = np.arange(len(images))
    if split != "test":
        order = np.random.default_rng(0).permutation(len(images))
        num_train = len(images) - dataset.num_validation
        chosen = order[:num_train] if split == "train" else order[num_train:]
    return ImageSet(
        name=dataset.name,
        split=split,
        images=torch.from_numpy(images[chosen]),
        labels=torch.from_numpy(labels[chosen]),
        num_classes=dataset.num_classes,
    )


def _read(
    dataset: CifarDataset, test: bool, data_dir: str | os.PathLike[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    files = dataset.test if test else dataset.train
    names = [file.name for file in files]
    binary = dataset.binary_test if test else dataset.binary_train
    count = dataset.num_test_images if test else dataset.num_train_images
    named = os.environ.get(DATA_VARIABLE) if data_dir is None else os.fspath(data_dir)
    roots = [Path(named).expanduser()] if named else []
    if data_dir is None:
        roots.append(cache_dir() / dataset.name)
    partial: list[str] = []
    for root in roots:
        for folder in (root, root / dataset.python_folder):
            found = [name for name in names if (folder / name).is_file()]
            if len(found) == len(files):
                return _join([_python_batch(dataset, folder / file.name, file.md5) for file in files])
            partial += [str(folder / name) for name in found]
        for folder in (root, root / dataset.binary_folder):
            found = [name for name in binary if (folder / name).is_file()]
            if len(found) == len(binary):
                each = None if count is None else count // len(binary)
                return _join([_binary_batch(dataset, folder / name, each) for name in binary])
            partial += [str(folder / name) for name in found]
    raise InputError(
        f"{dataset.name}: expected {', '.join(names)} or {', '.join(binary)} together in "
        f"{' or '.join(map(str, roots))} or in {dataset.python_folder} or {dataset.binary_folder} below, "
        f"found {'only ' + ', '.join(partial) if partial else 'none of them'}; unpack the archive of "
        "https://www.cs.toronto.edu/~kriz/cifar.html and name its folder by --data-dir"
    )


def _join(batches: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([images for images, _ in batches]), np.concatenate(
        [labels for _, labels in batches]
    )


def _python_batch(dataset: CifarDataset, path: Path, md5: str | None) -> tuple[np.ndarray, np.ndarray]:
    content = path.read_bytes()
    # Read before it is compared: a file that would run something is worth a word of its own.
    batch = load_arrays(content, path)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 is not None and found != md5:
        raise InputError(f"{path}: checksum (MD5) expected {md5}, found {found}; fetch the file again")
    data, labels = _entries(batch, path, dataset.label_key)
    return _checked(dataset, path, data.reshape(-1, _PIXELS), labels)


def _entries(batch: Any, path: Path, key: bytes) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(batch, dict) or not {b"data", key} <= set(batch):
        raise InputError(
            f"{path}: expected a dictionary with data and {key.decode()}; fetch the file again"
        )
    data, labels = batch[b"data"], batch[key]
    fits = isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2
    if not fits or data.shape[1] != _PIXELS:
        raise InputError(f"{path}: expected data of uint8 (count, {_PIXELS}); fetch the file again")
    if not isinstance(labels, list) or any(type(label) is not int for label in labels):
        raise InputError(f"{path}: expected {key.decode()} to be a list of numbers; fetch the file again")
    return data, np.array(labels, np.int64)


def _binary_batch(dataset: CifarDataset, path: Path, count: int | None) -> tuple[np.ndarray, np.ndarray]:
    content = np.fromfile(path, np.uint8)
    record = dataset.label_bytes + _PIXELS
    if not len(content) or len(content) % record or count not in (None, len(content) // record):
        raise InputError(
            f"{path}: expected {'' if count is None else f'{count:,} '}records of {record:,} bytes, found "
            f"{len(content):,} bytes; fetch the file again"
        )
    records = content.reshape(-1, record)
    if dataset.label_bytes == 2 and (coarse := int(records[:, 0].max())) >= _SUPERCLASSES:
        raise InputError(
            f"{path}: coarse labels must lie in 0 ... {_SUPERCLASSES - 1}, found {coarse}; "
            "fetch the file again"
        )
    labels = records[:, dataset.label_bytes - 1].astype(np.int64)
    return _checked(dataset, path, records[:, dataset.label_bytes :], labels)


def _checked(
    dataset: CifarDataset, path: Path, data: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if len(data) != len(labels):
        raise InputError(f"{path}: {len(data)} images and {len(labels)} labels; fetch the file again")
    if len(labels) and not 0 <= labels.min() <= labels.max() < dataset.num_classes:
        raise InputError(
            f"{path}: labels must lie in 0 ... {dataset.num_classes - 1}, found {labels.min()} ... "
            f"{labels.max()}; fetch the file again"
        )
    return data.reshape(-1, _CHANNELS, _SIDE, _SIDE), labels
