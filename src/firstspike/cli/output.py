"""What a verb prints on standard output: one JSON object, or tables for a reader."""

from typing import TYPE_CHECKING, Any

from firstspike.support import json_text

if TYPE_CHECKING:
    from rich.console import Console


def print_json(document: dict[str, Any], indent: int | None = None) -> None:
    """Print `document` as one JSON object."""
    print(json_text(document, indent))


def console(min_width: int = 0) -> "Console":
    """Return a console on standard output, of `min_width` columns or more; no text is markup to it."""
    from rich.console import Console

    plain = Console(markup=False, highlight=False, emoji=False)
    plain.width = max(plain.width, min_width)
    return plain
