from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstspike.convolution import causal_conv2d
from firstspike.functional import causal_linear, normalise_gradient
from firstspike.kernels.reference import simulate_causal_conv2d
from firstspike.neurons import Causal
from firstspike.rules import TemporalRule

Pair = tuple[int, int]


@pytest.fixture(autouse=True)
def _thread_count_put_back() -> Iterator[None]:
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def draw(
    seed: int, shape: tuple[int, ...], weight_shape: tuple[int, ...], num_steps: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return times with ties and silence, and dyadic weights, whose sums are exact in any order."""
    generator = torch.Generator().manual_seed(seed)
    times = torch.randint(0, 2 * num_steps, shape, generator=generator).clamp(max=num_steps)
    weight = torch.randint(-16, 20, weight_shape, generator=generator).to(dtype) / 16
    return times.to(torch.float32), weight


def by_patches(
    times: Tensor, weight: Tensor, num_steps: int, neuron: Causal, stride: Pair, padding: Pair, groups: int
) -> Tensor:
    """Return what a fully connected layer over every patch gives: torch cuts the patches."""
    y, x = padding
    padded = torch.nn.functional.pad(times, (x, x, y, y), value=float(num_steps))
    kernel_y, kernel_x = weight.shape[2:]
    patches = padded.unfold(2, kernel_y, stride[0]).unfold(3, kernel_x, stride[1])
    parts = []
    for own, rows in zip(patches.chunk(groups, 1), weight.chunk(groups), strict=True):
        batch, _, height, width = own.shape[:4]
        flat = own.permute(0, 2, 3, 1, 4, 5).reshape(batch * height * width, -1)
        out = causal_linear(flat, rows.flatten(1), num_steps, neuron)
        parts.append(out.reshape(batch, height, width, -1))
    return torch.cat(parts, 3).permute(0, 3, 1, 2)


SHAPES: list[tuple[tuple[int, ...], tuple[int, ...], Pair, Pair, int]] = [
    ((3, 4, 7, 5), (6, 2, 3, 2), (2, 1), (1, 0), 2),
    ((2, 3, 5, 5), (18, 3, 3, 3), (1, 1), (1, 1), 1),
    ((2, 3, 4, 4), (1, 3, 1, 1), (1, 1), (0, 0), 1),
    ((2, 2, 6, 6), (40, 2, 2, 3), (1, 1), (1, 2), 1),
    ((2, 6, 5, 5), (6, 1, 2, 2), (2, 2), (0, 0), 6),
    ((1, 2, 3, 3), (217, 2, 3, 3), (1, 1), (1, 1), 1),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("num_steps", [2, 20, 700, 4096])
@pytest.mark.parametrize(("shape", "weight_shape", "stride", "padding", "groups"), SHAPES)
def test_times_are_the_simulators_to_the_last_bit(
    shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    groups: int,
    num_steps: int,
    threads: int,
) -> None:
    if num_steps > 20:
        # The simulator walks through the steps; few inputs, spread over all of them, keep it quick.
        shape = (1, *shape[1:])
    times, weight = draw(0, shape, weight_shape, num_steps, torch.float32)
    weight = weight + torch.linspace(0, 1e-3, weight.numel()).reshape(weight.shape)
    torch.set_num_threads(threads)
    neuron = Causal(threshold=0.5)
    found = causal_conv2d(times, weight, num_steps, neuron, stride=stride, padding=padding, groups=groups)
    if num_steps <= 20:
        expected = simulate_causal_conv2d(times, weight, num_steps, neuron, stride, padding, groups)
    else:
        expected = by_patches(times, weight, num_steps, neuron, stride, padding, groups)
    assert torch.equal(found, expected)
    if num_steps <= 20:
        assert (found < num_steps).any()


RULES = [TemporalRule(), TemporalRule(norm="l1"), TemporalRule(norm="l2")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("shape", "weight_shape", "stride", "padding", "groups"), SHAPES)
def test_gradients_are_those_of_a_linear_layer_over_the_patches(
    shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    groups: int,
    rule: TemporalRule,
    dtype: torch.dtype,
) -> None:
    times, weight = draw(1, shape, weight_shape, 20, dtype)
    times.requires_grad_()
    weight.requires_grad_()
    out = causal_conv2d(
        times, weight, 20, Causal(step_rule=rule), stride=stride, padding=padding, groups=groups
    )
    delta = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    found = torch.autograd.grad(out, (times, weight), delta)

    # The norm over all of a sample, the mask in the patches.
    other = by_patches(times, weight, 20, Causal(), stride, padding, groups)
    assert torch.equal(out, other)
    expected = torch.autograd.grad(other, (times, weight), normalise_gradient(delta, rule.norm))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 10_000), pattern=st.sampled_from(["silent", "step 0", "last step"]))
@settings(max_examples=15, deadline=None)
def test_patterns_at_the_ends_of_the_window(seed: int, pattern: str) -> None:
    times, weight = draw(seed, (2, 3, 4, 5), (5, 3, 2, 3), 9, torch.float32)
    times = torch.full_like(times, {"silent": 9.0, "step 0": 0.0, "last step": 8.0}[pattern])
    neuron = Causal(threshold=0.5)
    found = causal_conv2d(times, weight, 9, neuron, padding=1)
    assert torch.equal(found, simulate_causal_conv2d(times, weight, 9, neuron, (1, 1), (1, 1), 1))
    if pattern == "silent":
        assert (found == 9).all()


def test_a_kernel_that_covers_the_map_is_a_linear_layer() -> None:
    times, weight = draw(3, (4, 3, 5, 4), (7, 3, 5, 4), 16, torch.float32)
    found = causal_conv2d(times, weight, 16, Causal())
    expected = causal_linear(times.flatten(1), weight.flatten(1), 16, Causal())
    assert torch.equal(found.flatten(1), expected)


def test_memory_layout_and_types_of_the_times_do_not_matter() -> None:
    times, weight = draw(4, (2, 4, 6, 6), (3, 4, 3, 3), 16, torch.float32)
    expected = causal_conv2d(times, weight, 16, Causal())
    wide = torch.full((2, 4, 6, 12), 16.0)
    wide[..., ::2] = times
    for same in (
        times.contiguous(memory_format=torch.channels_last),
        wide[..., ::2],
        times.to(torch.int16),
        times.to(torch.float64),
    ):
        assert torch.equal(causal_conv2d(same, weight, 16, Causal()), expected)


def test_an_empty_batch_has_empty_times_and_zero_gradients() -> None:
    weight = torch.ones(3, 2, 2, 2, requires_grad=True)
    times = torch.zeros(0, 2, 4, 4, requires_grad=True)
    out = causal_conv2d(times, weight, 8, Causal())
    assert out.shape == (0, 3, 3, 3)
    grad_times, grad_weight = torch.autograd.grad(out.sum(), (times, weight))
    assert grad_times.shape == times.shape
    assert not grad_weight.any()


def test_an_input_after_the_output_spike_changes_nothing() -> None:
    times, weight = draw(5, (2, 3, 5, 5), (4, 3, 3, 3), 30, torch.float32)
    before = causal_conv2d(times, weight, 30, Causal())
    last = float(before[before < 30].max())
    changed = torch.where(times > last, torch.where(times == 30, 29.0, 30.0), times)
    after = causal_conv2d(changed, weight, 30, Causal())
    fired = before < 30
    assert torch.equal(after[fired], before[fired])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": torch.zeros(2, 3, 2, 2)}, "smaller than the kernel"),
        ({"times": torch.zeros(2, 4, 6, 6)}, r"found \(2, 4, 6, 6\)"),
        ({"times": torch.zeros(2, 3, 36)}, r"found \(2, 3, 36\)"),
        ({"times": torch.full((2, 3, 6, 6), 9.0)}, "must lie in 0 ... 8"),
        ({"times": torch.full((2, 3, 6, 6), 2.5)}, "must be whole steps, found 2.5"),
        ({"times": torch.full((2, 3, 6, 6), np.nan)}, "holds NaN"),
        ({"weight": torch.full((4, 3, 3, 3), np.nan)}, "weight holds NaN or infinity"),
        ({"weight": torch.ones(4, 3, 3, 3, dtype=torch.float16)}, "float32 or float64"),
        ({"groups": 2}, "with 2 groups"),
        ({"stride": 0}, "stride >= 1"),
        ({"padding": -1}, "padding >= 0"),
        ({"neuron": Causal(synapse="ramp")}, "step synapse"),
        ({"num_steps": 70_000}, "65,?535"),
        ({"weight": torch.ones(4, 3, 3, 3, device="meta")}, "times on cpu, weight on meta"),
    ],
)
def test_bad_input_is_one_clear_error(change: dict[str, object], message: str) -> None:
    call: dict[str, object] = {
        "times": torch.zeros(2, 3, 6, 6),
        "weight": torch.ones(4, 3, 3, 3),
        "num_steps": 8,
        "neuron": Causal(),
    }
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        causal_conv2d(**(call | change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
