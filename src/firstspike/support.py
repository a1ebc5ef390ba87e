"""What every part leans on: the error for bad input, checks, atomic files, the cache. Free of torch."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_NUM_STEPS = 65_535
CACHE_VARIABLE = "FIRSTSPIKE_CACHE"


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, where and what to do.

    The command line prints it as one line and exits with status 2.
    """


class Diverged(RuntimeError):
    """A training whose losses or weights are no finite numbers any more.

    The command line prints it as one line and exits with status 1.
    """


def check_num_steps(num_steps: int, *, minimum: int = 2) -> int:
    """Return `num_steps` as an int, refusing what is not a whole number in 2 ... 65,535.

    Raises:
        TypeError: `num_steps` is not an integer.
        ValueError: it is out of range.
    """
    if isinstance(num_steps, bool) or not isinstance(num_steps, int):
        raise TypeError(f"num_steps must be an int, found {type(num_steps).__name__}: {num_steps!r}")
    if not minimum <= num_steps <= MAX_NUM_STEPS:
        raise ValueError(f"num_steps must be in {minimum} ... {MAX_NUM_STEPS}, found {num_steps}")
    return num_steps


def check_choice(owner: str, field: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError if `value` is not one of `choices`."""
    if value not in choices:
        raise ValueError(f"{owner}.{field} must be one of {', '.join(choices)}; found {value!r}")


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


def cache_dir() -> Path:
    """Return the folder for downloaded and derived files; it need not exist yet.

    The environment variable FIRSTSPIKE_CACHE names it; otherwise it is the user's cache folder of
    the operating system (``~/.cache/firstspike`` on Linux).
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    import pooch

    return Path(pooch.os_cache("firstspike"))
