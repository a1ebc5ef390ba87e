"""Settings that every test shares."""

import os

# Set before torch or Numba start their threads.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

import pytest
import torch

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def mnist_dir() -> str:
    """Return the folder with MNIST, or skip: the `data` tests need it."""
    folder = os.environ.get("FIRSTSPIKE_DATA")
    if not folder:
        pytest.skip("FIRSTSPIKE_DATA names no folder with the real data sets")
    return folder
