"""What every part leans on: the error for bad input, checks, atomic files, the cache. Free of torch."""

import math
import numbers
import operator
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_NUM_STEPS = 65_535
CACHE_VARIABLE = "FIRSTSPIKE_CACHE"


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, where and what to do.

    The command line prints it as one line and exits with status 2.
    """


def check_num_steps(num_steps: Any, *, name: str = "num_steps", minimum: int = 2) -> int:
    """Return a number of time steps as an int, refusing what is not an integer in 2 ... 65,535.

    Raises:
        TypeError: it is not an integer of Python or numpy.
        ValueError: it is out of range.
    """
    try:
        steps = operator.index(num_steps)
    except TypeError:
        steps = None
    if steps is None or isinstance(num_steps, bool):
        raise TypeError(f"{name} must be an int, found {type(num_steps).__name__}: {num_steps!r}")
    if not minimum <= steps <= MAX_NUM_STEPS:
        raise ValueError(f"{name} must be in {minimum} ... {MAX_NUM_STEPS}, found {steps}")
    return steps


def check_number(
    owner: str,
    field: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: bool = False,
) -> None:
    """Raise ValueError unless `value` is a finite number in ``low ... high``, above `low` if asked."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high or (above and value == low):
        span = f"above {low:g}" if above else f"{low:g} or more" if low > -math.inf else "finite"
        if high < math.inf:
            span = f"in {'(' if above else '['}{low:g}, {high:g}]"
        raise ValueError(f"{owner}.{field} must be a number {span}, found {value!r}")


def check_integer(owner: str, field: str, value: Any, *, low: int) -> int:
    """Return an integer of Python, numpy or torch as an int; ValueError if it is none or below `low`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < low:
        raise ValueError(f"{owner}.{field} must be an integer, {low} or more, found {value!r}")
    return number


def check_choice(owner: str, field: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError if `value` is not one of `choices`."""
    if value not in choices:
        raise ValueError(f"{owner}.{field} must be one of {', '.join(choices)}; found {value!r}")


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return `path` with a leading ``~`` or ``~name`` replaced by that user's home folder.

    Raises:
        InputError: there is no such user, or no home folder is known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{os.fspath(path)}: no home folder is known for {Path(path).parts[0]}; write the whole path"
        ) from error


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

    Raises:
        InputError: FIRSTSPIKE_CACHE begins with the home folder of an unknown user.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return user_path(named)
    import pooch

    return Path(pooch.os_cache("firstspike"))
