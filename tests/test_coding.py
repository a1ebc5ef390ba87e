import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.coding import decode_latency, encode_count, encode_latency

BYTES = torch.arange(256, dtype=torch.uint8)
SOME_LENGTHS = [2, 3, 7, 10, 100, 255, 256, 257, 1000, 1023, 4095, 4096, 65_535]


# The encoder


@pytest.mark.parametrize("inverted", [False, True])
def test_every_byte_at_every_length_is_equation_3_in_whole_numbers(inverted: bool) -> None:
    depth = BYTES.to(torch.int64) if inverted else 255 - BYTES.to(torch.int64)
    for num_steps in (*range(2, 4097), 65_535):
        times = encode_latency(BYTES, num_steps, inverted=inverted)
        assert torch.equal(times.to(torch.int64), depth * num_steps // 255), num_steps


@settings(deadline=None)
@given(
    numerator=st.integers(0, 1000),
    denominator=st.integers(1, 1000),
    num_steps=st.integers(2, 4096),
)
def test_fractions_are_equation_3_in_exact_arithmetic(
    numerator: int, denominator: int, num_steps: int
) -> None:
    intensity = Fraction(min(numerator, denominator), denominator)
    exact = math.floor((1 - intensity) * num_steps)
    image = torch.tensor([float(intensity)], dtype=torch.float64)
    assert encode_latency(image, num_steps).item() == exact


@pytest.mark.parametrize("num_steps", [2, 256, 4096])
def test_a_step_that_is_not_quite_reached_does_not_count(num_steps: int) -> None:
    steps = torch.arange(1, num_steps + 1, dtype=torch.float64)
    assert torch.equal(encode_latency(1 - (steps - 1e-6) / num_steps, num_steps), (steps - 1).float())


def test_the_brightest_fires_at_once_and_black_never() -> None:
    times = encode_latency(torch.tensor([[1.0, 0.5, 0.0]]), 16)
    assert times.dtype == torch.float32
    assert times.tolist() == [[0, 8, 16]]
    assert encode_latency(torch.tensor([[255, 0]]), 16).tolist() == [[0, 16]]


def test_black_may_fire_at_the_last_step() -> None:
    times = encode_latency(torch.tensor([1.0, 0.01, 0.0]), 8, black="last")
    assert times.tolist() == [0, 7, 7]


def test_inverted_lets_the_dark_fire_first() -> None:
    times = encode_latency(torch.tensor([0.0, 0.25, 1.0]), 8, inverted=True)
    assert times.tolist() == [0, 2, 8]
    assert encode_latency(torch.tensor([1.0]), 8, inverted=True, black="last").item() == 7


def test_the_brightest_intensity_may_be_given() -> None:
    assert encode_latency(torch.tensor([16.0, 4.0]), 8, max_intensity=16).tolist() == [0, 6]
    assert encode_latency(torch.tensor([16, 4]), 8, max_intensity=16).tolist() == [0, 6]


def test_dim_pixels_may_count_as_black() -> None:
    image = torch.tensor([0.1, 0.2, 0.25, 1.0])
    assert encode_latency(image, 8, min_intensity=0.25).tolist() == [8, 8, 6, 0]
    # After inversion: 0.9, 0.8, 0.75, 0.
    assert encode_latency(image, 8, min_intensity=0.78, inverted=True).tolist() == [0, 1, 8, 8]
    assert encode_latency(image, 8, min_intensity=0.25, black="last").tolist() == [7, 7, 6, 0]


def test_shapes_are_kept_and_a_batch_may_be_empty() -> None:
    assert encode_latency(torch.rand(2, 3, 4), 8).shape == (2, 3, 4)
    assert encode_latency(torch.zeros(0, 5), 8).shape == (0, 5)
    assert encode_count(torch.zeros(0, 5)).shape == (0, 5)


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1, math.inf, -math.inf])
def test_intensities_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="NaN" if math.isnan(value) else r"must lie in 0 \.\.\. 1"):
        encode_latency(torch.tensor([0.5, value]), 8)
    with pytest.raises(ValueError, match=r"must lie in|NaN"):
        encode_count(torch.tensor([0.5, value]))


def test_bytes_given_as_floats_are_refused_with_advice() -> None:
    with pytest.raises(ValueError, match=r"found 0 \.\.\. 255; pass max_intensity if the scale differs"):
        encode_latency(BYTES.to(torch.float32), 8)


@pytest.mark.parametrize("num_steps", [-1, 0, 1, 65_536])
def test_window_lengths_out_of_range_are_refused(num_steps: int) -> None:
    with pytest.raises(ValueError, match="num_steps must be in 2"):
        encode_latency(torch.zeros(1), num_steps)
    with pytest.raises(ValueError, match="num_steps must be in 2"):
        decode_latency(torch.zeros(1), num_steps)


def test_other_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="black must be 'silent' or 'last', found 'first'"):
        encode_latency(torch.zeros(1), 8, black="first")  # type: ignore[arg-type]
    for limit in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="max_intensity must be above 0"):
            encode_latency(torch.zeros(1), 8, max_intensity=limit)
        with pytest.raises(ValueError, match="max_intensity must be above 0"):
            encode_count(torch.zeros(1), max_intensity=limit)


# The decoder


def test_decoding_is_the_inverse_equation() -> None:
    times = torch.tensor([0.0, 2.0, 8.0])
    assert decode_latency(times, 8).tolist() == [1, 0.75, 0]
    assert decode_latency(times, 8, max_intensity=255).tolist() == [255, 191.25, 0]
    assert decode_latency(times, 8, inverted=True).tolist() == [0, 0.25, 1]


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("limit", [1.0, 255.0, 0.3])
def test_every_time_survives_the_round_trip(limit: float, inverted: bool) -> None:
    plain = limit == 1 and not inverted
    lengths = (*range(2, 513), *range(513, 4097, 7), 4096) if plain else SOME_LENGTHS
    for num_steps in lengths:
        times = torch.arange(num_steps + 1, dtype=torch.float32)
        intensities = decode_latency(times, num_steps, max_intensity=limit, inverted=inverted)
        assert 0 <= intensities.min() <= intensities.max() <= limit
        back = encode_latency(intensities, num_steps, max_intensity=limit, inverted=inverted)
        assert torch.equal(back, times), num_steps


def test_eight_bit_images_survive_256_steps() -> None:
    times = encode_latency(BYTES, 256)
    assert times.unique().numel() == 256
    decoded = decode_latency(times, 256, max_intensity=255)
    assert torch.equal(decoded.floor().to(torch.uint8), BYTES)


@pytest.mark.parametrize("num_steps", SOME_LENGTHS)
def test_intensities_come_back_within_one_level(num_steps: int) -> None:
    image = torch.linspace(0, 1, 999, dtype=torch.float64)
    decoded = decode_latency(encode_latency(image, num_steps), num_steps)
    # The floor of the time rounds the intensity up, by less than one level.
    error = decoded - image
    assert error.min() >= -1e-9
    assert error.max() < 1 / num_steps


def test_times_to_decode_are_checked() -> None:
    for bad in (9.0, -1.0, 0.5, math.nan):
        with pytest.raises(ValueError, match="times"):
            decode_latency(torch.tensor([bad]), 8)


# Counting


def test_counts_are_in_proportion_to_intensity() -> None:
    assert torch.equal(encode_count(BYTES), BYTES.to(torch.int64))
    assert torch.equal(encode_count(BYTES, inverted=True), 255 - BYTES.to(torch.int64))
    counts = encode_count(torch.tensor([0.0, 0.24, 0.26, 1.0]), max_count=2)
    assert counts.dtype == torch.int64
    assert counts.tolist() == [0, 0, 1, 2]
    assert encode_count(torch.tensor([16.0, 4.0]), max_count=4, max_intensity=16).tolist() == [4, 1]
