"""Writing files so that a reader never sees half of one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there if the block succeeds, else delete it.

    Raises:
        OSError: the file cannot be written; its ``filename`` is `path`, or a folder above it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.stem}-"
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        # A full disk names no file, and a temporary name tells the reader nothing.
        unnamed = error.filename is None or Path(str(error.filename)).name.startswith(prefix)
        if error.errno is not None and unnamed:
            error.filename = str(path)
            # Not None, which the error's text would show.
            del error.filename2
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
