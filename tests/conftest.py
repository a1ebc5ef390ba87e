"""Settings and trained runs that every test shares."""

import os

# Set before torch or Numba start their threads.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")
# Where another process keeps a core busy, threads that spin while they wait make tests take minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from firstspike.data import ImageSet

torch.set_num_threads(2)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what generates code with a C++ compiler, unless ``-m`` names it."""
    if "codegen" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("codegen")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def mnist_dir() -> str:
    """Return the folder with MNIST, or skip: the `data` tests need it."""
    folder = os.environ.get("FIRSTSPIKE_DATA")
    if not folder:
        pytest.skip("FIRSTSPIKE_DATA names no folder with the real data sets")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the tests download and derive out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRSTSPIKE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread, which small networks like best."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def train() -> "ImageSet":
    """The embedded digits' training split, for runs that end within seconds."""
    from firstspike.data import load

    return load("digits", "train")


@pytest.fixture(scope="session")
def validation() -> "ImageSet":
    """Their validation split."""
    from firstspike.data import load

    return load("digits", "validation")


@pytest.fixture(scope="session")
def gan_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional Spiking-GAN on the small digits, finished after one epoch; not to be written to."""
    return _finished(tmp_path_factory, "spiking-gan-conditional", epochs=1)


@pytest.fixture(scope="session")
def digit_gan_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of an unconditional one, for the digit 3."""
    return _finished(tmp_path_factory, "spiking-gan-window", epochs=2, digit=3)


@pytest.fixture(scope="session")
def ann_gan_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of an ordinary GAN, for the digit 3."""
    return _finished(tmp_path_factory, "ann-gan", epochs=2, digit=3)


@pytest.fixture(scope="session")
def classifier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a classifier."""
    return _finished(tmp_path_factory, "aggressive-ttfs-window", epochs=2)


def _finished(factory: pytest.TempPathFactory, name: str, *, epochs: int, digit: int | None = None) -> Path:
    from firstspike.recipes import preset
    from firstspike.training.run import train

    config = preset(name).configure(dataset="digits", digit=digit, epochs=epochs)
    path = factory.mktemp("runs") / name
    train(path, name, config, seed=0, threads=torch.get_num_threads(), show_progress=False)
    return path
