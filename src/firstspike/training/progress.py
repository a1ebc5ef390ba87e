"""Progress on the terminal: a bar with the time left; of trainings a line per epoch where stderr is a file.

Whatever happens to the terminal, the training goes on: what cannot be written is dropped.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress import Progress, ProgressColumn, Task, TaskID, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

from firstspike.support import LastingStream, one_line

# Columns: of the bar, at least and at most; from which there is room for a title, and its largest share.
_BAR = 5, 40
_TITLE_FROM = 40
_TITLE_SHARE = 0.25
# What is measured sooner needs no bar.
_WORTH_A_BAR_SECONDS = 2.0


def epochs(
    first: int, total: int, title: str, records: list[dict[str, Any]], *, show: bool = True
) -> Iterator[tuple[int, Callable[[float], None]]]:
    """Yield the epochs from `first` to `total`, showing each one's figures once it is over.

    With each comes a function that moves the bar, to be told what share of the epoch is done.
    """
    stream = cast(TextIO, LastingStream(sys.stderr)) if show and sys.stderr is not None else None
    drawn = watched(stream)
    lines = None if drawn else stream
    if lines is not None and first < total:
        lines.write(f"{one_line(title)}: epochs {first + 1} to {total}\n")
        lines.flush()
    with bar(stream if drawn else None) as progress:
        task = progress.add_task(one_line(title), total=total, completed=first, figures=())
        for epoch in range(first, total):
            yield epoch, partial(_move, progress, task, epoch)
            last = records[-1] if records else {}
            figures = [f"{name} {value:.4g}" for name, value in last.items() if isinstance(value, float)]
            progress.update(task, completed=epoch + 1, figures=figures)
            if lines is not None:
                # In one piece, so that an interruption leaves no half line.
                lines.write(f"epoch {epoch + 1} of {total}  {'  '.join(figures)}\n")
                lines.flush()


@contextmanager
def measuring(title: str, total: int, *, show: bool = True) -> Iterator[Callable[[int], None] | None]:
    """Yield a function that moves a bar, to be told how many of `total` samples are measured.

    The bar appears once the work has taken two seconds. None where it cannot be drawn.
    """
    stream = cast(TextIO, LastingStream(sys.stderr)) if show and sys.stderr is not None else None
    if not watched(stream):
        yield None
        return
    progress, began = bar(stream), monotonic()
    task = progress.add_task(one_line(title), total=total, figures=())

    def move(done: int) -> None:
        progress.update(task, completed=done)
        if monotonic() - began >= _WORTH_A_BAR_SECONDS:
            progress.start()

    try:
        yield move
    finally:
        progress.stop()


def nothing_left(title: str) -> None:
    """Say that a training was finished before."""
    if sys.stderr is not None:
        stream = LastingStream(sys.stderr)
        stream.write(f"{one_line(title)} is finished, nothing was left to train\n")
        stream.flush()


def watched(stream: TextIO | None) -> bool:
    """Return whether `stream` is a terminal that can draw over a line, whatever FORCE_COLOR says."""
    try:
        terminal = stream is not None and stream.isatty()
    except ValueError:
        # Closed.
        return False
    return terminal and os.environ.get("TERM", "") not in ("dumb", "unknown")


def bar(stream: TextIO | None) -> Progress:
    """Return a progress display of one line on the terminal `stream`; None for one that shows nothing.

    A task's field ``figures`` is what to show after its title, the most telling first.
    """
    console = Console(file=stream, force_terminal=stream is not None)
    # What is printed on standard output meanwhile stays there.
    return Progress(_Line(), console=console, disable=stream is None, redirect_stdout=False, expand=True)


def _move(progress: Progress, task: TaskID, epoch: int, share: float) -> None:
    progress.update(task, completed=epoch + share)


class _Line(ProgressColumn):
    """Title, bar, count, time left and figures in one line of any width."""

    def __init__(self) -> None:
        super().__init__()
        self._time = TimeRemainingColumn()

    def render(self, task: Task) -> "_Drawn":
        """Return the line of `task`."""
        count = f"{int(task.completed)}/{int(task.total or 0)}"
        return _Drawn(task, count, self._time.render(task))


@dataclass(frozen=True)
class _Drawn:
    """The line of a task.

    Bar, count and time left always have room; figures go first, whole, from the last; then the title.
    """

    task: Task
    count: str
    left: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - len(self.count) - self.left.cell_len - 2
        line = Text(no_wrap=True, overflow="crop")
        if options.max_width >= _TITLE_FROM:
            title = Text(self.task.description)
            title.truncate(int(options.max_width * _TITLE_SHARE), overflow="ellipsis")
            line.append_text(title).append(" ")
            room -= title.cell_len + 1
        least, most = _BAR
        width = max(0, min(room, max(least, min(most, options.max_width // 6))))
        if width:
            for segment in console.render(ProgressBar(self.task.total, self.task.completed, width=width)):
                line.append(segment.text, segment.style)
            line.append(" ")
        line.append(f"{self.count} ").append_text(self.left)
        room -= width
        for figure in self.task.fields["figures"]:
            room -= len(figure) + 2
            if room < 0:
                break
            line.append(f"  {figure}")
        yield line
