"""The official files, where there are any: FIRSTSPIKE_DATA names a folder that holds both sets."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from firstspike.data import NotHereError, load
from firstspike.data.idx import decode_idx, read_content
from firstspike.data.mnist import FASHION_MNIST_FILES, MNIST_FILES, _find
from firstspike.support import InputError

FOLDER = os.environ.get("FIRSTSPIKE_DATA", "")


def _is_here(files) -> bool:
    try:
        _find(files, (*files.train, *files.test), Path(FOLDER))
    except NotHereError:
        return False
    return True


pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not (FOLDER and all(map(_is_here, (MNIST_FILES, FASHION_MNIST_FILES)))),
        reason="FIRSTSPIKE_DATA does not name a folder with MNIST and Fashion-MNIST",
    ),
]

# Images of each class in the official training and test sets, as their publishers' pages and
# torchvision's copies have them.
TRAIN_COUNTS = {
    "mnist": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "fashion-mnist": [6000] * 10,
}
TEST_COUNTS = {
    "mnist": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    "fashion-mnist": [1000] * 10,
}


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_counts_and_classes(name):
    train, validation, test = (load(name, split) for split in ("train", "validation", "test"))
    assert train.images.shape == (55_000, 28, 28)
    assert validation.images.shape == (5_000, 28, 28)
    assert test.images.shape == (10_000, 28, 28)
    together = torch.cat([train.labels, validation.labels]).bincount().tolist()
    assert together == TRAIN_COUNTS[name]
    assert test.labels.bincount().tolist() == TEST_COUNTS[name]


@pytest.mark.parametrize(
    ("files", "first_labels"),
    [(MNIST_FILES, [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]), (FASHION_MNIST_FILES, [9, 0, 0, 3, 0, 2, 7, 2, 5, 5])],
)
def test_the_split_is_the_documented_permutation(files, first_labels):
    images_path, labels_path = _find(files, files.train, Path(FOLDER))
    images = decode_idx(read_content(images_path), images_path, 3)
    labels = decode_idx(read_content(labels_path), labels_path, 1)
    assert labels[:10].tolist() == first_labels
    order = np.random.default_rng(0).permutation(60_000)
    train, validation = load(files.name, "train"), load(files.name, "validation")
    np.testing.assert_array_equal(train.images, images[order[:55_000]])
    np.testing.assert_array_equal(train.labels, labels[order[:55_000]])
    np.testing.assert_array_equal(validation.images, images[order[55_000:]])
    np.testing.assert_array_equal(validation.labels, labels[order[55_000:]])


def test_flat_files_of_the_other_set_are_never_taken(tmp_path):
    for path in _find(FASHION_MNIST_FILES, FASHION_MNIST_FILES.test, Path(FOLDER)):
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(InputError, match="t10k-images of mnist, found a file of fashion-mnist"):
        load("mnist", "test", tmp_path)
    assert len(load("fashion-mnist", "test", tmp_path)) == 10_000


def test_the_known_checksums_of_the_served_files(tmp_path):
    """A cache that holds the official .gz files is complete: nothing is asked of any mirror."""
    from firstspike.data.download import fetch

    for files in (MNIST_FILES, FASHION_MNIST_FILES):
        for file in (*files.train, *files.test):
            (path,) = _find(files, [file], Path(FOLDER))
            if path.suffix != ".gz":
                pytest.skip("the files in FIRSTSPIKE_DATA are not compressed")
            cached = tmp_path / files.name / f"{file.names[0]}.gz"
            cached.parent.mkdir(exist_ok=True)
            cached.symlink_to(path)
            assert fetch(cached.name, file.gzip_md5, [], cached.parent) == cached
