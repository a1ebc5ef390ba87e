import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from builders import refused
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike import Spikes, decode_latency, encode_count, encode_latency

INTEGERS = [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64]
BYTES = torch.arange(256, dtype=torch.uint8)
LENGTHS = [2, 3, 5, 7, 10, 20, 25, 100, 200, 250, 255, 256, 257, 1000, 1023, 4095, 4096, 26_434, 65_535]


# The encoder


@pytest.mark.parametrize("inverted", [False, True])
def test_every_byte_at_every_length_is_equation_3_in_integers(inverted: bool) -> None:
    depth = BYTES.to(torch.int64) if inverted else 255 - BYTES.to(torch.int64)
    single = BYTES.float() / 255
    for steps in (*range(2, 4097), *range(4097, 65_535, 331), 65_535):
        expected = depth * steps // 255
        for image in (BYTES, single):
            times = encode_latency(image, steps, inverted=inverted).times
            assert torch.equal(times.long(), expected), steps


def test_a_scalar_is_no_image_of_spikes() -> None:
    for value in (0.5, torch.tensor(0.5), np.array(0.5)):
        with refused(ValueError, "images must be (batch, ...)", "scalar"):
            encode_latency(value, 8)


@pytest.mark.parametrize("steps", LENGTHS)
def test_the_same_image_has_the_same_times_whatever_it_comes_as(steps: int) -> None:
    expected = encode_latency(BYTES, steps).times
    assert expected.dtype == torch.float32
    same: list[Any] = [
        BYTES.numpy(),
        BYTES.float() / 255,
        BYTES.double() / 255,
        (BYTES.numpy() / 255).tolist(),
        BYTES.numpy().astype(np.float32) / np.float32(255),
    ]
    if steps <= 26_434:
        same.append(BYTES.float() * (1 / 255))
    for image in same:
        assert torch.equal(encode_latency(image, steps).times, expected)
    for dtype in (*INTEGERS, torch.float32, torch.float64):
        image = BYTES.to(dtype)
        assert torch.equal(encode_latency(image, steps, max_intensity=255).times, expected)
    black_and_white = torch.tensor([True, False])
    assert encode_latency(black_and_white, steps).times.tolist() == [0, steps]


@settings(deadline=None)
@given(
    numerator=st.integers(0, 1000),
    denominator=st.integers(1, 1000),
    steps=st.integers(2, 4096),
)
def test_fractions_are_equation_3_in_exact_arithmetic(numerator: int, denominator: int, steps: int) -> None:
    intensity = Fraction(min(numerator, denominator), denominator)
    exact = math.floor((1 - intensity) * steps)
    image = torch.tensor([float(intensity)], dtype=torch.float64)
    assert encode_latency(image, steps).times.item() == exact


@pytest.mark.parametrize("steps", [2, 256, 4096])
def test_a_step_that_is_not_quite_reached_does_not_count(steps: int) -> None:
    at = torch.arange(1, steps + 1, dtype=torch.float64)
    assert torch.equal(encode_latency(1 - (at - 1e-6) / steps, steps).times, (at - 1).float())


@pytest.mark.parametrize(
    ("image", "options", "times"),
    [
        ([1.0, 0.5, 0.0], {}, [0, 4, 8]),
        ([1.0, 0.01, 0.0], {"black": "last"}, [0, 7, 7]),
        ([0.0, 0.25, 1.0], {"inverted": True}, [0, 2, 8]),
        ([1.0], {"inverted": True, "black": "last"}, [7]),
        ([16.0, 4.0], {"max_intensity": 16}, [0, 6]),
        ([16, 4], {"max_intensity": 16}, [0, 6]),
        ([0.1, 0.2, 0.25, 1.0], {"min_intensity": 0.25}, [8, 8, 6, 0]),
        # After inversion: 0.9, 0.8, 0.75, 0.
        ([0.1, 0.2, 0.25, 1.0], {"min_intensity": 0.78, "inverted": True}, [0, 1, 8, 8]),
        ([0.1, 0.2, 0.25, 1.0], {"min_intensity": 0.25, "black": "last"}, [7, 7, 6, 0]),
    ],
)
def test_options_by_hand(image: list[float], options: dict[str, Any], times: list[float]) -> None:
    assert encode_latency(image, 8, **options).times.tolist() == times


def test_dim_bytes_are_dim_floats() -> None:
    for level in range(1, 256):
        kept = [
            (~encode_latency(image, 8, min_intensity=level / 255).silent).tolist()
            for image in (BYTES, BYTES.float() / 255, BYTES.double() / 255)
        ]
        assert kept[0] == kept[1] == kept[2]
        assert kept[0] == (level <= BYTES).tolist()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("max_intensity", value) for value in (0.0, -1.0, math.nan, math.inf, "1")],
        *[("min_intensity", value) for value in (-0.1, 1.1, math.nan, "0")],
        ("black", "first"),
    ],
)
def test_other_options_are_refused_by_name(option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}
    with refused(ValueError, option, str(value)):
        encode_latency([[0.5]], 8, **options)
    if option == "max_intensity":
        with refused(ValueError, option, str(value)):
            encode_count([[0.5]], **options)
        with refused(ValueError, option, str(value)):
            decode_latency(Spikes([[1]], 8), **options)


# The decoder


def test_decoding_is_the_inverse_equation() -> None:
    spikes = Spikes([[0, 2, 8]], 8)
    assert decode_latency(spikes).tolist() == [[1, 0.75, 0]]
    assert decode_latency(spikes, max_intensity=255).tolist() == [[255, 191.25, 0]]
    assert decode_latency(spikes, inverted=True).tolist() == [[0, 0.25, 1]]
    with refused(TypeError, "Spikes"):
        decode_latency(spikes.times)  # type: ignore[arg-type]


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("limit", [1.0, 255.0, 0.3])
def test_every_time_survives_decoding(limit: float, inverted: bool) -> None:
    lengths = (*range(2, 513), *range(513, 4097, 29)) if limit == 1 and not inverted else LENGTHS
    for steps in lengths:
        spikes = Spikes(torch.arange(steps + 1, dtype=torch.float32), steps)
        intensities = decode_latency(spikes, max_intensity=limit, inverted=inverted)
        assert 0 <= intensities.min() <= intensities.max() <= limit
        back = encode_latency(intensities, steps, max_intensity=limit, inverted=inverted)
        assert torch.equal(back.times, spikes.times), steps


def test_eight_bit_images_survive_256_steps() -> None:
    spikes = encode_latency(BYTES, 256)
    assert spikes.times.unique().numel() == 256
    assert torch.equal(decode_latency(spikes, max_intensity=255).floor().to(torch.uint8), BYTES)


@pytest.mark.parametrize("steps", LENGTHS)
def test_intensities_come_back_within_one_level(steps: int) -> None:
    image = torch.linspace(0, 1, 999, dtype=torch.float64)
    error = decode_latency(encode_latency(image, steps)) - image
    assert error.min() >= -1e-9
    assert error.max() < 1 / steps


# Counting


def test_counts_are_in_proportion_to_intensity() -> None:
    assert torch.equal(encode_count(BYTES), BYTES.long())
    assert torch.equal(encode_count(BYTES, inverted=True), 255 - BYTES.long())
    counts = encode_count([0.0, 0.24, 0.26, 1.0], max_count=2)
    assert (counts.dtype, counts.tolist()) == (torch.int64, [0, 0, 1, 2])
    assert encode_count([16.0, 4.0], max_count=4, max_intensity=16).tolist() == [4, 1]
    assert encode_count(torch.zeros(0, 5)).shape == (0, 5)
    for count in (0, -3, 2.5):
        with refused(ValueError, "max_count", str(count)):
            encode_count([1.0], max_count=count)  # type: ignore[arg-type]
