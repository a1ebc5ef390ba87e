"""Options that several verbs share."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from firstspike.support import InputError


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add ``--data-dir``."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="D",
        help="folder with the data set's files (default: $FIRSTSPIKE_DATA, else MNIST and Fashion-MNIST "
        "are downloaded once)",
    )


def add_threads(parser: argparse.ArgumentParser, default: int = 2) -> None:
    """Add ``--threads``."""
    parser.add_argument(
        "--threads",
        type=workers,
        default=default,
        metavar="N",
        help="processor threads; a run's numbers are the same to the bit for the same count "
        "(default: %(default)s)",
    )


def add_device(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--device``; `what` can be trained on a GPU."""
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help=f"where to train; cuda for {what}"
    )


def positive(text: str) -> int:
    """Return `text` as a whole number of 1 or more."""
    return _whole(text, 1, sys.maxsize, "1 or more")


def between(low: int, high: int) -> Callable[[str], int]:
    """Return a function of a text that returns it as a whole number of `low` ... `high`."""
    return lambda text: _whole(text, low, high, f"{low:,} ... {high:,}")


# Of threads, or of processes. Far above any use: what more would ask for is memory.
workers = between(1, 1024)


def seed(text: str) -> int:
    """Return `text` as a seed that every random generator takes."""
    return _whole(text, 0, sys.maxsize, f"0 ... {sys.maxsize}")


def _whole(text: str, low: int, high: int, expected: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"expected a whole number, {expected}, found {text!r}")
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
