"""Tiny-ImageNet from its folder: 200 classes, natural images of 64 x 64."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from firstspike.data import _source
from firstspike.data.description import Dataset, Folder
from firstspike.data.images import ImageSet
from firstspike.support import InputError

_NAME = "tiny-imagenet"
_SIDE = 64
_NUM_CLASSES = 200
# One in ten of the training images validates.
_VALIDATION_SHARE = 10


def load_tiny_imagenet(split: str, data_dir: Folder = None, *, num_classes: int = _NUM_CLASSES) -> ImageSet:
    """Return one split of Tiny-ImageNet; nothing is downloaded.

    The official validation set, whose labels are public, is the test split here, as is usual. Training and
    validation images are the official training set in the order of
    ``numpy.random.default_rng(0).permutation(count)``, the last tenth of which validates. Classes are
    numbered in the order of ``wnids.txt``. Grey images get three equal channels.

    Args:
        split: "train", "validation" or "test".
        data_dir: the folder ``tiny-imagenet-200`` or the one that holds it. Without it the folder that
            FIRSTSPIKE_DATA names is searched, then `firstspike.support.cache_dir`.
        num_classes: how many ``wnids.txt`` lists.

    Raises:
        InputError: no such folder, or one that lacks files, or an image that is damaged or of another size.
        OSError: a file cannot be read.
    """
    root = _find(data_dir)
    names = _lines(root / "wnids.txt")
    classes = {name: number for number, name in enumerate(names)}
    if len(names) != num_classes or len(classes) < len(names):
        raise InputError(
            f"{root / 'wnids.txt'}: expected {num_classes} different classes, found {len(names)} lines of "
            f"{len(classes)}; unpack the archive again"
        )
    if split == "test":
        files, labels = _annotated(root / "val", classes)
    else:
        files, labels = _by_class(root / "train", classes)
        chosen = _source.split(len(files), len(files) // _VALIDATION_SHARE)[split]
        files, labels = [files[k] for k in chosen], [labels[k] for k in chosen]
    return ImageSet.of(_read(files), labels, num_classes=num_classes, name=_NAME, split=split)


def _find(data_dir: Folder) -> Path:
    (file,) = _source.find(
        _NAME,
        [("wnids.txt",)],
        _source.roots(data_dir),
        below=("tiny-imagenet-200", "tiny-imagenet"),
        advice="unpack tiny-imagenet-200.zip and name its folder by --data-dir",
    )
    return file.parent


def _lines(file: Path) -> list[str]:
    try:
        return [line for text in file.read_text(encoding="utf-8").splitlines() if (line := text.strip())]
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no text: {error}; unpack the archive again") from error


def _by_class(folder: Path, classes: dict[str, int]) -> tuple[list[Path], list[int]]:
    files: list[Path] = []
    labels: list[int] = []
    for name, number in classes.items():
        found = _source.listed(folder / name / "images", "*.JPEG")
        if not found:
            raise InputError(f"no images *.JPEG in {folder / name / 'images'}")
        files += found
        labels += [number] * len(found)
    return files, labels


def _annotated(folder: Path, classes: dict[str, int]) -> tuple[list[Path], list[int]]:
    table = folder / "val_annotations.txt"
    if not table.is_file():
        raise InputError(f"{table} is missing")
    files: list[Path] = []
    labels: list[int] = []
    lines = _lines(table)
    if not lines:
        raise InputError(f"{table} is empty")
    for line in lines:
        name, _, rest = line.partition("\t")
        wnid = rest.split("\t")[0]
        if wnid not in classes:
            raise InputError(f"{table} names the class {wnid!r}, which wnids.txt does not list")
        files.append(folder / "images" / name)
        labels.append(classes[wnid])
    return files, labels


def _read(files: Sequence[Path]) -> np.ndarray:
    images = np.empty((len(files), 3, _SIDE, _SIDE), np.uint8)
    for k, file in enumerate(files):
        try:
            # Only the decoder that the set needs: those of rarer formats fail in more ways.
            with Image.open(file, formats=["JPEG"]) as picture:
                width, height = picture.size
                if (width, height) != (_SIDE, _SIDE):
                    raise InputError(f"{file} is {width} x {height}; expected {_SIDE} x {_SIDE}")
                images[k] = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
        except FileNotFoundError:
            raise InputError(f"{file} is missing") from None
        except PermissionError:
            raise
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
            raise InputError(f"{file} is damaged: {error}") from error
    return images


DATASET = Dataset(
    _NAME,
    shape=(3, _SIDE, _SIDE),
    classes=_NUM_CLASSES,
    load=load_tiny_imagenet,
    summary="110,000 natural images of 200 classes (Stanford CS231n)",
    where="folder",
)
