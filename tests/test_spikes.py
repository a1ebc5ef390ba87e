import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstspike.spikes import (
    MAX_NUM_STEPS,
    check_num_steps,
    check_times,
    raster_to_times,
    times_to_raster,
)

WHOLE_TYPES = [torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32, torch.float64]


@st.composite
def times_and_steps(draw: st.DrawFn) -> tuple[Tensor, int]:
    num_steps = draw(st.integers(2, 40))
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    size = math.prod(shape)
    values = draw(st.lists(st.integers(0, num_steps), min_size=size, max_size=size))
    return torch.tensor(values, dtype=draw(st.sampled_from(WHOLE_TYPES))).reshape(shape), num_steps


# The number of steps


@pytest.mark.parametrize("num_steps", [2, 3, 256, 4096, MAX_NUM_STEPS])
def test_window_lengths_from_two_on_pass(num_steps: int) -> None:
    assert check_num_steps(num_steps) == num_steps


@pytest.mark.parametrize("num_steps", [-1, 0, 1, MAX_NUM_STEPS + 1])
def test_window_lengths_out_of_range_are_refused(num_steps: int) -> None:
    with pytest.raises(ValueError, match=rf"num_steps must be in 2 \.\.\. 65535, found {num_steps}$"):
        check_num_steps(num_steps)


@pytest.mark.parametrize("num_steps", [8.0, "8", None, True, torch.tensor(8)])
def test_window_lengths_that_are_no_ints_are_refused(num_steps: object) -> None:
    with pytest.raises(TypeError, match="num_steps must be an int"):
        check_num_steps(num_steps)  # type: ignore[arg-type]


def test_a_caller_may_allow_shorter_windows() -> None:
    assert check_num_steps(1, minimum=1) == 1
    with pytest.raises(ValueError, match=r"1 \.\.\. 65535, found 0"):
        check_num_steps(0, minimum=1)


# Validation


@settings(deadline=None)
@given(drawn=times_and_steps())
def test_whole_times_up_to_silence_pass_unchanged(drawn: tuple[Tensor, int]) -> None:
    times, num_steps = drawn
    assert check_times(times, num_steps) is times


@pytest.mark.parametrize("num_steps", [255, 256, 257, 300, 512, 4096, MAX_NUM_STEPS])
@pytest.mark.parametrize("dtype", WHOLE_TYPES)
def test_a_narrow_type_does_not_narrow_the_range(num_steps: int, dtype: torch.dtype) -> None:
    largest = num_steps if dtype.is_floating_point else min(num_steps, torch.iinfo(dtype).max)
    times = torch.tensor([0, 50, largest], dtype=dtype)
    assert check_times(times, num_steps) is times


def test_gradients_may_hang_on_the_times() -> None:
    times = torch.tensor([1.0], requires_grad=True)
    assert check_times(times, 4) is times


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "times holds NaN; spike times are whole steps 0 ... 8"),
        (2.5, "times must be whole steps, found 2.5"),
        (-1.0, r"times must lie in 0 ... 8 \(num_steps means silent\), found -1.0"),
        (9.0, "times must lie in 0 ... 8 .*found 9.0"),
        (math.inf, "times must lie in 0 ... 8 .*found inf"),
        (-math.inf, "times must lie in 0 ... 8 .*found -inf"),
    ],
)
def test_other_times_are_refused_by_name(value: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_times(torch.tensor([[0.0, 8.0], [value, 3.0]]), 8)
    with pytest.raises(ValueError, match=r"^inputs "):
        check_times(torch.tensor([value]), 8, name="inputs")


@pytest.mark.parametrize("value", [-1, 9])
def test_whole_number_types_are_held_to_the_range(value: int) -> None:
    with pytest.raises(ValueError, match=f"found {value}"):
        check_times(torch.tensor([0, value]), 8)


@pytest.mark.parametrize(
    "times",
    [[1.0], 3, torch.tensor([True]), torch.tensor([1 + 0j])],
    ids=["list", "int", "bool", "complex"],
)
def test_what_is_no_tensor_of_numbers_is_refused(times: object) -> None:
    with pytest.raises(TypeError, match="times must be a tensor of spike times in steps"):
        check_times(times, 8)  # type: ignore[arg-type]


# Rasters


def test_a_raster_has_time_first_and_one_spike_where_the_time_says() -> None:
    raster = times_to_raster(torch.tensor([[0.0, 2.0], [3.0, 1.0]]), 3)
    assert raster.dtype == torch.float32
    assert raster.tolist() == [
        [[1, 0], [0, 0]],
        [[0, 0], [0, 1]],
        [[0, 1], [0, 0]],
    ]


@settings(deadline=None)
@given(drawn=times_and_steps())
def test_rasters_hold_the_times_and_at_most_one_spike_each(drawn: tuple[Tensor, int]) -> None:
    times, num_steps = drawn
    raster = times_to_raster(times, num_steps)
    assert raster.shape == (num_steps, *times.shape)
    assert torch.equal(raster.sum(0), (times < num_steps).to(torch.float32))
    back = raster_to_times(raster)
    assert back.dtype == torch.float32
    assert torch.equal(back, times.to(torch.float32))


@pytest.mark.parametrize("num_steps", [2, 4096, MAX_NUM_STEPS])
def test_every_step_survives_the_round_trip(num_steps: int) -> None:
    times = torch.tensor([0.0, 1.0, num_steps // 2, num_steps - 1, num_steps])
    assert torch.equal(raster_to_times(times_to_raster(times, num_steps)), times)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float64])
def test_rasters_of_other_types_are_read(dtype: torch.dtype) -> None:
    raster = torch.tensor([[0, 0], [1, 0], [0, 0]]).to(dtype)
    assert raster_to_times(raster).tolist() == [1, 3]


def test_times_for_a_raster_are_checked() -> None:
    with pytest.raises(ValueError, match=r"0 \.\.\. 3"):
        times_to_raster(torch.tensor([4.0]), 3)


@pytest.mark.parametrize(
    ("raster", "message"),
    [
        (torch.tensor([[1.0], [0.0], [1.0]]), "a neuron with 2 spikes; at most one is allowed"),
        (torch.tensor([[0.5], [0.0]]), "only 0 and 1"),
        (torch.tensor([[2.0], [0.0]]), "only 0 and 1"),
        (torch.tensor([[math.nan], [0.0]]), "only 0 and 1"),
        (torch.tensor(1.0), "a time axis first"),
    ],
)
def test_what_is_no_raster_of_single_spikes_is_refused(raster: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        raster_to_times(raster)
