"""Data sets as `ImageSet`: images, labels, and a fixed train / validation / test split."""

from firstspike.data import cifar, digits, dvs_gesture, mnist, n_mnist, tiny_imagenet, yin_yang
from firstspike.data._source import NotHereError
from firstspike.data.description import SPLITS, Dataset, Folder
from firstspike.data.events import Recording, first_spikes
from firstspike.data.images import ImageSet
from firstspike.data.own_data import OwnData, Source, own
from firstspike.support import InputError, command_line, did_you_mean

# The index: a new data set is a file of its own and a line here.
DATASETS: tuple[Dataset, ...] = (
    digits.DATASET,
    mnist.MNIST,
    mnist.FASHION_MNIST,
    cifar.CIFAR_10,
    cifar.CIFAR_100,
    tiny_imagenet.DATASET,
    n_mnist.DATASET,
    dvs_gesture.DATASET,
    yin_yang.DATASET,
)

__all__ = [
    "DATASETS",
    "SPLITS",
    "Dataset",
    "ImageSet",
    "NotHereError",
    "OwnData",
    "Recording",
    "Source",
    "dataset",
    "first_spikes",
    "load",
    "own",
]


def dataset(which: str | Dataset) -> Dataset:
    """Return the description of a data set: `which` itself, or the one of `DATASETS` of that name.

    Raises:
        InputError: there is none of that name.

    >>> dataset("cifar-10").shape
    (3, 32, 32)
    """
    if isinstance(which, Dataset):
        return which
    for known in DATASETS:
        if known.name == which:
            return known
    names = [known.name for known in DATASETS]
    advice = "name data of your own by --data" if command_line.get() else "give a Dataset, or own(...)"
    raise InputError(
        f"unknown data set {which!r}{did_you_mean(str(which), names) or ':'} expected one of "
        f"{', '.join(names)}; {advice}"
    )


def load(which: str | Dataset, split: str, data_dir: Folder = None) -> ImageSet:
    """Return one split of a data set, the same images in the same order on every machine.

    ===============  ======  ==========  ======  ===========  ===========================
    name             train   validation  test    shape        from
    ===============  ======  ==========  ======  ===========  ===========================
    "digits"         1,197   300         300     8 x 8        scikit-learn, embedded
    "mnist"          55,000  5,000       10,000  28 x 28      `data_dir`, or downloaded
    "fashion-mnist"  55,000  5,000       10,000  28 x 28      `data_dir`, or downloaded
    "cifar-10"       45,000  5,000       10,000  3 x 32 x 32  `data_dir`, else the cache
    "cifar-100"      45,000  5,000       10,000  3 x 32 x 32  `data_dir`, else the cache
    "tiny-imagenet"  90,000  10,000      10,000  3 x 64 x 64  `data_dir`, else the cache
    "n-mnist"        85 %    15 %        all     2 x 34 x 34  `data_dir`, else the cache
    "dvs-gesture"    85 %    15 %        all     2x128x128    `data_dir`, or by tonic
    "yin-yang"       5,000   1,000       1,000   1 x 5        a formula, embedded
    ===============  ======  ==========  ======  ===========  ===========================

    Images are uint8, those of "yin-yang" float32 in 0 ... 1. Event sets come as the first event of each
    pixel and polarity (`events.EventSet.first_spikes`).

    Args:
        which: the name of one of `DATASETS`, or a `Dataset` of your own, as `own` makes one.
        split: one of `SPLITS`. The files of the test set are opened for "test" only.
        data_dir: a folder with the set's files, in the folder or in one of the set's name below it, as
            their publishers, torchvision and Kaggle lay them out. A leading ``~`` is the home folder.
            Without it the folder named by the environment variable FIRSTSPIKE_DATA serves if it holds the
            set, then `firstspike.support.cache_dir`, into which the sets that can be had are downloaded
            once. Embedded sets look at none.

    Raises:
        InputError: unknown name or split, no files (`NotHereError`), a damaged or unofficial file,
            or no network.
        OSError: a file cannot be read, or the cache cannot be written.
        TypeError, ValueError: a data set of your own gave no `ImageSet`, or images of another shape, or
            another number of classes, than it says.

    >>> load("digits", "validation").images.shape
    torch.Size([300, 8, 8])
    """
    chosen = dataset(which)
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    images = chosen.load(split, data_dir)
    if not isinstance(images, ImageSet):
        raise TypeError(
            f"{chosen.name}: load must return an ImageSet, found {type(images).__name__}; make one by "
            "ImageSet.of(images, labels)"
        )
    expected, found = (chosen.shape, chosen.classes), (images.shape, images.num_classes)
    if len(images) and expected != found:
        raise ValueError(
            f"{chosen.name} says samples of {expected[0]} in {expected[1]} classes; its {split} images are "
            f"{found[0]} in {found[1]} classes; let them agree"
        )
    return images
