import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from builders import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, TensorDataset

from firstspike import Spikes, encode_latency
from firstspike.support import MAX_NUM_STEPS, check_num_steps

INTEGERS = [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64]
NUMBERS = [*INTEGERS, torch.float16, torch.float32, torch.float64]


@st.composite
def drawn_times(draw: st.DrawFn) -> tuple[Tensor, int]:
    steps = draw(st.integers(2, 40))
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    size = math.prod(shape)
    values = draw(st.lists(st.integers(0, steps), min_size=size, max_size=size))
    return torch.tensor(values, dtype=draw(st.sampled_from(NUMBERS))).reshape(shape), steps


# The number of steps


@pytest.mark.parametrize("kind", [int, np.int64, np.uint16, np.int32])
def test_window_lengths_are_integers_of_any_kind(kind: Callable[[int], Any]) -> None:
    for steps in (2, 3, 256, 4096, 65_535):
        for found in (check_num_steps(kind(steps)), Spikes([[0]], kind(steps)).steps):
            assert (found, type(found)) == (steps, int)
    assert encode_latency([[0.5]], kind(8)).steps == 8


@pytest.mark.parametrize(
    ("steps", "error"),
    [(n, ValueError) for n in (-1, 0, 1, MAX_NUM_STEPS + 1)]
    + [(n, TypeError) for n in (8.0, "8", None, True, np.float64(8), [8])],
)
def test_other_window_lengths_are_refused(steps: Any, error: type[Exception]) -> None:
    for call in (lambda: Spikes([[0]], steps), lambda: encode_latency([[0.5]], steps)):
        with refused(error, "steps must be", str(steps)):
            call()


# Times


@settings(deadline=None)
@given(drawn=drawn_times())
def test_integer_times_up_to_silence_are_kept(drawn: tuple[Tensor, int]) -> None:
    times, steps = drawn
    spikes = Spikes(times, steps)
    assert torch.equal(spikes.times.double(), times.double())
    assert spikes.times.dtype == (torch.float64 if times.dtype == torch.float64 else torch.float32)
    assert torch.equal(spikes.silent, times.double() == steps)
    assert torch.equal(spikes.values, 1 - times.to(spikes.times.dtype) / steps)
    assert spikes.shape == times.shape


def test_what_times_may_come_as() -> None:
    for given_times in ([[0, 3, 8]], ((0, 3, 8),), np.array([[0, 3, 8]]), np.array([[0, 3, 8]], ">i2")):
        spikes = Spikes(given_times, 8)
        assert (spikes.times.dtype, spikes.times.tolist()) == (torch.float32, [[0, 3, 8]])
    with_gradient = torch.tensor([[1.0]], requires_grad=True)
    assert Spikes(with_gradient, 4).times is with_gradient


@pytest.mark.parametrize("steps", [255, 256, 257, 300, 512, 4096, MAX_NUM_STEPS])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float64])
def test_a_narrow_type_does_not_narrow_the_range(steps: int, dtype: torch.dtype) -> None:
    largest = steps if dtype.is_floating_point else min(steps, torch.iinfo(dtype).max)
    assert Spikes(torch.tensor([0, 50, largest], dtype=dtype), steps).times.tolist() == [0, 50, largest]


@pytest.mark.parametrize(
    ("times", "error", "words"),
    [
        ([[0.0, math.nan]], ValueError, ("NaN", "0 ... 8")),
        ([[0.0, 2.5]], ValueError, ("integer", "2.5")),
        (np.array([[3.0000000001]]), ValueError, ("integer", "3.0000000001")),
        ([[0.0, -1.0]], ValueError, ("0 ... 8", "silent", "-1")),
        ([[0.0, math.inf]], ValueError, ("0 ... 8", "inf")),
        ([[0.0, -math.inf]], ValueError, ("0 ... 8", "-inf")),
        # Times of 16 steps in a window of 8.
        ([[3, 16]], ValueError, ("0 ... 8", "16", "steps")),
        (torch.tensor([[-1]], dtype=torch.int8), ValueError, ("-1",)),
        (3, ValueError, ("times", "(batch, ...)")),
        ([[True]], TypeError, ("times", "bool")),
        (torch.tensor([1 + 0j]), TypeError, ("times", "complex")),
        ([["1"]], TypeError, ("times",)),
        ([[1], [1, 2]], TypeError, ("times",)),
        (None, TypeError, ("times",)),
        ({"a": 1}, TypeError, ("times",)),
    ],
)
def test_other_times_are_refused(times: Any, error: type[Exception], words: tuple[str, ...]) -> None:
    with refused(error, *words):
        Spikes(times, 8)


def test_the_first_spike_of_a_sample_and_parts_of_a_batch() -> None:
    spikes = Spikes([[[3, 8], [5, 2]], [[8, 8], [8, 8]], [[0, 0], [1, 8]]], 8)
    assert spikes.first().tolist() == [2, 8, 0]
    assert (len(spikes), spikes.flatten().shape) == (3, (3, 4))
    assert [len(part) for part in spikes.split(2)] == [2, 1]
    for part in (*spikes.split(2), spikes[1:], spikes.detach(), spikes.to(torch.float64)):
        assert part.steps == 8
    assert torch.equal(spikes[1:].times, spikes.times[1:])
    assert repr(spikes) == "Spikes((3, 2, 2), steps=8, 50% silent)"
    assert repr(spikes[:0]) == "Spikes((0, 2, 2), steps=8, 0% silent)"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_times_do_not_become_a_type_that_cannot_count_or_learn(dtype: torch.dtype) -> None:
    with refused(TypeError, "float32 or float64", str(dtype)):
        Spikes([[1]], 8).to(dtype)


def test_spikes_are_values_of_torch_and_python() -> None:
    spikes = Spikes([[0, 3], [8, 1]], 8)
    file = io.BytesIO()
    torch.save(spikes, file)
    file.seek(0)
    for same in (
        pytree.tree_map(lambda times: times, spikes),
        copy.copy(spikes),
        copy.deepcopy(spikes),
        pickle.loads(pickle.dumps(spikes)),
        torch.load(file, weights_only=False),
    ):
        assert (type(same), same.steps) == (Spikes, 8)
        assert torch.equal(same.times, spikes.times)
    flat, structure = pytree.tree_flatten({"out": [spikes]})
    assert [type(leaf) for leaf in flat] == [Tensor]
    later = pytree.tree_unflatten([times.clamp(max=8 - 1) for times in flat], structure)
    assert later["out"][0].times.max() == 7
    with pytest.raises(AttributeError):
        spikes.steps = 9  # type: ignore[misc]


def test_parts_become_one_again() -> None:
    spikes = Spikes([[0, 2], [3, 1], [2, 3]], 3)
    assert Spikes.cat(spikes.split(2)).times.equal(spikes.times)
    for parts, error, words in (
        ([], ValueError, ("no spikes",)),
        (spikes, TypeError, ("found one",)),
        ([spikes, Spikes([[0, 2]], 4)], ValueError, ("3 and 4 steps",)),
        ([spikes, Spikes([[0]], 3)], ValueError, ("one shape", "(1,)", "(2,)")),
        ([spikes, spikes.times], TypeError, ("Spikes", "Tensor")),
    ):
        with refused(error, *words):
            Spikes.cat(parts)


@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_data_sets_and_loaders_take_spikes(workers: int) -> None:
    spikes, labels = Spikes([[0, 2], [3, 1], [2, 3]], 3), torch.arange(3)
    loader = DataLoader(TensorDataset(spikes, labels), batch_size=2, num_workers=workers)  # type: ignore[arg-type]
    batches = list(loader)
    assert [type(batch) for batch, _ in batches] == [Spikes, Spikes]
    assert Spikes.cat([batch for batch, _ in batches]).times.equal(spikes.times)
    assert torch.cat([part for _, part in batches]).equal(labels)
    mixed = [(spikes[0], 0), (Spikes([0, 2], 4), 1)]
    with refused(ValueError, "one window", "3 and 4"):
        next(iter(DataLoader(mixed, batch_size=2)))  # type: ignore[arg-type]


# Rasters


def test_a_raster_has_time_first_and_one_spike_where_the_time_says() -> None:
    raster = Spikes([[0, 2], [3, 1]], 3).raster()
    assert raster.dtype == torch.float32
    assert raster.tolist() == [[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 1], [0, 0]]]


@settings(deadline=None)
@given(drawn=drawn_times())
def test_rasters_hold_the_times_and_at_most_one_spike_each(drawn: tuple[Tensor, int]) -> None:
    times, steps = drawn
    raster = Spikes(times, steps).raster()
    assert raster.shape == (steps, *times.shape)
    assert torch.equal(raster.sum(0), (times.float() < steps).float())
    for kind in (torch.float32, torch.bool, torch.uint8, torch.float64):
        back = Spikes.from_raster(raster.to(kind))
        assert (back.steps, back.times.dtype) == (steps, torch.float32)
        assert torch.equal(back.times, times.float())


@pytest.mark.parametrize("steps", [2, 4096, MAX_NUM_STEPS])
def test_every_step_survives_the_round_trip(steps: int) -> None:
    times = torch.tensor([0.0, 1.0, steps // 2, steps - 1, steps])
    assert torch.equal(Spikes.from_raster(Spikes(times, steps).raster()).times, times)


@pytest.mark.parametrize(
    ("raster", "words"),
    [
        (torch.tensor([[1.0], [0.0], [1.0]]), ("2 spikes", "at most one")),
        (torch.tensor([[0.5], [0.0]]), ("0 and 1",)),
        (torch.tensor([[2.0], [0.0]]), ("0 and 1",)),
        (torch.tensor([[math.nan], [0.0]]), ("0 and 1",)),
        (torch.tensor(1.0), ("(steps, batch, ...)", "()")),
        (torch.tensor([0, 1, 0]), ("(steps, batch, ...)", "(3,)")),
        (torch.tensor([[1.0]]), ("2 ... 65535",)),
    ],
)
def test_what_is_no_raster_of_single_spikes_is_refused(raster: Tensor, words: tuple[str, ...]) -> None:
    with refused(ValueError, *words):
        Spikes.from_raster(raster)


def test_a_raster_is_a_list_or_array_too() -> None:
    raster = [[[0, 0]], [[1, 0]], [[0, 0]]]
    for kind in (list, np.array):
        spikes = Spikes.from_raster(kind(raster))
        assert (spikes.times.tolist(), spikes.steps) == ([[1, 3]], 3)
    with refused(TypeError, "raster must be", "numbers"):
        Spikes.from_raster("none")


def test_spikes_of_one_neuron_a_sample() -> None:
    spikes = Spikes([1, 4], 4)
    assert spikes.first().tolist() == [1, 4]
    assert spikes.flatten().times.tolist() == [[1], [4]]
    assert Spikes([], 4).first().tolist() == []
