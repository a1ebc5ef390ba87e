"""The Yin-Yang set, drawn by formula: three classes of points that no linear classifier parts.

Kriener, Goeltz, Petrovici, The Yin-Yang dataset, NICE 2022, arXiv 2102.08211.
"""

import numpy as np

from firstspike.data.description import Dataset, Folder
from firstspike.data.images import ImageSet

YIN, YANG, DOT = 0, 1, 2
_OUTSIDE = -1
_RADIUS = 0.5
_DOT_RADIUS = 0.1
# Size and seed of each split: the paper's, although its authors' program draws other points from them.
_SPLITS = {"train": (5_000, 42), "validation": (1_000, 41), "test": (1_000, 40)}


def region(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the class of points of the unit square: `YIN`, `YANG`, `DOT`, or -1 outside the symbol.

    The symbol is a disc of radius 0.5 in the middle of the square. Yin is its upper half, without the disc
    of half the radius on the right and with the one on the left; yang is the rest; both small discs have a
    dot of radius 0.1 in their middle. A border belongs to the disc or dot that it bounds.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)

    def within(centre_x: float, radius: float) -> np.ndarray:
        return (x - centre_x) ** 2 + (y - _RADIUS) ** 2 <= radius**2

    left, right = _RADIUS / 2, 3 * _RADIUS / 2
    yin = within(left, _RADIUS / 2) | ((y > _RADIUS) & ~within(right, _RADIUS / 2))
    dot = within(left, _DOT_RADIUS) | within(right, _DOT_RADIUS)
    return np.select([~within(_RADIUS, _RADIUS), dot, yin], [_OUTSIDE, DOT, YIN], YANG)


def load_yin_yang(split: str, data_dir: Folder = None) -> ImageSet:
    """Return one split of the Yin-Yang set: 5,000 points to train, 1,000 to validate, 1,000 to test.

    A sample is ``(x, y, 1 - x, 1 - y, 1)``. The mirrored coordinates let networks of few spikes see large
    and small values alike. The fifth input is constant: as an intensity of 1 it spikes at the first step of
    a latency code, a reference in time for neurons that have no bias. Classes are equally frequent, to
    within one sample, and the points of each are spread evenly over its region.

    Args:
        split: "train", "validation" or "test".
        data_dir: not looked at.
    """
    count, seed = _SPLITS[split]
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % 3)
    x, y = np.empty((2, count), np.float32)
    for label in (YIN, YANG, DOT):
        left = np.flatnonzero(labels == label)
        while len(left):
            drawn = random.random((2, 4 * len(left)), np.float32)
            kept = drawn[:, region(*drawn) == label][:, : len(left)]
            here, left = left[: kept.shape[1]], left[kept.shape[1] :]
            x[here], y[here] = kept
    inputs = np.stack([x, y, 1 - x, 1 - y, np.ones_like(x)], 1)
    return ImageSet.of(inputs, labels, num_classes=3, name="yin-yang", split=split)


DATASET = Dataset(
    "yin-yang",
    shape=(1, 1, 5),
    classes=3,
    load=load_yin_yang,
    summary="points of the Yin-Yang symbol, drawn by formula (Kriener et al. 2022)",
)
