"""PNG and JPEG images of a user's own: single ones as bytes, and folders with one sub-folder per class."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from firstspike.support import InputError

_SUFFIXES = (".png", ".jpg", ".jpeg")
# Files that Windows hides by other means than their names.
_HIDDEN = ("Thumbs.db", "desktop.ini")
_SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_GREY = ("1", "L", "LA")
_COLOUR = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def is_grey(picture: Image.Image, where: str) -> bool:
    """Return whether a picture has no colours.

    Raises:
        InputError: its intensities are no bytes, as those of 16 bits.
    """
    if picture.mode not in (*_GREY, *_COLOUR):
        raise InputError(f"{where} holds pixels of type {picture.mode}; convert it to 8 bits")
    return picture.mode in _GREY


def pixels(picture: Image.Image, *, grey: bool) -> np.ndarray:
    """Return a picture as uint8 ``(height, width)`` if `grey`, else ``(3, height, width)``.

    A palette's colours are looked up, grey gets three equal channels, and what is transparent shows black
    behind it, which is silence.
    """
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        # Not convert("RGB"), which would show the colours that transparency hides.
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture.convert("RGBA"))
    if grey:
        return np.asarray(picture.convert("L"))
    return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)


def read_folder(root: Path) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], tuple[str, ...]]:
    """Return images and labels by split, and the names of the classes.

    See `firstspike.data.own` for what the folder may hold. Images are uint8 ``(count, height, width)`` if
    all of them are grey, else ``(count, 3, height, width)``, in the order of classes and file names.

    Raises:
        InputError: the folder is laid out otherwise, or an image cannot be used; the line names it.
        OSError: a file cannot be read.
    """
    folders = {"train": root}
    if (root / "train").is_dir() and _folders(root / "train"):
        folders = {}
        for folder in _folders(root):
            split = _SPLITS.get(folder.name)
            if split is None or split in folders:
                raise InputError(
                    f"{folder} stands beside {root / 'train'}, where only test and validation (or val) "
                    "may; rename it or move it away"
                )
            folders[split] = folder
    names = tuple(folder.name for folder in _folders(folders["train"]))
    if len(names) < 2:
        found = f"only {names[0]}" if names else "none"
        raise InputError(
            f"{folders['train']}: expected a folder of PNG or JPEG images for each of two or more classes, "
            f"found {found}"
        )
    files: list[Path] = []
    parts: dict[str, tuple[slice, np.ndarray]] = {}
    for split, folder in folders.items():
        labels: list[int] = []
        start = len(files)
        for inner in _folders(folder):
            if inner.name not in names:
                raise InputError(
                    f"{inner}: the training images have no class {inner.name}; rename or move it"
                )
            found_here = _pictures(inner)
            if not found_here:
                raise InputError(f"{inner} holds no PNG or JPEG images; put some there or remove it")
            files += found_here
            labels += [names.index(inner.name)] * len(found_here)
        if not labels:
            raise InputError(f"{folder} holds no folder of images; fill it or remove it")
        parts[split] = slice(start, len(files)), np.array(labels)
    images = _read(files)
    return {split: (images[part], labels) for split, (part, labels) in parts.items()}, names


def _folders(root: Path) -> list[Path]:
    """The folders within, hidden ones left out, in the same order on every system."""
    found = [path for path in root.iterdir() if not path.name.startswith(".") and path.is_dir()]
    return sorted(found, key=lambda path: path.name)


def _pictures(folder: Path) -> list[Path]:
    files = sorted(folder.iterdir(), key=lambda path: path.name)
    shown = [path for path in files if not (path.name.startswith(".") or path.name in _HIDDEN)]
    for path in shown:
        if path.suffix.lower() not in _SUFFIXES or path.is_dir():
            raise InputError(
                f"{path} is no PNG or JPEG image; the folder of a class holds nothing else: convert it or "
                "move it away"
            )
    return shown


def _read(files: Sequence[Path]) -> np.ndarray:
    # Headers first: what does not fit together is found before minutes of decoding.
    sizes, greys = [], []
    for file in files:
        with _opened(file) as picture:
            greys.append(is_grey(picture, str(file)))
            sizes.append(picture.size)
        if sizes[-1] != sizes[0]:
            one, two = (f"{width} x {height}" for width, height in (sizes[0], sizes[-1]))
            raise InputError(f"{files[0]} is {one}, {file} is {two}; bring all images to one size")
    width, height = sizes[0]
    grey = all(greys)
    images = np.empty((len(files), *(() if grey else (3,)), height, width), np.uint8)
    for k, file in enumerate(files):
        with _opened(file) as picture:
            images[k] = pixels(picture, grey=grey)
    return images


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    with file.open("rb") as stream:
        header = stream.read(25)
    # IHDR's bit depth. Pillow would cut colours of 16 bits down to 8 without a word.
    if header.startswith(b"\x89PNG") and header[24:] == b"\x10":
        raise InputError(f"{file} has 16 bits per channel; convert it to 8 bits")
    try:
        # Only the decoders that are needed: those of rarer formats fail in more ways.
        with Image.open(file, formats=["PNG", "JPEG"]) as picture:
            yield picture
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{file} is damaged, or no PNG or JPEG; replace it or move it away") from None
    except (
        Image.DecompressionBombError,
        EOFError,
        OSError,
        SyntaxError,
        ValueError,
        struct.error,
        zlib.error,
    ) as error:
        raise InputError(f"{file} is damaged: {error}; replace it or move it away") from error
