"""NIR files from outside: what lies in them, read by a process that a damaged one may end."""

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from firstspike.support import InputError, atomic_path

_DUMP = Path(__file__).with_name("hdf5_dump.py")
# The library was seen to crash on damaged files; it may also go on for ever.
_LIMIT_SECONDS = 300


def nir_package() -> ModuleType:
    """Return the package nir; InputError, with how to get it, where it is not installed."""
    try:
        import nir
    except ImportError as error:
        raise InputError(f"the package nir is missing ({error}); pip install 'firstspike[nir]'") from error
    package: ModuleType = nir
    return package


def read_tree(path: Path) -> dict[str, Any]:
    """Return an HDF5 file as a dictionary of groups, arrays, texts, and attributes, named ``@name``.

    Args:
        path: of the file.

    Raises:
        InputError: it cannot be opened, is damaged or something else, points to other files, or would take
            more than 2 GB of memory.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path} is no file; give a NIR file")
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "tree.npz"
        command = [sys.executable, "-P", str(_DUMP), str(path), str(out)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise damaged(path, f"reading it took {_LIMIT_SECONDS} s") from error
        said = next(iter(done.stderr.strip().splitlines()[-1:]), "no reason given")
        if done.returncode == 2:
            raise InputError(f"{path} {said}")
        if done.returncode:
            # A signal: the library crashed.
            raise damaged(path, "HDF5 cannot read it" if done.returncode < 0 else said)
        with np.load(out, allow_pickle=False) as arrays:
            named = [(str(name), arrays[str(place)]) for place, name in enumerate(arrays["names"])]
    tree: dict[str, Any] = {}
    for name, value in named:
        *groups, key = name.split("/")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[key] = value.item() if value.ndim == 0 and value.dtype.kind == "U" else value[()]
    return tree


def damaged(path: Path, reason: str) -> InputError:
    """Return the error for a file that is none of NIR, or not whole."""
    return InputError(f"{path} is damaged or no NIR file ({reason}); write it again")


def write_whole(path: Path, write: Callable[[Any, Any], None], content: Any) -> None:
    """Write what nir's `write` makes of `content` by way of memory: HDF5 crashes on a full disk."""
    held = io.BytesIO()
    write(held, content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(held.getvalue())
