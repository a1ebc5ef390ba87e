from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstspike.functional import window_membrane
from firstspike.neurons import Window
from firstspike.window_convolution import window_conv2d_membrane, window_conv_transpose2d_membrane

NEURONS = [Window(), Window(input_low=-1.0, input_high=1.0), Window(input_low=0.25, input_high=2.0)]


def value(time: float, num_steps: int, neuron: Window) -> float:
    return neuron.input_low + (neuron.input_high - neuron.input_low) * (1 - time / num_steps)


def heard(
    times: Tensor, sample: int, channel: int, y: int, x: int, num_steps: int, neuron: Window
) -> float:
    """Return the value at a place, that of silence beyond the map."""
    inside = 0 <= y < times.shape[2] and 0 <= x < times.shape[3]
    return value(float(times[sample, channel, y, x]) if inside else num_steps, num_steps, neuron)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups = draw(st.integers(1, 2))
    own_in, own_out = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 1)))
    num_steps = draw(st.sampled_from([4, 16]))
    sizes = tuple(k + draw(st.integers(0, 3)) for k in kernel)
    times = torch.from_numpy(rng.integers(0, num_steps + 1, (2, own_in * groups, *sizes))).float()
    return {
        "times": times,
        "forward": torch.from_numpy(rng.normal(size=(own_out * groups, own_in, *kernel))),
        "transposed": torch.from_numpy(rng.normal(size=(own_in * groups, own_out, *kernel))),
        "bias": torch.from_numpy(rng.normal(size=own_out * groups)) if draw(st.booleans()) else None,
        "num_steps": num_steps,
        "neuron": draw(st.sampled_from(NEURONS)),
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 2))),
        "padding": padding,
        "groups": groups,
    }


@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_a_convolution_is_a_sum_over_the_patch_with_silence_around_the_map(case: dict[str, Any]) -> None:
    times, weight, bias = case["times"], case["forward"], case["bias"]
    steps, neuron, stride, padding = (case[k] for k in ("num_steps", "neuron", "stride", "padding"))
    found = window_conv2d_membrane(
        times, weight, bias, steps, neuron, stride=stride, padding=padding, groups=case["groups"]
    )
    own_out, own_in = len(weight) // case["groups"], weight.shape[1]
    spans = zip(times.shape[2:], weight.shape[2:], stride, padding, strict=True)
    assert found.shape[2:] == tuple((n + 2 * p - k) // s + 1 for n, k, s, p in spans)
    for b, o, y, x in product(*(range(n) for n in found.shape)):
        u = 0.0 if bias is None else float(bias[o])
        for c, ky, kx in product(*(range(n) for n in weight.shape[1:])):
            place = y * stride[0] + ky - padding[0], x * stride[1] + kx - padding[1]
            channel = o // own_out * own_in + c
            u += float(weight[o, c, ky, kx]) * heard(times, b, channel, *place, steps, neuron)
        assert float(found[b, o, y, x]) == pytest.approx(u, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_a_transposed_convolution_hears_silence_from_beyond_the_map(case: dict[str, Any]) -> None:
    times, weight, bias = case["times"], case["transposed"], case["bias"]
    steps, neuron, stride = (case[k] for k in ("num_steps", "neuron", "stride"))
    # No more than leaves one output.
    padding = tuple(
        min(p, ((n - 1) * s + k - 1) // 2)
        for n, k, s, p in zip(times.shape[2:], weight.shape[2:], stride, case["padding"], strict=True)
    )
    found = window_conv_transpose2d_membrane(
        times, weight, bias, steps, neuron, stride=stride, padding=padding, groups=case["groups"]
    )
    own_in, own_out = len(weight) // case["groups"], weight.shape[1]
    spans = zip(times.shape[2:], weight.shape[2:], stride, padding, strict=True)
    assert found.shape[2:] == tuple((n - 1) * s + k - 2 * p for n, k, s, p in spans)
    for b, o, y, x in product(*(range(n) for n in found.shape)):
        u = 0.0 if bias is None else float(bias[o])
        for c, ky, kx in product(range(own_in), *(range(n) for n in weight.shape[2:])):
            row, left = divmod(y + padding[0] - ky, stride[0])
            column, over = divmod(x + padding[1] - kx, stride[1])
            if left or over:
                continue
            channel = o // own_out * own_in + c
            w = float(weight[channel, o % own_out, ky, kx])
            u += w * heard(times, b, channel, row, column, steps, neuron)
        assert float(found[b, o, y, x]) == pytest.approx(u, abs=1e-9)


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_kernel_that_covers_the_map_is_a_fully_connected_layer(neuron: Window) -> None:
    source = torch.Generator().manual_seed(0)
    times = torch.randint(0, 9, (5, 2, 3, 4), generator=source).float().requires_grad_()
    weight, bias = torch.randn(6, 2, 3, 4, generator=source), torch.randn(6, generator=source)
    flat = window_membrane(times.flatten(1), weight.flatten(1), bias, 8, neuron)
    found = window_conv2d_membrane(times, weight, bias, 8, neuron)
    torch.testing.assert_close(found.flatten(1), flat)
    (expected,) = torch.autograd.grad(flat.square().sum(), times)
    (grad,) = torch.autograd.grad(found.square().sum(), times)
    torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-4)


OPERATIONS = [
    (window_conv2d_membrane, (3, 2, 2, 2)),
    (window_conv_transpose2d_membrane, (2, 3, 2, 2)),
]


@pytest.mark.parametrize(("operation", "shape"), OPERATIONS)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"times": torch.full((1, 2, 4, 4), float("nan"))}, ValueError, "times holds NaN"),
        ({"times": torch.full((1, 2, 4, 4), 0.5)}, ValueError, "whole steps, found 0.5"),
        ({"times": torch.full((1, 2, 4, 4), 9.0)}, ValueError, "found 9.0"),
        ({"times": torch.zeros(1, 3, 4, 4)}, ValueError, r"found \(1, 3, 4, 4\) and"),
        ({"times": torch.zeros(2, 4)}, ValueError, r"expected times \(batch, in_channels, in_y, in_x\)"),
        ({"bias": torch.zeros(4)}, ValueError, r"expected bias \(out_channels,\) = \(3,\), found \(4,\)"),
        ({"bias": torch.full((3,), float("inf"))}, ValueError, "bias holds NaN or infinity"),
        ({"groups": 4}, ValueError, "found|groups"),
    ],
)
def test_bad_arguments_are_one_clear_error(
    operation: Callable[..., Tensor],
    shape: tuple[int, ...],
    change: dict[str, Any],
    error: type,
    message: str,
) -> None:
    given: dict[str, Any] = {"times": torch.zeros(1, 2, 4, 4), "weight": torch.zeros(shape), "bias": None}
    given |= {"num_steps": 8, "neuron": Window()} | change
    with pytest.raises(error, match=message) as raised:
        operation(**given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("operation", "shape"), OPERATIONS)
def test_bad_weights_are_refused(operation: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
    times, weight = torch.zeros(1, 2, 4, 4), torch.zeros(shape)
    with pytest.raises(TypeError, match=r"float32 or float64, found torch\.float16"):
        operation(times, weight.half(), None, 8, Window())
    with pytest.raises(ValueError, match="expected times"):
        operation(times, weight.flatten(1), None, 8, Window())
    weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="weight holds NaN or infinity"):
        operation(times, weight, None, 8, Window())


def test_maps_that_leave_no_output_are_refused() -> None:
    times = torch.zeros(1, 2, 2, 2)
    with pytest.raises(ValueError, match=r"kernel \(5, 5\) is larger than the map \(2, 2\)"):
        window_conv2d_membrane(times, torch.zeros(1, 2, 5, 5), None, 8, Window(), padding=1)
    with pytest.raises(ValueError, match=r"padding \(2, 2\) cuts off all"):
        window_conv_transpose2d_membrane(times, torch.zeros(2, 1, 2, 2), None, 8, Window(), padding=2)
