"""Losing a pipe or a terminal loses no training; what a user writes is shown as it is."""

import errno
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from commands import command_line

from firstspike import support
from firstspike.cli import main
from firstspike.cli.streams import deaf_to_hangup, lasting_streams
from firstspike.recipes import preset
from firstspike.support import LastingStream
from firstspike.training import evaluation, run
from firstspike.training.run_folder import RunFolder

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs descriptors and terminals of POSIX")
TRAIN = ("train", "aggressive-ttfs-window", "--dataset", "digits", "--threads", 1, "--out", "run")
TEXTS = ["run{lr}", "{0}", "[red]x[/red]", ":smile:", "%s", "größe"]


def check_trained(process, epochs):
    assert process.wait(60) == 0
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == epochs
    assert Path("run/model.safetensors").exists()


def test_a_reader_that_leaves_loses_no_training():
    process = subprocess.Popen(
        command_line(*TRAIN, "--epochs", 4),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout.readline() == b"run: epochs 1 to 4\n"
    assert process.stdout.readline().startswith(b"epoch 1 of 4 ")
    process.stdout.close()
    check_trained(process, 4)


@POSIX
def test_closed_descriptors_lose_no_training_and_take_in_no_file():
    line = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command_line(*TRAIN, "--epochs", 1)]
    check_trained(subprocess.Popen(line), 1)
    assert json.loads(Path("run/config.json").read_text())["preset"] == "aggressive-ttfs-window"


@POSIX
def test_a_terminal_that_is_closed_loses_no_training():
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()

    def own_terminal():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        command_line(*TRAIN, "--epochs", 30),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=own_terminal,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(theirs)
    seen = b""
    # The bar is not drawn after each epoch.
    while not re.search(rb" [1-9]/30 ", seen):
        seen += os.read(ours, 4096)
    os.close(ours)
    check_trained(process, 30)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["presets", "--help", "train --help"])
def test_a_reader_that_leaves_is_no_error(line, unbuffered):
    process = subprocess.Popen(
        command_line(*line.split()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(60) == 0


@pytest.fixture
def trained(monkeypatch):
    """What `firstspike train` was asked for, which nobody trains: path, and command as a run records it."""
    asked = []

    def note(path, *_, **__):
        asked.append((path, support.command_line.get()))

    monkeypatch.setattr(run, "train", note)
    return asked


ONE = ("train", "ann-gan", "--digit", "3", "--dataset", "digits")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("name", [*TEXTS, "≥1", os.fsdecode(b"run\xff")])
def test_no_encoding_refuses_a_path(monkeypatch, trained, encoding, name):
    written = io.BytesIO()
    with io.TextIOWrapper(written, encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main([*ONE, "--out", name]) == 0
        assert sys.stdout is stream
        expected = name.encode(encoding, "backslashreplace").decode(encoding) + os.linesep
        assert written.getvalue().decode(encoding) == expected
    assert [path for path, _ in trained] == [Path(name)]


def test_the_home_folder_is_put_in_place_after_an_equals_sign(firstspike, monkeypatch, trained, tmp_path):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert firstspike(*ONE, "--out=~/x").out == f"{tmp_path / 'x'}\n"
    assert trained[0][0] == tmp_path / "x"


def test_a_run_records_the_command_that_made_it_and_none_where_python_did(firstspike, trained, tmp_path):
    firstspike(*ONE, "--out", "a b")
    assert trained[0][1] == "firstspike train ann-gan --digit 3 --dataset digits --out 'a b'"
    assert support.command_line.get() is None
    config = preset("ann-gan").configure(dataset="digits", digit=3)
    RunFolder.create(tmp_path / "run", "ann-gan", config, 0)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["command"] is None


@pytest.mark.parametrize("text", TEXTS)
def test_a_table_and_a_refusal_show_what_is_given_as_it_is(firstspike, monkeypatch, classifier_run, text):
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: {"run": text})
    assert firstspike("evaluate", classifier_run).out.split() == ["run", text]
    assert firstspike("evaluate", text).refusal.startswith(f"{text} is not a run folder")
    assert f"unknown preset {text!r}" in firstspike("train", text).refusal
    assert f"'{text}'" in firstspike("bench", "--threads", text).refusal


def test_json_is_alone_on_standard_output(firstspike, monkeypatch, classifier_run):
    def talking(*_, **__):
        print("a library's remark")
        logging.getLogger("firstspike").warning("a log entry")
        return {"accuracy": float("nan"), "spikes": [1.5, float("inf")]}

    monkeypatch.setattr(evaluation, "evaluate", talking)
    answer = firstspike("evaluate", classifier_run, "--json")
    assert answer.status == 0
    assert answer.out == '{"accuracy": null, "spikes": [1.5, null]}\n'
    assert "a library's remark\n" in answer.err


def broken(number):
    class Broken(io.StringIO):
        def write(self, text):
            raise OSError(number, os.strerror(number))

    return Broken()


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.EBADF])
def test_of_standard_output_a_reader_that_left_is_forgiven(monkeypatch, number):
    monkeypatch.setattr(sys, "stdout", broken(number))
    assert main(["presets"]) == 0


def test_of_standard_output_a_full_disk_is_not_forgiven(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", broken(errno.ENOSPC))
    assert main(["presets"]) == 2
    assert capsys.readouterr().err.startswith("firstspike: No space left on device; free some space")


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_of_standard_error_everything_is_forgiven(monkeypatch, number, capsys):
    monkeypatch.setattr(sys, "stderr", broken(number))
    assert main(["train", "nothing"]) == 2


def test_no_streams_at_all_are_forgiven(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["presets"]) == 0
    assert main(["train", "nothing"]) == 2
    assert sys.stdout is sys.stderr is None


def test_a_regular_file_has_no_reader_that_leaves(monkeypatch, tmp_path):
    with open(tmp_path / "out", "w", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with lasting_streams():
            monkeypatch.setattr(sys.stdout, "_stream", broken(errno.EIO))
            with pytest.raises(OSError):
                sys.stdout.write("x")


def test_a_character_that_cannot_be_encoded_is_not_lost_silently():
    stream = LastingStream(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(UnicodeEncodeError):
        stream.write("ü")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_hangup_is_ignored_within_the_block_only():
    before = signal.getsignal(signal.SIGHUP)
    with deaf_to_hangup():
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.01)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) is before

    def elsewhere():
        with deaf_to_hangup():
            seen.append(signal.getsignal(signal.SIGHUP))

    seen = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]
