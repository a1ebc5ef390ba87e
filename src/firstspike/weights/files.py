"""Tensors in a safetensors file, which runs no code when it is read."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from firstspike.support import InputError, refuse_pickled


def read_tensors(file: Path, advice: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file by name, and what it says about itself.

    Raises:
        InputError: it is damaged or something else, when the message ends with `advice`; or a pickle.
        OSError: it cannot be read.
    """
    # This opens it first: the library's own errors name neither the file nor the reason.
    refuse_pickled(file)
    try:
        with safe_open(file, framework="pt") as opened:
            return _copies(opened), opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file} is damaged ({error}); {advice}") from error


def _copies(opened: safe_open) -> dict[str, Tensor]:
    # Copies: those given lie in the file, which Windows then lets nobody replace.
    return {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
