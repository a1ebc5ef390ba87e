"""MNIST and Fashion-MNIST from a folder of the user's, or from the download cache."""

import hashlib
import logging
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from firstspike.data.catalog import IDX_DATASETS, IdxDataset, IdxFile
from firstspike.data.download import fetch
from firstspike.data.folder import NotHereError, find_files
from firstspike.data.idx import check_pair, decode_idx, read_content
from firstspike.data.images import ImageSet
from firstspike.support import InputError, cache_dir

_log = logging.getLogger(__name__)

DATA_VARIABLE = "FIRSTSPIKE_DATA"


def load_idx_dataset(
    dataset: IdxDataset, split: str, data_dir: str | os.PathLike[str] | None = None
) -> ImageSet:
    """Return one split of a data set that is published as IDX files.

    Training and validation images are the official training set in the order of
    ``numpy.random.default_rng(0).permutation(count)``: the first ``count - num_validation`` train,
    the rest validate. The official test set keeps its order. Only the files of the split are read.

    Args:
        dataset: which one.
        split: "train", "validation" or "test".
        data_dir: the folder to take the files from. Without it the folder that FIRSTSPIKE_DATA
            names is used where it holds the set, and the download cache otherwise, which is
            logged as a warning, once.

    Raises:
        InputError: `data_dir` lacks the set, the download failed, or a file is damaged, has
            another checksum than the official one, or does not belong to the set.
        OSError: a file cannot be read, or the cache cannot be written.
    """
    files = dataset.test if split == "test" else dataset.train
    images, labels = _read(dataset, files, data_dir)
    if split == "test":
        chosen = np.arange(len(images))
    else:
        order = np.random.default_rng(0).permutation(len(images))
        num_train = len(images) - dataset.num_validation
        chosen = order[:num_train] if split == "train" else order[num_train:]
    return ImageSet(
        name=dataset.name,
        split=split,
        images=torch.from_numpy(images[chosen]),
        labels=torch.from_numpy(labels[chosen].astype(np.int64)),
        num_classes=dataset.num_classes,
    )


def _read(
    dataset: IdxDataset, files: Sequence[IdxFile], data_dir: str | os.PathLike[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    if data_dir is not None:
        return _read_pair(dataset, files, find_files(Path(data_dir).expanduser(), dataset, files))
    lacking = None
    default_dir = os.environ.get(DATA_VARIABLE)
    if default_dir:
        try:
            found = find_files(Path(default_dir).expanduser(), dataset, files)
            return _read_pair(dataset, files, found)
        except NotHereError as error:
            lacking = f"{DATA_VARIABLE} was of no use: {error}"
            _log.info("%s; using the download cache", lacking)
    folder = cache_dir() / dataset.name
    try:
        paths = [fetch(f"{file.name}.gz", file.gzip_md5, dataset.mirrors, folder) for file in files]
    except InputError as error:
        raise InputError(f"{dataset.name}: {error}{f'; {lacking}' if lacking else ''}") from error
    if lacking:
        # After the download: where it fails, the error says all of this.
        _warn_once(f"{DATA_VARIABLE}={default_dir} lacks files of {dataset.name}; those of {folder} serve")
    return _read_pair(dataset, files, paths)


@cache
def _warn_once(message: str) -> None:
    _log.warning(message)


def _read_pair(
    dataset: IdxDataset, files: Sequence[IdxFile], paths: Sequence[Path]
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (_read_file(dataset, file, path) for file, path in zip(files, paths, strict=True))
    check_pair(images, labels, dataset.num_classes, *paths)
    return images, labels


def _read_file(dataset: IdxDataset, file: IdxFile, path: Path) -> np.ndarray:
    content = read_content(path)
    array = decode_idx(content, path, file.num_dims)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found == file.content_md5:
        return array
    # Both sets use the same file names and shapes: only the checksum tells them apart.
    for other in IDX_DATASETS.values():
        if found in {known.content_md5 for known in (*other.train, *other.test)}:
            raise NotHereError(
                f"{path}: expected {file.stem} of {dataset.name}, found a file of {other.name}; "
                f"ask for {other.name} or name the folder of {dataset.name}"
            )
    raise InputError(
        f"{path}: checksum (MD5 of the uncompressed file) expected {file.content_md5}, "
        f"found {found}; delete the file or fetch it again"
    )
