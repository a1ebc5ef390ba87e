"""Tiny-ImageNet from its folder: 200 classes, photographs of 64 x 64."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from firstspike.data.images import ImageSet
from firstspike.data.mnist import DATA_VARIABLE
from firstspike.support import InputError, cache_dir

NAME = "tiny-imagenet"
_FOLDER = "tiny-imagenet-200"
_SIDE = 64
# One in ten of the training images validates.
_VALIDATION_SHARE = 10


def load_tiny_imagenet(split: str, data_dir: str | os.PathLike[str] | None = None) -> ImageSet:
    """Return one split of Tiny-ImageNet; nothing is downloaded.

    The official validation set, whose labels are public, is the test split here, as is usual. Training and
    validation images are the official training set in the order of
    ``numpy.random.default_rng(0).permutation(count)``, the last tenth of which validates. Classes are
    numbered in the order of ``wnids.txt``. Grey images get three equal channels.

    Args:
        split: "train", "validation" or "test".
        data_dir: the folder ``tiny-imagenet-200`` or the one that holds it. Without it the folder that
            FIRSTSPIKE_DATA names is searched, then ``tiny-imagenet`` in `firstspike.support.cache_dir`.

    Raises:
        InputError: no such folder, or one that lacks files, or an image that is damaged or of another size.
        OSError: a file cannot be read.
    """
    root = _find(data_dir)
    names = _lines(root / "wnids.txt")
    classes = {name: number for number, name in enumerate(names)}
    if not names or len(classes) < len(names):
        raise InputError(f"{root / 'wnids.txt'} is empty or names a class twice")
    if split == "test":
        files, labels = _annotated(root / "val", classes)
    else:
        files, labels = _by_class(root / "train", classes)
        order = np.random.default_rng(0).permutation(len(files))
        num_train = len(files) - len(files) // _VALIDATION_SHARE
        chosen = order[:num_train] if split == "train" else order[num_train:]
        files, labels = [files[k] for k in chosen], [labels[k] for k in chosen]
    return ImageSet(
        name=NAME,
        split=split,
        images=_read(files),
        labels=torch.tensor(labels, dtype=torch.int64),
        num_classes=len(classes),
    )


def _find(data_dir: str | os.PathLike[str] | None) -> Path:
    named = os.environ.get(DATA_VARIABLE) if data_dir is None else os.fspath(data_dir)
    roots = [Path(named).expanduser()] if named else []
    if data_dir is None:
        roots.append(cache_dir() / NAME)
    for root in roots:
        for folder in (root, root / _FOLDER):
            if (folder / "wnids.txt").is_file():
                return folder
    looked = ", ".join(str(root) for root in roots)
    raise InputError(
        f"no Tiny-ImageNet in {looked}: expected {_FOLDER}/wnids.txt beside train and val; unpack "
        "tiny-imagenet-200.zip there"
    )


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no text: {error}") from error


def _by_class(folder: Path, classes: dict[str, int]) -> tuple[list[Path], list[int]]:
    files: list[Path] = []
    labels: list[int] = []
    for name, number in classes.items():
        found = sorted((folder / name / "images").glob("*.JPEG"))
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


def _read(files: Sequence[Path]) -> torch.Tensor:
    images = np.empty((len(files), 3, _SIDE, _SIDE), np.uint8)
    for k, file in enumerate(files):
        try:
            with Image.open(file) as picture:
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
    return torch.from_numpy(images)
