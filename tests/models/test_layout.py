"""Architectures written as one line."""

import pytest

from firstspike.models.layout import (
    PARTS,
    Bottleneck,
    Conv,
    Dense,
    Full,
    Gather,
    Pool,
    Recurrent,
    Residual,
    layout_shapes,
    parse_layout,
)
from firstspike.support import InputError


def test_parts_and_shapes():
    parts = parse_layout("16C5s2-A2-8R-24Rs2-E2-F100-F10", PARTS)
    assert parts == [
        Conv(16, 5, 2), Pool("average", 2), Residual(8), Residual(24, 2), Pool("earliest", 2), Full(100),
        Full(10),
    ]  # fmt: skip
    assert layout_shapes(parts, (3, 32, 48)) == [
        (3, 32, 48), (16, 16, 24), (16, 8, 12), (8, 8, 12), (24, 4, 6), (24, 2, 3), (100,), (10,),
    ]  # fmt: skip
    parts = parse_layout("48L3-D-3B-96G", PARTS)
    assert parts == [Recurrent(48, 3), Dense(), Bottleneck(3), Gather(96)]
    # Odd sides are merged with zeros.
    assert layout_shapes(parts, (2, 9, 12)) == [(2, 9, 12), *[(48, 9, 12)] * 3, (96, 5, 6)]
    # A stride rounds up, as padding by half the kernel does.
    assert layout_shapes([Conv(4, 3, 2)], (1, 7, 5))[-1] == (4, 4, 3)


def test_groups_are_repeated():
    assert parse_layout("8C3-(9L3-2B)x2-D", PARTS) == parse_layout("8C3-9L3-2B-9L3-2B-D", PARTS)


def test_multiply_adds_leave_padding_out():
    # Taps of a kernel of 3 on a side of 6: 2 + 3 * 4 + 2; with stride 2: 2 + 3 + 3.
    assert Conv(5, 3).multiply_adds((2, 6, 4)) == 2 * 5 * 16 * 10
    assert Conv(5, 3, 2).multiply_adds((2, 6, 6)) == 2 * 5 * 8 * 8
    assert Residual(2).multiply_adds((2, 6, 6)) == 2 * (2 * 2 * 16 * 16)
    assert Residual(4, 2).multiply_adds((2, 6, 6)) == 2 * 4 * 8 * 8 + 4 * 4 * 7 * 7 + 2 * 4 * 9
    assert Full(7).multiply_adds((2, 6, 6)) == 7 * 72
    assert Pool("average", 2).multiply_adds((2, 6, 6)) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown part ''"),
        ("16C5-X2", "unknown part 'X2'"),
        ("8C3--8C3", "unknown part ''"),
        ("16C5-M2", r"max pooling .* use A2 \(average\) or E2"),
        ("16C4", "'16C4' has an even kernel"),
        ("16L4", "'16L4' has an even kernel"),
        ("0C3", "'0C3' has a size of 0"),
        ("16C3-A0", "'A0' has a size of 0"),
        ("A2-16C3", "pooling needs a layer before it"),
        ("16C3-A2-E2", "two poolings in a row"),
        ("W0-8C3", "'W0' has a size of 0"),
        ("8C0", "'8C0' has a size of 0"),
        ("8C3-W2", "whitening is of the image; put it first"),
        ("W2-W2-8C3", "whitening is of the image; put it first"),
        ("F10-16C3", "after a fully connected layer come only such layers"),
        ("(8C3-8C3)x2-(9C3", "groups in groups"),
        ("((8C3)x2-8C3)x2", "groups in groups"),
        ("(8C3)x0", "k 1 or more"),
    ],
)
def test_a_bad_layout_is_one_clear_line(text, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_layout(text, PARTS)
    assert "\n" not in str(caught.value)


def test_a_part_that_the_network_does_not_take():
    with pytest.raises(InputError, match=r"cannot have '8R'; it takes nCk, .*, Fn") as caught:
        parse_layout("8C3-8R", (Conv, Full))
    assert "nG" not in str(caught.value)


def test_an_image_that_the_layout_cannot_take():
    with pytest.raises(InputError, match=r"2 x 2 does not divide a map of 7 x 7 \(input 28 x 28\)"):
        layout_shapes(parse_layout("8C3-A2-8C3-A2-8C3-A2", PARTS), (1, 28, 28))
    with pytest.raises(InputError, match="nothing to merge in a map of 1 x 1"):
        layout_shapes(parse_layout("8C3-8G-8G", PARTS), (1, 2, 2))
