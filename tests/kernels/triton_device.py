"""Where tests run the Triton kernels: through Triton's interpreter, or on a GPU where there is one.

Import this before anything that imports Triton, which reads the variable when it is imported.
"""

import importlib.util
import os

import pytest
import torch

from firstspike.kernels.dispatch import Kernels, kernels_for

_GPU = torch.cuda.is_available()
if not _GPU:
    os.environ["TRITON_INTERPRET"] = "1"

_MISSING = importlib.util.find_spec("triton") is None

needs_triton = pytest.mark.skipif(
    _MISSING, reason="Triton is not installed: pip install 'firstspike[cuda]'"
)
interpreted = pytest.mark.skipif(
    _MISSING or _GPU, reason="needs Triton, and that it interprets, as it does where there is no GPU"
)
on_every_device = pytest.mark.parametrize(
    "device",
    [
        pytest.param("cpu", marks=interpreted),
        pytest.param(
            "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not _GPU, reason="needs a CUDA device")]
        ),
    ],
)


def triton_kernels() -> Kernels:
    """Return the kernels of CUDA devices; in the interpreter they take the CPU's tensors."""
    return kernels_for(torch.device("cuda"))
