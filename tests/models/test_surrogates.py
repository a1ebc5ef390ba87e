"""Surrogate derivatives: area, height and width."""

import math

import pytest
import torch

from firstspike.models.surrogates import KINDS, check_surrogate, surrogate


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [0.5, 2.0])
def test_every_kind_is_a_bump_of_area_1_and_height_1_over_w_at_the_threshold(kind, width):
    x = torch.linspace(-4000, 4000, 4_000_001, dtype=torch.float64)
    values = surrogate(x, kind, width)
    assert float(torch.trapezoid(values, x)) == pytest.approx(1, abs=5e-3)
    assert float(values[len(x) // 2]) == float(values.max()) == pytest.approx(1 / width)
    assert torch.allclose(values, values.flip(0))


def test_values_by_hand():
    x = torch.tensor([0.0, 0.4, 0.8, 1.6], dtype=torch.float64)
    u = x / 0.8
    for kind, expected in {
        "rectangular": [1, 0, 0, 0],
        "triangular": [1, 0.5, 0, 0],
        "arctan": [1 / (1 + (math.pi * float(v)) ** 2) for v in u],
        "sigmoid": [1 / math.cosh(2 * float(v)) ** 2 for v in u],
        "fast_sigmoid": [1, 1 / 4, 1 / 9, 1 / 25],
    }.items():
        assert surrogate(x, kind, 0.8).tolist() == pytest.approx([v / 0.8 for v in expected])


def test_unknown_kinds_and_widths_are_refused_by_name():
    with pytest.raises(ValueError, match=r"Mine\.surrogate must be one of rectangular"):
        check_surrogate("Mine", "box", 1.0)
    for width in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"Mine\.width"):
            check_surrogate("Mine", "arctan", width)
