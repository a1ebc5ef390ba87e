"""IDX, the file format of MNIST: a short header, then the bytes of one array.

Format: bytes 0, 0, type code, number of dimensions; then each dimension as a big-endian 32-bit
count; then the values, last dimension fastest (LeCun, "The MNIST database", file formats).
"""

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from firstspike.support import InputError

_GZIP_MAGIC = b"\x1f\x8b"
# zlib's largest window, and 16 for gzip's header and checksum.
_GZIP_WBITS = 31
_UINT8 = 0x08
_TYPE_NAMES = {
    0x08: "uint8",
    0x09: "int8",
    0x0B: "int16",
    0x0C: "int32",
    0x0D: "float32",
    0x0E: "float64",
}


def read_content(path: Path) -> bytes:
    """Return the bytes of a file, uncompressed if it is a gzip file whatever its name.

    Bytes after the gzip stream, such as the padding of tapes and of some mirrors, are passed over.

    Raises:
        InputError: the gzip stream is truncated or damaged.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    if not content.startswith(_GZIP_MAGIC):
        return content
    parts = []
    try:
        while content.startswith(_GZIP_MAGIC):
            stream = zlib.decompressobj(wbits=_GZIP_WBITS)
            parts.append(stream.decompress(content))
            if not stream.eof:
                raise zlib.error("it is truncated")
            content = stream.unused_data
    except zlib.error as error:
        raise InputError(
            f"{path}: expected a whole gzip file, found a damaged one ({error}); "
            f"delete the file or fetch it again"
        ) from error
    return b"".join(parts)


def decode_idx(content: bytes, path: Path, num_dims: int) -> np.ndarray:
    """Return the uint8 array that the bytes of an IDX file describe, as a read-only view.

    Args:
        content: the uncompressed file.
        path: where `content` came from, for messages only.
        num_dims: how many dimensions the array must have: 3 for images, 1 for labels.

    Raises:
        InputError: the bytes are not IDX, hold another type or number of dimensions, or are fewer
            or more than the header announces.
    """
    magic = content[:4]
    expected = f"an IDX file of uint8 with {num_dims} dimension(s)"
    advice = "name the right file or fetch it again"
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPE_NAMES:
        found = f"first bytes {magic.hex(' ')}" if magic else "an empty file"
        raise InputError(
            f"{path}: expected {expected} (first bytes 00 00 08 {num_dims:02x}), found {found}; {advice}"
        )
    if magic[2] != _UINT8:
        raise InputError(f"{path}: expected {expected}, found {_TYPE_NAMES[magic[2]]}; {advice}")
    if magic[3] != num_dims:
        raise InputError(f"{path}: expected {expected}, found {magic[3]}; {advice}")

    header_bytes = 4 + 4 * num_dims
    if len(content) < header_bytes:
        raise InputError(
            f"{path}: truncated: expected a header of {header_bytes} bytes, "
            f"found {len(content)} bytes; fetch the file again"
        )
    shape = struct.unpack(f">{num_dims}I", content[4:header_bytes])
    expected_bytes = header_bytes + math.prod(shape)
    if len(content) != expected_bytes:
        fault = "truncated" if len(content) < expected_bytes else "bytes after the end"
        raise InputError(
            f"{path}: {fault}: expected {expected_bytes} bytes for "
            f"{' x '.join(map(str, shape))} values, found {len(content)} bytes; "
            f"fetch the file again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header_bytes).reshape(shape)


def check_pair(
    images: np.ndarray, labels: np.ndarray, num_classes: int, images_path: Path, labels_path: Path
) -> None:
    """Accept an image file and a label file that belong together.

    Raises:
        InputError: their counts differ, or a label is not in ``0 ... num_classes - 1``.
    """
    if len(images) != len(labels):
        raise InputError(
            f"{labels_path}: expected {len(images)} labels, one for each image of {images_path}, "
            f"found {len(labels)}; name files of the same set"
        )
    (wrong,) = np.nonzero(labels >= num_classes)
    if len(wrong):
        raise InputError(
            f"{labels_path}: expected labels in 0 ... {num_classes - 1}, "
            f"found {labels[wrong[0]]} at image {wrong[0]}; fetch the file again"
        )
