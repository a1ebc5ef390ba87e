"""Tensors as the compiled kernels take them, and back: bfloat16, which numpy has not, as its bits."""

import numpy as np
import torch
from torch import Tensor


def to_array(values: Tensor) -> np.ndarray:
    """Return a contiguous tensor on the CPU as an array on the same memory; bfloat16 as uint16."""
    return (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).numpy()


def to_tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Return an array on the same memory as a tensor; the bits of bfloat16 if `dtype` is that."""
    values = torch.from_numpy(array)
    return values.view(torch.bfloat16) if dtype == torch.bfloat16 else values
