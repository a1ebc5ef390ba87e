"""Progress on the terminal: a bar with the time left; a line per epoch where stderr is a file."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def epochs(
    first: int, total: int, title: str, records: list[dict[str, Any]], *, show: bool = True
) -> Iterator[int]:
    """Yield the epochs from `first` to `total`, showing each one's figures once it is over."""
    console = Console(stderr=True)
    lines = show and not console.is_terminal
    if lines and first < total:
        print(f"{title}: epochs {first + 1} to {total}", file=console.file, flush=True)
    with Progress(
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
        disable=not (show and console.is_terminal),
    ) as progress:
        task = progress.add_task(title, total=total, completed=first, figures="")
        for epoch in range(first, total):
            yield epoch
            last = records[-1] if records else {}
            figures = "  ".join(
                f"{name} {value:.4g}" for name, value in last.items() if isinstance(value, float)
            )
            progress.update(task, advance=1, figures=figures)
            if lines:
                # In one piece, so that an interruption leaves no half line.
                console.file.write(f"epoch {epoch + 1} of {total}  {figures}\n")
                console.file.flush()
