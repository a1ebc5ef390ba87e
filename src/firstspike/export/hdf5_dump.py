"""A script: write what lies in an HDF5 file into an ``.npz`` of plain arrays.

    python -P hdf5_dump.py FILE OUT.npz

HDF5's library crashes on some damaged files; run as a process of its own, it takes nobody along. The
result's ``names`` are paths, with ``@`` before an attribute's; its arrays are numbered in their order, and
texts are unicode. Exit status 2, with the reason on stderr, for what must not be read.
"""

import sys
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

# What a file may make of itself in memory: by compression, or shapes that nothing was written for.
MAX_BYTES = 2**31
# Groups in groups: a network needs four.
MAX_DEPTH = 12


def refuse(reason: str) -> SystemExit:
    """Return the end of the script with a reason."""
    print(reason, file=sys.stderr)
    return SystemExit(2)


def walk(group: h5py.Group, path: str = "", depth: int = 0) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield every array below a group, after a look at where it lies."""
    if depth > MAX_DEPTH:
        raise refuse(f"nests groups more than {MAX_DEPTH} deep; write the network flat")
    for key in group:
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise refuse(f"has a link, {key!r}, to another place; write it into one file")
        item = group[key]
        if isinstance(item, h5py.Group):
            yield from walk(item, f"{path}{key}/", depth + 1)
        elif item.is_virtual or item.external:
            raise refuse(f"keeps {key!r} in another file; write it into one file")
        else:
            yield f"{path}{key}", item


def attributes(group: h5py.Group, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a group and those below."""
    for key, value in group.attrs.items():
        yield f"{path}@{key}", value
    for key, item in group.items():
        if isinstance(item, h5py.Group):
            yield from attributes(item, f"{path}{key}/")


def plain(value: Any) -> np.ndarray:
    """Return a value as numbers or unicode."""
    array = np.asarray(value)
    if array.dtype.kind in "OS":
        texts = [one.decode() if isinstance(one, bytes) else str(one) for one in array.ravel()]
        return np.array(texts, np.str_).reshape(array.shape)
    return array


def main(file: str, out: str) -> None:
    """Read and write."""
    with h5py.File(file, "r") as opened:
        arrays = dict(walk(opened))
        total = sum((one.size or 0) * one.dtype.itemsize for one in arrays.values())
        if total > MAX_BYTES:
            raise refuse(f"would take {total / 1e9:.1f} GB; files above 2 GB are refused")
        found = {key: plain(one[()]) for key, one in arrays.items()}
        found |= {key: plain(value) for key, value in attributes(opened)}
    numbered: dict[str, Any] = {str(place): value for place, value in enumerate(found.values())}
    np.savez(out, names=np.array(list(found), np.str_), **numbered)


if __name__ == "__main__":
    main(*sys.argv[1:])
