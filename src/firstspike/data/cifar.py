"""CIFAR-10 and CIFAR-100 from a folder, in the python or the binary version."""

import hashlib
import pickle
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from firstspike.data import _source
from firstspike.data.description import Dataset, Folder
from firstspike.data.images import ImageSet
from firstspike.support import InputError

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
# Of CIFAR-100, in the binary files before the class.
_SUPERCLASSES = 20


@dataclass(frozen=True)
class CifarFile:
    """One file: its name in the python version (with ``.bin`` in the binary one), and what it holds.

    Args:
        name: such as "test_batch".
        sha256: of the file of the python version.
        count: number of its images.
    """

    name: str
    sha256: str
    count: int = 10_000


@dataclass(frozen=True)
class CifarFiles:
    """The files of a CIFAR set.

    Args:
        name: of the data set.
        below: names of folders that it is kept in, as `firstspike.data._source.find` takes them.
        train, test: its files. Of the binary ones no checksum is kept: their sizes and labels are checked
            instead, so that a file with other pixels would pass.
        label_key: entry of a python file that holds the labels.
        label_bytes: bytes before the pixels of a binary record, the label last.
        num_classes: labels lie in ``0 ... num_classes - 1``.
        num_validation: how many of the training images are kept for validation.
    """

    name: str
    below: tuple[str, ...]
    train: tuple[CifarFile, ...]
    test: tuple[CifarFile, ...]
    label_key: bytes
    label_bytes: int
    num_classes: int
    num_validation: int = 5_000


CIFAR_10_FILES = CifarFiles(
    name="cifar-10",
    below=("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10"),
    train=(
        CifarFile("data_batch_1", "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
        CifarFile("data_batch_2", "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
        CifarFile("data_batch_3", "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
        CifarFile("data_batch_4", "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
        CifarFile("data_batch_5", "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
    ),
    test=(CifarFile("test_batch", "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),),
    label_key=b"labels",
    label_bytes=1,
    num_classes=10,
)
CIFAR_100_FILES = CifarFiles(
    name="cifar-100",
    below=("cifar-100-python", "cifar-100-binary", "cifar-100"),
    train=(
        CifarFile(
            "train", "735e79b04f092ca3d2e6d07f368c0a7d70d48c48d28865950cc24454cf45129b", count=50_000
        ),
    ),
    test=(CifarFile("test", "4b67687d9933c4db8f0831104447f15b93774f4f464bd0516f0f0f2ac83b7864"),),
    label_key=b"fine_labels",
    label_bytes=2,
    num_classes=100,
)


def load_cifar(files: CifarFiles, split: str, data_dir: Folder = None) -> ImageSet:
    """Return one split of a CIFAR set.

    Training and validation images are the official training set in the order of `_source.split`. The
    official test set keeps its order. Nothing is downloaded.

    Args:
        files: of which set.
        split: "train", "validation" or "test".
        data_dir: a folder that holds the files or their folder, of either version. Without it the folder
            that FIRSTSPIKE_DATA names is searched, then `firstspike.support.cache_dir`.

    Raises:
        InputError: no files, or a damaged or unofficial one.
        OSError: a file cannot be read.
    """
    parts = files.test if split == "test" else files.train
    paths = _source.find(
        files.name,
        [(file.name, f"{file.name}.bin") for file in parts],
        _source.roots(data_dir),
        below=files.below,
        advice="unpack the python or binary archive of https://www.cs.toronto.edu/~kriz/cifar.html and "
        "name its folder by --data-dir",
    )
    batches = [_read(files, file, path) for file, path in zip(parts, paths, strict=True)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    if split != "test":
        chosen = _source.split(len(images), files.num_validation)[split]
        images, labels = images[chosen], labels[chosen]
    return ImageSet.of(images, labels, num_classes=files.num_classes, name=files.name, split=split)


def _read(files: CifarFiles, file: CifarFile, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(count, 3, 32, 32)`` and labels of one file of either version."""
    pixels, labels = _binary(files, file, path) if path.suffix == ".bin" else _python(files, file, path)
    return pixels.reshape(-1, *_SHAPE), np.asarray(labels, np.int64)


def _python(files: CifarFiles, file: CifarFile, path: Path) -> tuple[np.ndarray, list[int]]:
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    # A pickle is a program: none is run but the published ones.
    if found != file.sha256:
        raise InputError(
            f"{path}: not the official file, so it is not opened (SHA-256 expected {file.sha256}, found "
            f"{found}); fetch it again"
        )
    batch = pickle.loads(content, encoding="bytes")
    return batch[b"data"], batch[files.label_key]


def _binary(files: CifarFiles, file: CifarFile, path: Path) -> tuple[np.ndarray, np.ndarray]:
    content = np.fromfile(path, np.uint8)
    record = files.label_bytes + _PIXELS
    if len(content) != file.count * record:
        raise InputError(
            f"{path}: expected {file.count:,} records of {record:,} bytes, found {len(content):,} bytes; "
            "fetch the file again"
        )
    records = content.reshape(-1, record)
    labels = records[:, files.label_bytes - 1]
    limits = {"labels": (labels, files.num_classes)}
    if files.label_bytes == 2:
        limits["coarse labels"] = (records[:, 0], _SUPERCLASSES)
    for name, (values, limit) in limits.items():
        if values.max() >= limit:
            raise InputError(
                f"{path}: {name} must lie in 0 ... {limit - 1}, found {values.max()}; fetch the file again"
            )
    return records[:, files.label_bytes :], labels


CIFAR_10 = Dataset(
    "cifar-10",
    shape=_SHAPE,
    classes=10,
    load=partial(load_cifar, CIFAR_10_FILES),
    summary="60,000 natural images of 10 classes (Krizhevsky 2009)",
    where="folder",
    class_names=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
)
CIFAR_100 = Dataset(
    "cifar-100",
    shape=_SHAPE,
    classes=100,
    load=partial(load_cifar, CIFAR_100_FILES),
    summary="60,000 natural images of 100 classes (Krizhevsky 2009)",
    where="folder",
)
