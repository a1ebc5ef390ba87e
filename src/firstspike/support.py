"""What every part leans on: the error for bad input, checks, files, what is told. Free of torch."""

import difflib
import inspect
import json
import math
import numbers
import operator
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

MAX_NUM_STEPS = 65_535
CACHE_VARIABLE = "FIRSTSPIKE_CACHE"
# How a file of torch begins: an archive whose first part is of its data, or the number of old versions.
_TORCH_FILE = re.compile(
    rb"PK\x03\x04.{26}[^/]*/data(\.pkl|/)|\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL
)

# The command that the command line is running; None where Python calls the library.
command_line: ContextVar[str | None] = ContextVar("command_line", default=None)


def option(name: str) -> str:
    """Return how the caller writes an option: ``--out`` on the command line, ``out`` in Python."""
    return f"--{name}" if command_line.get() else name


def whole_number(text: str) -> int | None:
    """Return a text of ASCII digits, with a minus or without, as an integer; None for any other.

    Not int's own grammar, which takes 1_000 and digits of other scripts, and refuses very long numbers.
    """
    return int(text) if re.fullmatch("-?[0-9]{1,30}", text) else None


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, where and what to do.

    The command line prints it as one line and exits with status 2.
    """


class Diverged(RuntimeError):
    """A training whose losses or weights are no finite numbers any more.

    The command line prints it as one line and exits with status 1.
    """


def check_dataclass(value: Any) -> None:
    """Raise TypeError if the class of `value` names fields, but was not made a dataclass: they are lost."""
    kind = type(value)
    if "__dataclass_fields__" not in vars(kind) and inspect.get_annotations(kind):
        raise TypeError(
            f"{kind.__name__} must be a frozen dataclass; write @dataclass(frozen=True, kw_only=True) above"
        )


def check_num_steps(value: Any, *, name: str = "steps") -> int:
    """Return a number of time steps as an int, refusing what is not an integer in 2 ... 65,535.

    Raises:
        TypeError: it is not an integer of Python or numpy.
        ValueError: it is out of range.
    """
    try:
        steps = operator.index(value)
    except TypeError:
        steps = None
    if steps is None or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, found {type(value).__name__}: {value!r}")
    if not 2 <= steps <= MAX_NUM_STEPS:
        raise ValueError(f"{name} must be in 2 ... {MAX_NUM_STEPS}, found {steps}")
    return steps


def check_number(
    owner: str,
    field: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: bool = False,
    below: bool = False,
) -> float:
    """Return a number of Python or numpy as a float.

    Raises:
        ValueError: it is not finite, not in ``low ... high``, or if asked not above `low` or below `high`.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high or (above and value == low) or (below and value == high):
        span = "" if low == -math.inf else f" above {low:g}" if above else f" of {low:g} or more"
        if high < math.inf:
            span = f" in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"
        raise ValueError(f"{owner}.{field} must be a finite number{span}, found {value!r}")
    return float(value)


def check_numbers(value: Any, *fields: str, low: float = -math.inf, above: bool = False) -> None:
    """Make fields of a frozen dataclass floats; ValueError for one that is none, see `check_number`."""
    for field in fields:
        number = check_number(type(value).__name__, field, getattr(value, field), low=low, above=above)
        object.__setattr__(value, field, number)


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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the known names that are close to an unknown one as a question, "" where none is."""
    close = difflib.get_close_matches(name, known, 3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def refuse_pickled(file: Path) -> None:
    """Refuse a file that torch.save or torch.jit.save wrote, which is a pickle; nothing of it is run.

    Raises:
        InputError: it is one.
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        head = stream.read(512)
    if _TORCH_FILE.match(head):
        raise InputError(
            f"{file} is a pickled file of torch, which can run code and is never loaded here; in Python, "
            "give the model to firstspike.from_torch, export it by torch.onnx.export, or save its "
            "state_dict by safetensors.torch.save_file"
        )


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there if the block succeeds, else delete it.

    A new file gets the mode that the umask leaves, one that was there keeps its own. A link stays and its
    target is replaced; what is neither file nor folder, as ``/dev/stdout``, is written as it is.

    Raises:
        OSError: the file cannot be written; its ``filename`` is `path`, or a folder above it.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    there = target.stat() if target.exists() else None
    if there is not None and not (stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode)):
        yield path
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}-{secrets.token_hex(4)}{target.suffix}")
    mode = 0o666 if there is None else stat.S_IMODE(there.st_mode)
    try:
        # Never more open than the file it becomes; the owner writes it whatever that file's mode.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode | stat.S_IWUSR))
        try:
            yield temporary
            # Open for writing: Windows syncs no other handle.
            with temporary.open("r+b") as written:
                os.fsync(written.fileno())
            if there is not None:
                temporary.chmod(mode)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        # A full disk names no file, and a temporary name tells the reader nothing.
        unnamed = error.filename is None or Path(str(error.filename)).name == temporary.name
        if error.errno is not None and unnamed:
            error.filename = str(path)
            # Not None, which the error's text would show.
            del error.filename2
        raise


def check_new_folder(path: Path) -> None:
    """Raise InputError unless `path` is an empty folder or not there yet."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} holds something already; give another folder")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path`; move it there if the block succeeds, else delete it.

    Raises:
        InputError: `path` is no empty folder, see `check_new_folder`.
        OSError: the folder cannot be made or moved.
    """
    check_new_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as temporary:
        # Not the temporary folder itself, which is for its owner alone.
        made = Path(temporary) / "made"
        made.mkdir()
        yield made
        if path.exists():
            path.rmdir()
        os.replace(made, path)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all, with the same bytes on every system."""
    with atomic_path(path) as temporary:
        # A path may hold bytes that are no text.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def json_text(document: Any, indent: int | None = None) -> str:
    """Return `document` as JSON, with null for NaN and infinity, which JSON lacks."""
    return json.dumps(_finite(document), indent=indent, allow_nan=False)


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """Return the records of a run folder's ``metrics.jsonl``, each with its epoch and seconds.

    Raises:
        InputError: it is not there or damaged.
        OSError: it cannot be read.
    """
    path = Path(run) / "metrics.jsonl"
    if not path.is_file():
        raise InputError(f"{run} has no metrics.jsonl; give the folder of a run that finished an epoch")
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); train the run again") from error
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict) or not _is_record(record):
            raise InputError(
                f"{path} is damaged (line {number} is no object of an epoch, seconds and figures); train "
                "the run again"
            )
    if not records:
        raise InputError(f"{path} is damaged (it is empty); train the run again")
    return records


def _is_record(record: dict[str, Any]) -> bool:
    epoch, seconds = record.get("epoch"), record.get("seconds")
    if type(epoch) is not int or epoch < 0 or type(seconds) not in (int, float):
        return False
    # Other integers fit into no float or step.
    return all(abs(value) < 2**63 for value in record.values() if isinstance(value, int))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def one_line(text: str) -> str:
    """Return `text` in one line, with what would steer a terminal escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


class LastingStream:
    """A text stream for whoever watches: what cannot be delivered is dropped, and the work goes on.

    Args:
        stream: where to write.
        forgiven: numbers of the errors that mean that nobody reads any more; None for all.

    Attributes:
        lost: whether something was dropped.
    """

    def __init__(self, stream: TextIO, forgiven: frozenset[int] | None = None) -> None:
        self._stream, self._forgiven, self.lost = stream, forgiven, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write `text` if it can be; return its length."""
        self._deliver(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush if it can be."""
        self._deliver(self._stream.flush)

    def _deliver(self, action: Callable[[], object]) -> None:
        if self.lost:
            return
        try:
            action()
        except OSError as error:
            if self._forgiven is not None and error.errno not in self._forgiven:
                raise
            self.lost = True
        except ValueError:
            # Closed by someone else, or not to be encoded.
            if not self._stream.closed:
                raise
            self.lost = True


def expanded(path: str | os.PathLike[str], name: str) -> Path:
    """Return `path` with the home folder in place of a leading ``~``.

    Raises:
        InputError: there is no such home folder; the message says that `name` led there.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{name} {path}: no home folder is known for {Path(path).parts[0]}; write the whole path"
        ) from error


def cache_dir() -> Path:
    """Return the folder for downloaded and derived files; it need not exist yet.

    The environment variable FIRSTSPIKE_CACHE names it; otherwise it is the user's cache folder of
    the operating system (``~/.cache/firstspike`` on Linux).

    Raises:
        InputError: FIRSTSPIKE_CACHE begins with the home folder of an unknown user.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return expanded(named, CACHE_VARIABLE)
    import pooch

    return Path(pooch.os_cache("firstspike"))
