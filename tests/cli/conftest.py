from collections.abc import Callable

import pytest
import torch
from commands import Answer

from firstspike.cli import main


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    """Commands write into their working folder by default, and look at FIRSTSPIKE_DATA."""
    monkeypatch.delenv("FIRSTSPIKE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def firstspike(capsys) -> Callable[..., Answer]:
    """The command line in this process, without the seconds that a new one needs to import torch."""

    def call(*arguments: object) -> Answer:
        threads = torch.get_num_threads()
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
        finally:
            torch.set_num_threads(threads)
        return Answer(status, *capsys.readouterr())

    return call
