"""What a long training shows: a bar that moves within an epoch, a line per epoch where nobody watches."""

import errno
import io
import re
import sys

import pytest

from firstspike.training import progress
from firstspike.training.progress import epochs, measuring

FIGURES = {
    "validation_accuracy": 0.97331,
    "validation_accuracy_papers_rule": 0.98112,
    "validation_tie_rate": 0.0123,
    "steps_to_decision": 33.291,
    "seconds": 12.3456,
}


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self):
        return True

    def last_line(self):
        """Return what is left of the last drawing once its control sequences are done."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())
        return [line for line in re.split("[\r\n]", plain) if line.strip()][-1].rstrip()


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that makes standard error a terminal of so many columns."""

    def make(columns, stream=None):
        found = stream or Terminal()
        monkeypatch.setattr(sys, "stderr", found)
        monkeypatch.setenv("TERM", "xterm")
        # Only the done part of the bar is drawn then.
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(columns))
        return found

    return make


def _train(shares: tuple[float, ...] = (), title: str = "run", **options: bool) -> list[int]:
    records, seen = [], []
    for epoch, move_bar in epochs(1, 3, title, records, **options):
        for share in shares:
            move_bar(share)
        seen.append(epoch)
        records.append({"epoch": epoch + 1, "loss": 0.5 / (epoch + 1)})
    return seen


LINES = ["run: epochs 2 to 3", "epoch 2 of 3  loss 0.25", "epoch 3 of 3  loss 0.1667"]


@pytest.mark.parametrize("colour", [None, "1", "3"])
def test_a_file_gets_a_line_per_epoch_and_nothing_in_between(capsys, monkeypatch, colour):
    if colour:
        monkeypatch.setenv("FORCE_COLOR", colour)
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert _train((0.25, 0.5, 1)) == [1, 2]
    assert capsys.readouterr().err.splitlines() == LINES


def test_a_terminal_that_cannot_draw_gets_the_lines(terminal, monkeypatch):
    stream = terminal(80)
    monkeypatch.setenv("TERM", "dumb")
    assert _train() == [1, 2]
    assert stream.getvalue().splitlines() == LINES


def test_nothing_is_shown_where_nothing_is_asked_for(capsys):
    assert _train((0.5, 1), show=False) == [1, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("shares", "filled"), [((0.5,), 8), ((), 5)])
def test_the_bar_of_a_terminal_moves_within_an_epoch(terminal, shares, filled):
    stream = terminal(96)
    training = epochs(1, 3, "run", [])
    _, move_bar = next(training)
    for share in shares:
        move_bar(share)
    training.close()
    assert "1/3" in stream.last_line()
    assert len(re.match(r"run (━*)", stream.last_line())[1]) == filled


@pytest.mark.parametrize("columns", [16, 20, 25, 30, 40, 60, 80, 120, 200])
def test_count_time_left_and_bar_have_room_in_any_terminal(terminal, columns):
    stream = terminal(columns)
    records = []
    training = epochs(0, 2000, "aggressive-ttfs-window-digits-seed0", records)
    for _ in range(1000):
        next(training)
        records.append({"loss": 0.1234567, **FIGURES})
    training.close()
    line = stream.last_line()
    assert len(line) <= columns
    bar, figures = re.search(r"(━*)[╸╺]? ?999/2000 (?:-:--:--|\d+:\d\d:\d\d)(.*)$", line).groups()
    # Half of it is done.
    assert len(bar) >= (2 if columns > 20 else columns == 20)
    shown = figures.split("  ")[1:]
    expected = ["loss 0.1235", *(f"{name} {value:.4g}" for name, value in FIGURES.items())]
    assert shown == expected[: len(shown)]
    assert len(shown) >= {80: 1, 120: 2, 200: 4}.get(columns, 0)


@pytest.mark.parametrize("title", ["run{lr}", "{0}", "[red]x[/red]", ":smile:", "%s"])
@pytest.mark.parametrize("columns", [None, 80])
def test_a_title_is_no_template_and_no_markup(terminal, capsys, title, columns):
    stream = None if columns is None else terminal(columns)
    assert _train(title=title) == [1, 2]
    shown = capsys.readouterr().err.splitlines()[0] if stream is None else stream.last_line()
    assert shown.startswith(title)


def test_a_title_steers_no_terminal(terminal):
    stream = terminal(80)
    assert _train(title="a\nb\x1b[2Jc") == [1, 2]
    assert "\x1b[2J" not in stream.getvalue()
    assert stream.last_line().startswith(r"a b\x1b[2Jc")


class Broken(Terminal):
    """A standard error that breaks after the first write."""

    def __init__(self, fault, watched):
        super().__init__()
        self.fault, self.watched, self.writes = fault, watched, 0

    def isatty(self):
        return self.watched

    def write(self, text):
        self.writes += 1
        if self.writes > 1:
            raise self.fault
        return len(text)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.EBADF, errno.ENOSPC])
def test_a_reader_that_leaves_does_not_stop_the_training(terminal, number, watched):
    stream = terminal(80, Broken(OSError(number, "gone"), watched))
    assert _train((0.5, 1)) == [1, 2]
    assert stream.writes == 2


def test_a_closed_standard_error_does_not_stop_the_training(terminal):
    terminal(80).close()
    assert _train((0.5, 1)) == [1, 2]


def test_no_standard_error_at_all_does_not_stop_the_training(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert _train((0.5, 1)) == [1, 2]


def test_what_is_printed_meanwhile_stays_on_standard_output(terminal, capsys):
    stream = terminal(80)
    for _ in epochs(0, 1, "run", []):
        print("mine")
    assert capsys.readouterr().out == "mine\n"
    assert "mine" not in stream.getvalue()


def test_what_takes_long_to_measure_shows_how_much_is_done(terminal, monkeypatch):
    stream = terminal(96)
    with measuring("run", 10000) as move_bar:
        move_bar(250)
        assert stream.getvalue() == ""
        monkeypatch.setattr(progress, "_WORTH_A_BAR_SECONDS", 0.0)
        move_bar(5000)
    assert re.match(r"run ━{8} *5000/10000 \d:\d\d:\d\d$", stream.last_line())


def test_what_fails_while_it_is_measured_leaves_the_terminal_as_it_was(terminal, monkeypatch):
    stream = terminal(96)
    monkeypatch.setattr(progress, "_WORTH_A_BAR_SECONDS", 0.0)

    def interrupted():
        with measuring("run", 10) as move_bar:
            move_bar(5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    # The cursor is hidden while the bar is drawn.
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


@pytest.mark.parametrize("case", ["file", "dumb", "unwanted", "none"])
def test_nothing_is_drawn_where_nobody_watches_what_is_measured(terminal, monkeypatch, capsys, case):
    stream = None if case == "file" else terminal(80)
    if case == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    elif case == "none":
        monkeypatch.setattr(sys, "stderr", None)
    with measuring("run", 10, show=case != "unwanted") as move_bar:
        assert move_bar is None
    assert (stream.getvalue() if stream else capsys.readouterr().err) == ""
