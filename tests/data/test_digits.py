import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits as sklearn_digits

from firstspike.data import SPLITS, load
from firstspike.data._source import stratified_order


@pytest.mark.parametrize(("split", "count"), [("train", 1197), ("validation", 300), ("test", 300)])
def test_sizes_types_and_range(split, count):
    digits = load("digits", split)
    assert digits.images.shape == (count, 8, 8)
    assert (digits.images.dtype, digits.labels.dtype) == (torch.uint8, torch.int64)
    assert (int(digits.images.min()), int(digits.images.max())) == (0, 255)
    assert (digits.name, digits.split, digits.num_classes) == ("digits", split, 10)


def test_the_splits_are_scikit_learns_images_each_once():
    """The images are compared as sorted rows of intensities and label."""
    bunch = sklearn_digits()
    expected = np.c_[bunch.images.reshape(-1, 64), bunch.target]
    parts = [load("digits", split) for split in SPLITS]
    found = np.concatenate(
        [np.c_[np.rint(part.images.flatten(1).numpy() / 255 * 16), part.labels] for part in parts]
    )
    as_rows = [sorted(map(tuple, rows.tolist())) for rows in (expected, found)]
    assert as_rows[0] == as_rows[1]


@pytest.mark.parametrize("split", SPLITS)
def test_every_digit_keeps_its_proportion(split):
    digits = load("digits", split)
    whole = np.bincount(sklearn_digits().target)
    expected = whole * len(digits) / whole.sum()
    assert np.abs(digits.labels.bincount().numpy() - expected).max() <= 2


def test_the_split_is_the_same_with_every_numpy():
    order = stratified_order(sklearn_digits().target).astype("<i4")
    assert hashlib.sha256(order.tobytes()).hexdigest() == (
        "a87be384882facf1b4ede5a9d578663becc19b9329bdab2cc433a3e68400e015"
    )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_any_stretch_from_the_start_is_stratified(labels):
    labels = np.array(labels)
    order = stratified_order(labels)
    assert sorted(order) == list(range(len(labels)))
    num_classes = len(np.unique(labels))
    for stop in range(len(labels)):
        for label in np.unique(labels):
            share = (labels == label).sum() * stop / len(labels)
            assert abs((labels[order[:stop]] == label).sum() - share) <= num_classes
