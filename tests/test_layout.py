"""Architectures written as one line."""

import pytest

from firstspike.layout import Conv, Full, Pool, Residual, layout_shapes, parse_layout
from firstspike.support import InputError


def test_parts_and_shapes():
    parts = parse_layout("16C5s2-A2-8R-24Rs2-E2-F100-F10")
    assert parts == [
        Conv(16, 5, 2), Pool("average", 2), Residual(8), Residual(24, 2), Pool("earliest", 2), Full(100),
        Full(10),
    ]  # fmt: skip
    assert layout_shapes(parts, (3, 32, 48)) == [
        (3, 32, 48), (16, 16, 24), (16, 8, 12), (8, 8, 12), (24, 4, 6), (24, 2, 3), (100,), (10,),
    ]  # fmt: skip
    # A stride rounds up, as padding by half the kernel does.
    assert layout_shapes([Conv(4, 3, 2)], (1, 7, 5))[-1] == (4, 4, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown part ''"),
        ("16C5-X2", "unknown part 'X2'"),
        ("16C5-M2", r"max pooling .* spike once for each input of its patch; use A2 \(average\) or E2"),
        ("16C4", "'16C4' has an even kernel"),
        ("0C3", "'0C3' has a size of 0"),
        ("16C3-A0", "'A0' has a size of 0"),
        ("A2-16C3", "pooling needs a layer before it"),
        ("16C3-A2-E2", "two poolings in a row"),
        ("F10-16C3", "after a fully connected layer come only such layers"),
    ],
)
def test_a_bad_layout_is_one_clear_line(text, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_layout(text)
    assert "\n" not in str(caught.value)


def test_an_image_that_the_layout_cannot_take():
    with pytest.raises(
        InputError, match=r"pools 2 x 2, which does not divide a map of 7 x 7 \(input 28 x 28\)"
    ):
        layout_shapes(parse_layout("8C3-A2-8C3-A2-8C3-A2"), (1, 28, 28))
