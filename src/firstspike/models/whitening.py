"""The fixed first convolution that takes the correlations out of patches of natural images."""

import torch
from torch import Tensor

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
    patches = values.to(torch.float64).unfold(2, kernel, 1).unfold(3, kernel, 1)
    rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * kernel**2)
    variances, directions = torch.linalg.eigh(torch.cov(rows.T))
    filters = (directions / (variances + _EPSILON).sqrt()).T.flip(0)
    # The sign of an eigenvector is the library's choice: its largest entry is made positive.
    largest = filters.gather(1, filters.abs().argmax(1, keepdim=True))
    filters = (filters * largest.sign()).reshape(-1, channels, kernel, kernel)
    return torch.cat([filters, -filters]).to(torch.float32)
