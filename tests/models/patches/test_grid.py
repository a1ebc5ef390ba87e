"""Cutting maps into patches and putting them together: exact inverses, the paper's overlaps by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.models.patches.grid import cover, merge_patches, patch_grid, split_patches
from firstspike.support import InputError

SIZES = st.integers(1, 40)


@settings(deadline=None)
@given(height=SIZES, width=SIZES, grid=st.integers(1, 5), dilated=st.booleans())
def test_patches_cover_every_place_and_stay_inside(height, width, grid, dilated):
    if min(height, width) < grid:
        with pytest.raises(InputError, match="cannot be cut"):
            patch_grid((height, width), grid, dilated=dilated)
        return
    patches = patch_grid((height, width), grid, dilated=dilated)
    assert len(patches.corners) == grid * grid
    assert int(cover(patches).min()) >= 1
    for top, left in patches.corners:
        assert 0 <= top <= height - patches.sides[0]
        assert 0 <= left <= width - patches.sides[1]


@settings(deadline=None)
@given(height=SIZES, width=SIZES, grid=st.integers(1, 5), dilated=st.booleans())
def test_merging_what_was_split_gives_the_map_back(height, width, grid, dilated):
    grid = min(grid, height, width)
    patches = patch_grid((height, width), grid, dilated=dilated)
    maps = torch.randn(2, 3, height, width, dtype=torch.float64)
    torch.testing.assert_close(merge_patches(split_patches(maps, patches), patches), maps)


@pytest.mark.parametrize(("side", "grid"), [(8, 2), (12, 4), (9, 3), (7, 1)])
def test_plain_patches_of_a_map_they_divide_do_not_overlap(side, grid):
    patches = patch_grid((side, side), grid, dilated=False)
    assert int(cover(patches).max()) == 1
    maps = torch.randint(0, 2, (1, 1, side, side)).float()
    assert torch.equal(merge_patches(split_patches(maps, patches), patches), maps)


def test_dilated_patches_of_an_8_x_8_map_are_the_papers():
    # M = 3L/4 = 6 and an overlap of L/2 = 4: starts at 0 and 2.
    patches = patch_grid((8, 8), 2, dilated=True)
    assert patches.sides == (6, 6)
    assert patches.corners == [(0, 0), (0, 2), (2, 0), (2, 2)]
    once, twice = [1, 1, 2, 2, 2, 2, 1, 1], [2, 2, 4, 4, 4, 4, 2, 2]
    assert cover(patches).tolist() == [once, once, *[twice] * 4, once, once]


def test_overlaps_are_averaged_by_hand():
    patches = patch_grid((8, 8), 2, dilated=True)
    parts = torch.zeros(4, 1, 1, 6, 6)
    # One spike at the map's (2, 2), which all four patches hold; one at (0, 3), which the upper two hold.
    parts[0, 0, 0, 2, 2] = 1
    parts[1, 0, 0, 0, 1] = 1
    parts[0, 0, 0, 0, 3] = 1
    parts[2, 0, 0, 5, 0] = 1
    merged = merge_patches(parts, patches)[0, 0]
    expected = torch.zeros(8, 8)
    expected[2, 2], expected[0, 3], expected[7, 0] = 0.25, 1.0, 1.0
    assert torch.equal(merged, expected)


def test_starts_for_finer_grids():
    assert patch_grid((32, 32), 4, dilated=True).tops == (0, 6, 14, 20)
    assert patch_grid((32, 32), 4, dilated=True).sides == (12, 12)
    assert patch_grid((7, 10), 3, dilated=False).tops == (0, 2, 4)
    assert patch_grid((7, 10), 3, dilated=False).lefts == (0, 3, 6)
