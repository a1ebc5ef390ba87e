"""Kernels where nothing can be kept: a read-only install, and a user without a home."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import firstspike

_RUN = """
import torch
from firstspike import Causal, Linear, Spikes, Window
spikes = Spikes(torch.zeros(1, 3), 8)
print(Linear(3, 2, Window())(spikes).shape[1])
"""


@pytest.fixture
def unwritable(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a process that can write neither into the package nor into a home.

    Files stand where folders would be made, which stops the superuser too.
    """
    source = Path(next(iter(firstspike.__path__)))
    shutil.copytree(source, tmp_path / "firstspike", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [tmp_path / "firstspike", *(tmp_path / "firstspike").rglob("*/")]:
        (folder / "__pycache__").write_text("no folder")
    (tmp_path / "home").write_text("no folder")
    home = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"), str(tmp_path / "home"))
    kept = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    return {**kept, **home, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}


def run(environment: dict[str, str], *extra: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", _RUN + "".join(extra)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_without_a_folder_to_write_to_kernels_run_and_one_warning_names_the_remedy(
    unwritable: dict[str, str],
) -> None:
    done = run(unwritable, "print(Linear(3, 2, Causal())(spikes).shape[1])")
    assert (done.returncode, done.stdout) == (0, "2\n2\n"), done.stderr[-500:]
    assert done.stderr.count("\n") == 1
    assert "NUMBA_CACHE_DIR" in done.stderr


def test_a_folder_that_is_named_is_used_without_a_word(unwritable: dict[str, str], tmp_path: Path) -> None:
    done = run({**unwritable, "NUMBA_CACHE_DIR": str(tmp_path / "compiled")})
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
    assert any((tmp_path / "compiled").rglob("window*.nbi"))
