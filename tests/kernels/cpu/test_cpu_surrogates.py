"""The table of surrogates against its formulas, and their area."""

import math

import numpy as np
import pytest

from firstspike.kernels.cpu.compiling import compiled
from firstspike.kernels.cpu.surrogates import SURROGATES, times_surrogate


@compiled
def call(kind, given, distance, scale, out):  # type: ignore[no-untyped-def]
    times_surrogate(kind, given, distance, scale, out)


def formula(name: str, u: float) -> float:
    if name == "rectangular":
        return 1.0 if abs(u) < 0.5 else 0.0
    if name == "triangular":
        return max(0.0, 1 - abs(u))
    if name == "arctan":
        return 1 / (1 + (math.pi * u) ** 2)
    if name == "sigmoid":
        return 1 / math.cosh(2 * u) ** 2
    return 1 / (1 + 2 * abs(u)) ** 2


@pytest.mark.parametrize("width", [0.25, 1.0, 1.7])
@pytest.mark.parametrize("name", SURROGATES)
def test_each_is_its_formula_times_what_is_given(name: str, width: float) -> None:
    rng = np.random.default_rng(0)
    distance = np.concatenate([[0.0], rng.normal(0, 2, 60)]).astype(np.float32)
    given = rng.normal(0, 1, 61).astype(np.float32)
    out = np.empty_like(given)
    call(SURROGATES.index(name), given, distance, np.float32(1 / width), out)
    expected = [g * formula(name, float(x) / width) for g, x in zip(given, distance, strict=True)]
    np.testing.assert_allclose(out, expected, rtol=2e-5, atol=1e-6)
    call(SURROGATES.index(name), given, distance, np.float32(1 / width), distance)
    np.testing.assert_array_equal(distance, out)


@pytest.mark.parametrize("name", SURROGATES)
def test_the_area_is_the_width(name: str) -> None:
    # Far out arctan and the fast sigmoid fall as 1 / x^2.
    distance = np.linspace(-3000, 3000, 6_000_001, dtype=np.float64).astype(np.float32)
    out = np.empty_like(distance)
    call(SURROGATES.index(name), np.ones_like(distance), distance, np.float32(1 / 1.5), out)
    assert out.sum(dtype=np.float64) * 0.001 == pytest.approx(1.5, rel=2e-3)
