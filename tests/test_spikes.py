import copy
import io
import math
import pickle
import warnings
from collections.abc import Callable
from fractions import Fraction
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

from firstspike import Spikes, decode_latency, encode_count, encode_latency
from firstspike.spikes import as_images, check_labels
from firstspike.support import MAX_NUM_STEPS, check_num_steps

INTEGERS = [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64]
NUMBERS = [*INTEGERS, torch.float16, torch.float32, torch.float64]
BYTES = torch.arange(256, dtype=torch.uint8)
LENGTHS = [2, 3, 5, 7, 10, 20, 25, 100, 200, 250, 255, 256, 257, 1000, 1023, 4095, 4096, 26_434, 65_535]


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


# The door for images


def test_what_images_may_come_as() -> None:
    reversed_bytes = BYTES.numpy()[::-1]
    read_only = BYTES.numpy().copy()
    read_only.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(as_images(read_only), BYTES)
        assert torch.equal(as_images(reversed_bytes), BYTES.flip(0))
    assert as_images(BYTES) is BYTES
    assert as_images([[True, False]]).tolist() == [[255, 0]]
    for dtype in (torch.float32, torch.float64):
        assert as_images(torch.tensor([0.0, 0.3, 1.0], dtype=dtype)).dtype == dtype
    assert as_images(np.array([0.5], ">f4")).tolist() == [0.5]
    assert as_images(torch.zeros(0, 3)).shape == (0, 3)


def test_rounding_is_no_overshoot() -> None:
    images = torch.tensor([-1e-7, 1.0000001])
    assert as_images(images).tolist() == [0, 1]
    assert encode_latency(images, 16).times.tolist() == [16, 0]
    assert encode_latency(images * 255, 16, max_intensity=255).times.tolist() == [16, 0]


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        ([0.5, math.nan], ValueError, ("NaN",)),
        ([0.5, 1.1], ValueError, ("0 ... 1", "1.1", "max_intensity")),
        ([0.5, -0.1], ValueError, ("-0.1",)),
        ([0.5, math.inf], ValueError, ("inf",)),
        (torch.tensor([0.0, 1.000002]), ValueError, ("1.000002",)),
        # Bytes as floats.
        (BYTES.float(), ValueError, ("0 ... 1", "255.0", "max_intensity")),
        (BYTES.long(), TypeError, ("int64", "uint8", "max_intensity")),
        (torch.tensor([0.5]).half(), TypeError, ("float16",)),
        ([1, 0], TypeError, ("int64",)),
        ("image", TypeError, ("images",)),
        (None, TypeError, ("images",)),
        (torch.tensor([1j]), TypeError, ("complex",)),
    ],
)
def test_other_images_are_refused_by_every_door(
    images: Any, error: type[Exception], words: tuple[str, ...]
) -> None:
    for door in (as_images, encode_count, lambda images: encode_latency(images, 8)):
        with refused(error, *words):
            door(images)


# Labels


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_are_integers_of_any_kind(dtype: torch.dtype) -> None:
    labels = torch.tensor([0, 2, 1], dtype=dtype)
    for same in (labels, labels.numpy(), labels.tolist()):
        found = check_labels(same, 3, 3)
        assert (found.dtype, found.tolist()) == (torch.int64, [0, 2, 1])
    assert check_labels(torch.zeros(0, dtype=dtype), 0, 3).shape == (0,)


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
