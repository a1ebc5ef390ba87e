"""Made IDX files and data sets for the tests of this folder."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np

from firstspike.data.mnist import IdxFile, IdxFiles


def encode_idx(array: np.ndarray) -> bytes:
    """The IDX bytes of a uint8 array, written from the format's description."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def compress(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def numbered_images(count: int) -> np.ndarray:
    """Images (count, 2, 3) that are all different: the first pixel is the index."""
    images = np.zeros((count, 2, 3), dtype=np.uint8)
    images[:, 0, 0] = np.arange(count)
    return images


def tiny_arrays() -> dict[str, np.ndarray]:
    """The four arrays of a made data set: 30 training and 8 test images; label = index % 10."""
    return {
        "train-images": numbered_images(30),
        "train-labels": np.arange(30, dtype=np.uint8) % 10,
        "t10k-images": numbered_images(8) + 100,
        "t10k-labels": np.arange(8, dtype=np.uint8),
    }


def make_files(mirrors: tuple[str, ...] = ()) -> IdxFiles:
    def file(stem: str) -> IdxFile:
        array = tiny_arrays()[stem]
        content = encode_idx(array)
        return IdxFile(
            stem,
            array.ndim,
            gzip_md5=hashlib.md5(compress(content)).hexdigest(),
            content_md5=hashlib.md5(content).hexdigest(),
        )

    return IdxFiles(
        name="tiny",
        mirrors=mirrors,
        train=(file("train-images"), file("train-labels")),
        test=(file("t10k-images"), file("t10k-labels")),
        num_validation=5,
    )


def tiny_files(*, zipped: bool = True, dotted: bool = False) -> dict[str, tuple[str, bytes]]:
    """The files of the made set: stem -> name and bytes."""
    files = {}
    for stem, array in tiny_arrays().items():
        name = f"{stem}{'.' if dotted else '-'}idx{array.ndim}-ubyte"
        content = encode_idx(array)
        files[stem] = (f"{name}.gz", compress(content)) if zipped else (name, content)
    return files


def write_tiny(
    folder: Path, *, zipped: bool = True, dotted: bool = False, only: str = ""
) -> dict[str, Path]:
    """Write the made data set, or the files whose stem starts with `only`; stem -> path."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for stem, (name, stored) in tiny_files(zipped=zipped, dotted=dotted).items():
        if stem.startswith(only):
            paths[stem] = folder / name
            paths[stem].write_bytes(stored)
    return paths
