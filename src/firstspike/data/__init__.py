"""Data sets as `ImageSet`: images, labels, and a fixed train / validation / test split."""

import os

from firstspike.data.catalog import IDX_DATASETS
from firstspike.data.cifar import CIFAR_DATASETS, load_cifar
from firstspike.data.digits import load_digits
from firstspike.data.dvs_gesture import load_dvs_gesture
from firstspike.data.images import ImageSet
from firstspike.data.mnist import load_idx_dataset
from firstspike.data.n_mnist import load_n_mnist
from firstspike.data.tiny_imagenet import NAME as TINY_IMAGENET
from firstspike.data.tiny_imagenet import load_tiny_imagenet
from firstspike.support import InputError

_EVENT_DATASETS = {"n-mnist": load_n_mnist, "dvs-gesture": load_dvs_gesture}
DATASETS = ("digits", *IDX_DATASETS, *CIFAR_DATASETS, TINY_IMAGENET, *_EVENT_DATASETS)
SPLITS = ("train", "validation", "test")

__all__ = ["DATASETS", "SPLITS", "ImageSet", "load"]


def load(name: str, split: str, data_dir: str | os.PathLike[str] | None = None) -> ImageSet:
    """Return one split of a data set, the same images in the same order on every machine.

    ===============  ======  ==========  ======  ===========  ===========================
    name             train   validation  test    pixels       from
    ===============  ======  ==========  ======  ===========  ===========================
    "digits"         1,197   300         300     8 x 8        scikit-learn, embedded
    "mnist"          55,000  5,000       10,000  28 x 28      `data_dir`, or downloaded
    "fashion-mnist"  55,000  5,000       10,000  28 x 28      `data_dir`, or downloaded
    "cifar-10"       45,000  5,000       10,000  3 x 32 x 32  `data_dir`, else the cache
    "cifar-100"      45,000  5,000       10,000  3 x 32 x 32  `data_dir`, else the cache
    "tiny-imagenet"  90,000  10,000      10,000  3 x 64 x 64  `data_dir`, else the cache
    "n-mnist"        85 %    15 %        all     2 x 34 x 34  `data_dir`, else the cache
    "dvs-gesture"    85 %    15 %        all     2x128x128    `data_dir`, or by tonic
    ===============  ======  ==========  ======  ===========  ===========================

    Event sets come as the first event of each pixel and polarity (`events.EventSet.first_spikes`).

    Args:
        name: one of `DATASETS`.
        split: one of `SPLITS`. The files of the test set are opened for "test" only.
        data_dir: a folder with the IDX files, raw or ``.gz``: in the folder, in ``<name>`` below
            it, or in torchvision's tree. Without it the folder named by the environment variable
            FIRSTSPIKE_DATA serves if it holds the set, and otherwise the set is downloaded once
            into `firstspike.support.cache_dir`. "digits" needs no folder and looks at none.

    Raises:
        InputError: unknown name or split, no files in `data_dir`, a damaged or unofficial file,
            or no network.
        OSError: a file cannot be read, or the cache cannot be written.

    >>> load("digits", "validation").images.shape
    torch.Size([300, 8, 8])
    """
    if name not in DATASETS:
        raise InputError(f"unknown data set {name!r}: expected one of {', '.join(DATASETS)}")
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    if name == "digits":
        return load_digits(split)
    if name in CIFAR_DATASETS:
        return load_cifar(CIFAR_DATASETS[name], split, data_dir)
    if name == TINY_IMAGENET:
        return load_tiny_imagenet(split, data_dir)
    if name in _EVENT_DATASETS:
        return _EVENT_DATASETS[name](split, data_dir).first_spikes()
    return load_idx_dataset(IDX_DATASETS[name], split, data_dir)
