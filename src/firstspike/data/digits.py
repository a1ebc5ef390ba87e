"""The 1,797 small digits that scikit-learn carries: real handwriting without a download."""

import numpy as np

from firstspike.data import _source
from firstspike.data.description import Dataset, Folder
from firstspike.data.images import ImageSet

_NUM_CLASSES = 10
_MAX_INTENSITY = 16
_NUM_VALIDATION = 300
_NUM_TEST = 300


def load_digits(split: str, data_dir: Folder = None) -> ImageSet:
    """Return one split of the 8 x 8 digits: 1,197 to train, 300 to validate, 300 to test.

    Intensities 0 ... 16 become 0 ... 255, rounded. The split is stratified: each part has each
    digit in the proportion of the whole, to within two images. Writers occur in several parts,
    since the file does not name them.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998 (its test part), as embedded in scikit-learn.

    Args:
        split: "train", "validation" or "test".
        data_dir: not looked at.
    """
    from sklearn import datasets

    bunch = datasets.load_digits()
    labels = bunch.target.astype(np.int64)
    images = np.rint(bunch.images * (255 / _MAX_INTENSITY)).astype(np.uint8)
    order = _source.stratified_order(labels)
    num_train = len(order) - _NUM_VALIDATION - _NUM_TEST
    start, stop = {
        "train": (0, num_train),
        "validation": (num_train, num_train + _NUM_VALIDATION),
        "test": (num_train + _NUM_VALIDATION, len(order)),
    }[split]
    chosen = order[start:stop]
    return ImageSet.of(images[chosen], labels[chosen], num_classes=_NUM_CLASSES, name="digits", split=split)


DATASET = Dataset(
    "digits",
    shape=(1, 8, 8),
    classes=_NUM_CLASSES,
    load=load_digits,
    summary="1,797 handwritten digits (Alpaydin, Kaynak 1998), in scikit-learn",
)
