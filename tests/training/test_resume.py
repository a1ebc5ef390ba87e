"""A run killed at any moment and resumed ends at the same weights to the bit."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

PRESETS = [
    ["spiking-gan-window", "--digit", "3", "--epochs", "60"],
    ["aggressive-ttfs-window", "--epochs", "12"],
]


def train(out, preset, *flags):
    command = [sys.executable, "-m", "firstspike", "train", *preset, "--dataset", "digits"]
    command += ["--out", str(out), "--threads", "1", *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset[0])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, preset):
    """The short form of the kill test: FIRSTSPIKE_KILLS=20 runs the long one."""
    kills = int(os.environ.get("FIRSTSPIKE_KILLS", "3"))
    began = time.monotonic()
    whole = train(tmp_path / "whole", preset)
    assert whole.wait() == 0, whole.stderr.read()
    whole.stderr.close()
    duration = time.monotonic() - began

    source = random.Random(0)
    killed = 0
    while killed < kills:
        process = train(tmp_path / "killed", preset, "--resume")
        try:
            # Mostly past the start-up, so that runs die while they train or write.
            process.wait(timeout=source.uniform(0.4, 1.1) * duration / (1 + 0.1 * kills))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        else:
            pytest.fail(f"the run ended after {killed} of {kills} kills; give it more epochs")
        finally:
            process.stderr.close()
    last = train(tmp_path / "killed", preset, "--resume")
    assert last.wait() == 0, last.stderr.read()
    last.stderr.close()

    expected = load_file(tmp_path / "whole" / "model.safetensors")
    found = load_file(tmp_path / "killed" / "model.safetensors")
    assert expected.keys() == found.keys()
    assert all(expected[name].equal(found[name]) for name in expected)
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "killed")]
    assert len(lines[0]) == len(lines[1])
