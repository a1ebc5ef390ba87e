"""Cutting a map into patches, and putting patches together again.

Patches are ordered row by row. Shapes: ``P = g * g`` patches, ``B`` samples, ``C`` channels, ``M`` the side
of a patch (``M_y x M_x`` where the map is no square).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from firstspike.support import InputError


@dataclass(frozen=True)
class PatchGrid:
    """Where the patches of a map lie.

    Attributes:
        sides: ``(M_y, M_x)``.
        tops, lefts: first row and column of each row and column of patches.
        shape: of the map, ``(Y, X)``.
    """

    sides: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    shape: tuple[int, int]

    @property
    def visits(self) -> int:
        """How many places all patches hold together; more than the map has where they overlap."""
        return math.prod(self.sides) * len(self.corners)

    @property
    def overlaps(self) -> bool:
        """Whether a place lies in several patches."""
        return self.visits > math.prod(self.shape)

    @property
    def corners(self) -> list[tuple[int, int]]:
        """The first row and column of every patch, in order."""
        return [(top, left) for top in self.tops for left in self.lefts]


def patch_grid(shape: tuple[int, int], grid: int, *, dilated: bool) -> PatchGrid:
    """Return the patches of a map of ``(Y, X)``.

    Along an axis of length ``L``, plain patches have side ``ceil(L / g)`` and start at
    ``floor(i (L - M) / (g - 1))``, so that they overlap only where ``g`` does not divide ``L``. Dilated
    patches have side ``ceil(3 L / (2 g))``, at most ``L``, and start at ``floor(i L / g - L / (4 g))``
    moved inside the map: for ``g = 2`` the paper's ``3 L / 4`` with an overlap of ``L / 2``. On maps hardly
    larger than the grid, dilated patches may fall together.

    Raises:
        InputError: the map has fewer rows or columns than there are patches along them.
    """
    if grid < 1:
        raise ValueError(f"grid must be 1 or more, found {grid}")
    if min(shape) < grid:
        raise InputError(f"a map of {shape[0]} x {shape[1]} cannot be cut into {grid} x {grid} patches")
    (height, tops), (width, lefts) = (_axis(length, grid, dilated) for length in shape)
    return PatchGrid((height, width), tops, lefts, shape)


def _axis(length: int, grid: int, dilated: bool) -> tuple[int, tuple[int, ...]]:
    if grid == 1:
        return length, (0,)
    if not dilated:
        side = -(-length // grid)
        return side, tuple(i * (length - side) // (grid - 1) for i in range(grid))
    side = min(length, -(-3 * length // (2 * grid)))
    starts = ((4 * i - 1) * length // (4 * grid) for i in range(grid))
    return side, tuple(min(max(start, 0), length - side) for start in starts)


def split_patches(maps: Tensor, grid: PatchGrid) -> Tensor:
    """Return the patches ``(P, B, C, M_y, M_x)`` of maps ``(B, C, Y, X)``."""
    height, width = grid.sides
    return torch.stack([maps[..., y : y + height, x : x + width] for y, x in grid.corners])


def merge_patches(patches: Tensor, grid: PatchGrid) -> Tensor:
    """Return maps ``(B, C, Y, X)`` of patches ``(P, B, C, M_y, M_x)``, their mean where they overlap."""
    height, width = grid.sides
    maps = patches.new_zeros(*patches.shape[1:3], *grid.shape)
    for (y, x), patch in zip(grid.corners, patches, strict=True):
        maps[..., y : y + height, x : x + width] += patch
    return maps / cover(grid).to(maps)


def cover(grid: PatchGrid) -> Tensor:
    """Return how many patches cover each place, int64 ``(Y, X)``."""
    height, width = grid.sides
    counts = torch.zeros(grid.shape, dtype=torch.int64)
    for y, x in grid.corners:
        counts[y : y + height, x : x + width] += 1
    return counts
