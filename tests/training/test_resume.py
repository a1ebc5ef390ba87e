"""A run killed at any moment and resumed ends at the same weights to the bit."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

KILLS = int(os.environ.get("FIRSTSPIKE_KILLS", "3"))
PRESETS = [
    ["spiking-gan-window", "--digit", "3", "--epochs", str(20 * KILLS)],
    ["aggressive-ttfs-window", "--epochs", str(4 * KILLS)],
]


def train(out, preset, *flags):
    command = [sys.executable, "-m", "firstspike", "train", *preset, "--dataset", "digits"]
    command += ["--out", str(out), "--threads", "1", *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process):
    with process.stderr:
        assert process.wait() == 0, process.stderr.read()


def train_under_kills(path, preset, start_up, training):
    """Start and kill a run up to `KILLS` times; return how often it was killed before it finished."""
    source, killed = random.Random(0), 0
    for _ in range(KILLS):
        process = train(path, preset, "--resume")
        try:
            # From just before the first epoch to a share of the work that all kills together leave over.
            process.wait(source.uniform(0.7, 1.0) * start_up + source.uniform(0, 1) * training)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        finally:
            process.wait()
            process.stderr.close()
    return killed


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset[0])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, preset):
    """The short form of the kill test: FIRSTSPIKE_KILLS=20 runs the long one."""
    began = time.monotonic()
    finish(train(tmp_path / "whole", preset))
    trained = time.monotonic()
    finish(train(tmp_path / "whole", preset, "--resume"))
    start_up = time.monotonic() - trained
    training = max(trained - began - start_up, 0.1)

    killed = 0
    for share in (0.9, 0.4, 0.0):
        # A machine that got faster meanwhile may finish first: once more, with kills that come sooner.
        if not killed:
            shutil.rmtree(tmp_path / "killed", ignore_errors=True)
            killed = train_under_kills(tmp_path / "killed", preset, start_up, share * training / KILLS)
    # A number that was asked for must be reached.
    assert killed == KILLS if "FIRSTSPIKE_KILLS" in os.environ else killed > 0
    finish(train(tmp_path / "killed", preset, "--resume"))

    expected = load_file(tmp_path / "whole" / "model.safetensors")
    found = load_file(tmp_path / "killed" / "model.safetensors")
    assert expected.keys() == found.keys()
    assert all(expected[name].equal(found[name]) for name in expected)
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "killed")]
    assert len(lines[0]) == len(lines[1])
