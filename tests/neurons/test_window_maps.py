"""Window neurons on maps, against sums over the patches with silence around the map."""

import dataclasses
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from builders import conv, dense, seeded, transposed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstspike import Spikes, Window

# Small sums, for which two threads mostly wait.
pytestmark = pytest.mark.usefixtures("one_thread")

NEURONS = [Window(), Window(input_low=-1.0, input_high=1.0), Window(input_low=0.25, input_high=2.0)]


def value(time: float, steps: int, neuron: Window) -> float:
    return neuron.input_low + (neuron.input_high - neuron.input_low) * (1 - time / steps)


def received(times: Tensor, sample: int, channel: int, y: int, x: int, steps: int, neuron: Window) -> float:
    """Return the value at a place, that of silence beyond the map."""
    inside = 0 <= y < times.shape[2] and 0 <= x < times.shape[3]
    return value(float(times[sample, channel, y, x]) if inside else steps, steps, neuron)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups = draw(st.integers(1, 2))
    own_in, own_out = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 1)))
    steps = draw(st.sampled_from([4, 16]))
    sizes = tuple(k + draw(st.integers(0, 3)) for k in kernel)
    times = torch.from_numpy(rng.integers(0, steps + 1, (2, own_in * groups, *sizes))).float()
    return {
        "times": times,
        "forward": torch.from_numpy(rng.normal(size=(own_out * groups, own_in, *kernel))),
        "transposed": torch.from_numpy(rng.normal(size=(own_in * groups, own_out, *kernel))),
        "bias": torch.from_numpy(rng.normal(size=own_out * groups)) if draw(st.booleans()) else None,
        "steps": steps,
        "neuron": draw(st.sampled_from(NEURONS)),
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 2))),
        "padding": padding,
        "groups": groups,
    }


@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_a_convolution_is_a_sum_over_the_patch_with_silence_around_the_map(case: dict[str, Any]) -> None:
    times, weight, bias = case["times"], case["forward"], case["bias"]
    steps, neuron, stride, padding = (case[k] for k in ("steps", "neuron", "stride", "padding"))
    layer = conv(weight, neuron, bias, case["groups"], stride=stride, padding=padding)
    found = layer.membrane(Spikes(times, steps)).detach()
    assert tuple(found.shape[1:]) == layer.out_shape(tuple(times.shape[1:]))
    own_out, own_in = len(weight) // case["groups"], weight.shape[1]
    spans = zip(times.shape[2:], weight.shape[2:], stride, padding, strict=True)
    assert found.shape[2:] == tuple((n + 2 * p - k) // s + 1 for n, k, s, p in spans)
    for b, o, y, x in product(*(range(n) for n in found.shape)):
        u = 0.0 if bias is None else float(bias[o])
        for c, ky, kx in product(*(range(n) for n in weight.shape[1:])):
            place = y * stride[0] + ky - padding[0], x * stride[1] + kx - padding[1]
            channel = o // own_out * own_in + c
            u += float(weight[o, c, ky, kx]) * received(times, b, channel, *place, steps, neuron)
        assert float(found[b, o, y, x]) == pytest.approx(u, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_a_transposed_convolution_receives_silence_from_beyond_the_map(case: dict[str, Any]) -> None:
    times, weight, bias = case["times"], case["transposed"], case["bias"]
    steps, neuron, stride = (case[k] for k in ("steps", "neuron", "stride"))
    # No more than leaves one output.
    padding = tuple(
        min(p, ((n - 1) * s + k - 1) // 2)
        for n, k, s, p in zip(times.shape[2:], weight.shape[2:], stride, case["padding"], strict=True)
    )
    layer = transposed(weight, neuron, bias, case["groups"], stride=stride, padding=padding)
    found = layer.membrane(Spikes(times, steps)).detach()
    assert tuple(found.shape[1:]) == layer.out_shape(tuple(times.shape[1:]))
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
            u += w * received(times, b, channel, row, column, steps, neuron)
        assert float(found[b, o, y, x]) == pytest.approx(u, abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(case=cases(), way=st.sampled_from(["forward", "transposed"]))
def test_maps_fire_as_the_walk_through_the_steps(case: dict[str, Any], way: str) -> None:
    make, padding = (conv, case["padding"]) if way == "forward" else (transposed, (0, 0))
    weight = (case[way] * 16).round() / 16
    bias = None if case["bias"] is None else (case["bias"] * 16).round() / 16
    neuron = dataclasses.replace(case["neuron"], low=-4.0, steps=8)
    layer = make(weight, neuron, bias, case["groups"], stride=case["stride"], padding=padding)
    spikes = Spikes(case["times"], case["steps"])
    assert torch.equal(layer(spikes).times, layer.simulate(spikes).times)


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_kernel_that_covers_the_map_is_a_dense_layer(neuron: Window) -> None:
    source = seeded(0)
    times = torch.randint(0, 9, (5, 2, 3, 4), generator=source).float().requires_grad_()
    weight, bias = torch.randn(6, 2, 3, 4, generator=source), torch.randn(6, generator=source)
    spikes = Spikes(times, 8)
    flat = dense(weight.flatten(1), neuron, bias).membrane(spikes)
    found = conv(weight, neuron, bias).membrane(spikes)
    torch.testing.assert_close(found.flatten(1), flat)
    (expected,) = torch.autograd.grad(flat.square().sum(), times)
    (grad,) = torch.autograd.grad(found.square().sum(), times)
    torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-4)
