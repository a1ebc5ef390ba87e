"""What a long training shows: a bar that moves within an epoch, a line per epoch where nobody watches."""

import re

import pytest

from firstspike.training.progress import epochs


def _train(shares: tuple[float, ...], **options: bool) -> list[int]:
    records, seen = [], []
    for epoch, move_bar in epochs(1, 3, "run", records, **options):
        for share in shares:
            move_bar(share)
        seen.append(epoch)
        records.append({"epoch": epoch + 1, "loss": 0.5 / (epoch + 1)})
    return seen


def test_a_file_gets_a_line_per_epoch_and_nothing_in_between(capsys):
    assert _train((0.25, 0.5, 1)) == [1, 2]
    lines = ["run: epochs 2 to 3", "epoch 2 of 3  loss 0.25", "epoch 3 of 3  loss 0.1667"]
    assert capsys.readouterr().err.splitlines() == lines


def test_nothing_is_shown_where_nothing_is_asked_for(capsys):
    assert _train((0.5, 1), show=False) == [1, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("shares", "filled"), [((0.5,), 20), ((), 13)])
def test_the_bar_of_a_terminal_moves_within_an_epoch(monkeypatch, capsys, shares, filled):
    monkeypatch.setenv("FORCE_COLOR", "1")
    # Only the done part of the bar is drawn then.
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    training = epochs(1, 3, "run", [])
    _, move_bar = next(training)
    for share in shares:
        move_bar(share)
    training.close()
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err).split("\r")[-1]
    assert "1/3" in last
    assert len(re.match(r"\s*run (━*)", last)[1]) == filled
