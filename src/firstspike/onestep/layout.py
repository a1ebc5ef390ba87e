"""Layouts of one-step networks in one line, such as ``48-F48-48-P96-(96-F96-96)x2``. Free of torch."""

import re
from dataclasses import dataclass
from typing import Literal

from firstspike.support import InputError

Kind = Literal["conv", "full", "mlp", "lstm", "merge"]

_TOKEN = re.compile(r"([FMLP]?)(\d+)")
_KINDS: dict[str, Kind] = {"": "conv", "F": "full", "M": "mlp", "L": "lstm", "P": "merge"}


@dataclass(frozen=True)
class Part:
    """One block and its number of maps; for an "mlp" that of the maps between its two layers."""

    kind: Kind
    channels: int


def parse_one_step_layout(text: str) -> list[Part]:
    """Return the blocks that `text` describes; the head comes from the classes.

    ``n`` is a 3 x 3 convolution with n maps, ``Ln`` a convolutional LSTM over the windows, ``Fn`` a fully
    connected layer over the maps of each place with a shortcut past it, ``Mn`` two such layers with n maps
    between them, ``Pn`` patch merging to n maps of half the side. ``(...)xk`` repeats a group k times.

    Raises:
        InputError: an unknown part, a size of 0, brackets that do not match, a fully connected layer that
            changes the number of maps, or one that comes first.

    >>> parse_one_step_layout("(8-F8)x2")[1:3]
    [Part(kind='full', channels=8), Part(kind='conv', channels=8)]
    """
    parts = []
    for token in _repeated(text).split("-"):
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise InputError(
                f"layout {text!r}: unknown part {token!r}; expected n (convolution), Ln (LSTM), Fn (fully "
                "connected), Mn (two-layer perceptron), Pn (patch merging) or (...)xk"
            )
        if int(found[2]) == 0:
            raise InputError(f"layout {text!r}: {token!r} has a size of 0")
        parts.append(Part(_KINDS[found[1]], int(found[2])))
    if parts[0].kind not in ("conv", "lstm"):
        raise InputError(f"layout {text!r}: the first part must be a convolution or an LSTM")
    channels = 0
    for part in parts:
        if part.kind == "full" and part.channels != channels:
            raise InputError(
                f"layout {text!r}: F{part.channels} follows {channels} maps; its shortcut needs as many, "
                f"F{channels} (M{part.channels} changes the number in between)"
            )
        channels = channels if part.kind == "mlp" else part.channels
    return parts


def _repeated(text: str) -> str:
    """`text` with its repeated groups written out."""
    group = re.compile(r"\(([^()]*)\)x([1-9]\d*)")
    written = group.sub(lambda found: "-".join([found[1]] * int(found[2])), text)
    if "(" in written or ")" in written:
        raise InputError(
            f"layout {text!r}: expected each group as (...)xk, k 1 or more, without groups in groups"
        )
    return written
