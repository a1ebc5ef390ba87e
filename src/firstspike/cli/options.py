"""Options that several verbs share."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from firstspike.support import InputError, expanded, whole_number


def add_data_dir(
    parser: argparse.ArgumentParser, otherwise: str = "MNIST and Fashion-MNIST are downloaded once"
) -> None:
    """Add ``--data-dir``; `otherwise` says in words what is done where no folder is named."""
    parser.add_argument(
        "--data-dir",
        type=path,
        metavar="D",
        help=f"folder with the data set's files (default: $FIRSTSPIKE_DATA, else {otherwise})",
    )


def add_threads(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--threads``, None where it is left out; `default` says in words what is taken then."""
    parser.add_argument(
        "--threads",
        type=workers,
        metavar="N",
        help="processor threads; a run's numbers are the same to the bit for the same count "
        f"(default: {default})",
    )


def let_waiting_threads_sleep() -> None:
    """Let a thread that waits for another one sleep; to be called before torch is imported.

    It would spin otherwise, which saves microseconds on an idle machine and, on one with a busy core, costs
    the time slices that the other thread waits for: there two threads took 5 to 16 times as long as one.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def add_device(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--device``; `what` can be trained on a GPU."""
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help=f"where to train; cuda for {what}"
    )


def add_windows(parser: argparse.ArgumentParser) -> None:
    """Add ``--set`` of a verb that takes a trained run."""
    add_changes(
        parser,
        "WINDOW=T",
        "take the trained weights in a window of another length, as steps=8; firstspike presets PRESET "
        "lists them",
    )


def add_changes(parser: argparse.ArgumentParser, metavar: str, what: str) -> None:
    """Add ``--set``, a list of names and values; `what` says what it does."""
    parser.add_argument(
        "--set",
        type=_change,
        action="append",
        default=[],
        dest="changes",
        metavar=metavar,
        help=f"{what}; may be given several times",
    )


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected FIELD=VALUE, found {text!r}")
    return name.strip(), value.strip()


def path(text: str) -> Path:
    """Return `text` as a path, with the home folder in place of a leading ``~``."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, found nothing")
    try:
        return expanded(text, "path")
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def positive(text: str) -> int:
    """Return `text` as an integer of 1 or more."""
    return _whole(text, 1, sys.maxsize, "1 or more")


def between(low: int, high: int) -> Callable[[str], int]:
    """Return a function of a text that returns it as an integer of `low` ... `high`."""
    return lambda text: _whole(text, low, high, f"{low:,} ... {high:,}")


# Of threads, or of processes. Far above any use: what more would ask for is memory.
workers = between(1, 1024)


def seed(text: str) -> int:
    """Return `text` as a seed that every random generator takes."""
    return _whole(text, 0, sys.maxsize, f"0 ... {sys.maxsize}")


def _whole(text: str, low: int, high: int, expected: str) -> int:
    value = whole_number(text)
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"expected an integer, {expected}, found {text!r}")
    return value


def default_dataset(data_dir: Path | None) -> str:
    """Return "mnist" where a data folder is named, else the embedded "digits"."""
    return "mnist" if data_dir or os.environ.get("FIRSTSPIKE_DATA") else "digits"


def check_device(name: str) -> None:
    """Refuse a device that is not there."""
    if name == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise InputError(f"--device {name}: torch finds no such device here; leave --device out")
