"""Progress on the terminal: a bar with the time left; a line per epoch where stderr is a file."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


def epochs(
    first: int, total: int, title: str, records: list[dict[str, Any]], *, show: bool = True
) -> Iterator[tuple[int, Callable[[float], None]]]:
    """Yield the epochs from `first` to `total`, showing each one's figures once it is over.

    With each comes a function that moves the bar, to be told what share of the epoch is done.
    """
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
            yield epoch, partial(_move, progress, task, epoch)
            last = records[-1] if records else {}
            figures = "  ".join(
                f"{name} {value:.4g}" for name, value in last.items() if isinstance(value, float)
            )
            progress.update(task, completed=epoch + 1, figures=figures)
            if lines:
                # In one piece, so that an interruption leaves no half line.
                console.file.write(f"epoch {epoch + 1} of {total}  {figures}\n")
                console.file.flush()


def _move(progress: Progress, task: TaskID, epoch: int, share: float) -> None:
    progress.update(task, completed=epoch + share)
