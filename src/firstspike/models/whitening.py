"""The fixed first convolution that takes the correlations out of patches of natural images."""

import torch
from torch import Tensor
from torch.nn import functional as F

# At a time, which bounds the memory.
_CHUNK = 256
# Keeps directions that hold next to nothing from being blown up; of values in 0 ... 1.
_EPSILON = 3e-5


@torch.no_grad()
def whitening_filters(values: Tensor, kernel: int) -> Tensor:
    """Return filters under which patches are uncorrelated and have variance 1, and their negatives.

    They are the eigenvectors of the patches' covariance, each divided by the root of its eigenvalue (of
    that and a small constant), largest eigenvalue first (Page 2019, "How to train your ResNet").

    Args:
        values: what the convolution receives, 0 ... 1, floating point ``(batch, channels, height, width)``.
        kernel: side of a patch.

    Returns:
        float32 ``(2 channels kernel^2, channels, kernel, kernel)``.
    """
    channels = values.shape[1]
    size = channels * kernel**2
    count, sums = 0, torch.zeros(size, dtype=torch.float64)
    products = torch.zeros(size, size, dtype=torch.float64)
    for part in values.split(_CHUNK):
        rows = F.unfold(part.to(torch.float64), kernel).movedim(1, 2).flatten(0, 1)
        count, sums, products = count + len(rows), sums + rows.sum(0), products + rows.T @ rows
    mean = sums / count
    variances, directions = torch.linalg.eigh(products / count - torch.outer(mean, mean))
    filters = (directions / (variances + _EPSILON).sqrt()).T.flip(0)
    # The sign of an eigenvector is the library's choice: its largest entry is made positive.
    largest = filters.gather(1, filters.abs().argmax(1, keepdim=True))
    filters = (filters * largest.sign()).reshape(-1, channels, kernel, kernel)
    return torch.cat([filters, -filters]).to(torch.float32)
