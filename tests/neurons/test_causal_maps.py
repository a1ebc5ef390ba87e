"""Causal neurons on maps, against the walk through the steps and against dense layers over the patches."""

import pytest
import torch
from builders import conv, dense, draw_spikes, fires, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from firstspike import Causal, Conv2d, Spikes
from firstspike.neurons import Synapses
from firstspike.neurons.causal import Norm, normalise_gradient
from firstspike.nn.wiring import Convolution, Dense

Pair = tuple[int, int]


def draw(
    seed: int, shape: tuple[int, ...], weight_shape: tuple[int, ...], steps: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return times with ties and silence, and dyadic weights, whose sums are exact in any order."""
    source = seeded(seed)
    times = torch.randint(0, 2 * steps, shape, generator=source).clamp(max=steps)
    weight = torch.randint(-16, 20, weight_shape, generator=source).to(dtype) / 16
    return times.to(torch.float32), weight


def by_patches(layer: Conv2d, spikes: Spikes, neuron: Causal) -> Tensor:
    """Return what a fully connected layer over every patch gives: torch cuts the patches."""
    wiring = layer.wiring
    assert isinstance(wiring, Convolution)
    y, x = wiring.padding
    padded = F.pad(spikes.times, (x, x, y, y), value=float(spikes.steps))
    (kernel_y, kernel_x), (stride_y, stride_x) = wiring.kernel_size, wiring.stride
    patches = padded.unfold(2, kernel_y, stride_y).unfold(3, kernel_x, stride_x)
    parts = []
    kernels = layer.weight.chunk(wiring.groups)
    for own, kernel in zip(patches.chunk(wiring.groups, 1), kernels, strict=True):
        batch, _, height, width = own.shape[:4]
        flat = own.permute(0, 2, 3, 1, 4, 5).reshape(batch * height * width, -1)
        rows = kernel.flatten(1)
        synapses = Synapses(Dense(in_features=rows.shape[1], out_features=len(rows)), rows)
        out = neuron.fire(synapses, spikes.with_times(flat)).times
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


@pytest.mark.parametrize("steps", [2, 20, 700, 4096])
@pytest.mark.parametrize(("shape", "weight_shape", "stride", "padding", "groups"), SHAPES)
def test_times_are_the_simulators_to_the_last_bit(
    shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    groups: int,
    steps: int,
) -> None:
    if steps > 20:
        # The simulator walks through the steps; few inputs, spread over all of them, keep it quick.
        shape = (1, *shape[1:])
    times, weight = draw(0, shape, weight_shape, steps, torch.float32)
    weight = weight + torch.linspace(0, 1e-3, weight.numel()).reshape(weight.shape)
    neuron = Causal(threshold=0.5)
    layer = conv(weight, neuron, stride=stride, padding=padding, groups=groups)
    spikes = Spikes(times, steps)
    found = layer(spikes)
    expected = layer.simulate(spikes).times if steps <= 20 else by_patches(layer, spikes, neuron)
    assert torch.equal(found.times, expected)
    assert not found.silent.all() or steps > 20


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_convolution_is_that_of_the_simulator(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 3))
    in_channels, out_channels = (groups * data.draw(st.integers(1, 3)) for _ in range(2))
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    steps = data.draw(st.sampled_from([2, 8, 60]))
    source = seeded(data.draw(st.integers(0, 2**31)))
    layer = Conv2d(
        in_channels,
        out_channels,
        kernel,
        Causal(threshold=0.5, strict=data.draw(st.booleans()), delay=data.draw(st.sampled_from([0, 2]))),
        stride=data.draw(st.tuples(st.integers(1, 3), st.integers(1, 2))),
        padding=data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        groups=groups,
    )
    with torch.no_grad():
        # Eighths meet the threshold exactly and tie.
        layer.weight.uniform_(-0.5, 1, generator=source).mul_(8).round_().div_(8)
    sizes = tuple(k + data.draw(st.integers(0, 4)) for k in kernel)
    spikes = Spikes(torch.randint(0, steps + 1, (2, in_channels, *sizes), generator=source), steps)
    found = layer(spikes)
    assert torch.equal(found.times, layer.simulate(spikes).times)
    assert tuple(found.shape[1:]) == layer.out_shape(tuple(spikes.shape[1:]))


def test_the_simulator_by_hand() -> None:
    # A row of four inputs, padded by one; a neuron fires when its two neighbours' weights reach 1.
    spikes = Spikes([[[[0, 3, 8, 5]]]], 8)
    found = conv([[[[0.25, 1.0]]]], Causal(threshold=1.0), padding=(0, 1)).simulate(spikes)
    # Patches (-, 0), (0, 3), (3, 8), (8, 5), (5, -): the right input alone is enough, the left is not.
    assert found.times.tolist() == [[[[0, 3, 8, 5, 8]]]]
    # Both are needed: (0, 3) at 3, (8, 5) never. The second group needs its left input only.
    two = conv(
        [[[[0.25, 1.0]]], [[[1.25, 0.0]]]], Causal(threshold=1.25, delay=1), groups=2, stride=(1, 2)
    ).simulate(spikes.with_times(spikes.times.expand(1, 2, 1, 4)))
    assert two.times.tolist() == [[[[4, 8]], [[1, 8]]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", ["none", "l1", "l2"])
@pytest.mark.parametrize(("shape", "weight_shape", "stride", "padding", "groups"), SHAPES)
def test_gradients_are_those_of_a_dense_layer_over_the_patches(
    shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    groups: int,
    norm: Norm,
    dtype: torch.dtype,
) -> None:
    times, weight = draw(1, shape, weight_shape, 20, dtype)
    spikes = Spikes(times.requires_grad_(), 20)
    layer = conv(weight, Causal(norm=norm), stride=stride, padding=padding, groups=groups)
    out = layer(spikes).times
    delta = torch.randn(out.shape, generator=seeded(2))
    found = torch.autograd.grad(out, (times, layer.weight), delta)
    # The norm is that of a whole sample, before the patches.
    other = by_patches(layer, spikes, Causal())
    assert torch.equal(out, other)
    expected = torch.autograd.grad(other, (times, layer.weight), normalise_gradient(delta, norm))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("time", [9.0, 0.0, 8.0])
def test_patterns_at_the_ends_of_the_window(time: float) -> None:
    _, weight = draw(0, (1,), (5, 3, 2, 3), 9, torch.float32)
    spikes = Spikes(torch.full((2, 3, 4, 5), time), 9)
    layer = conv(weight, Causal(threshold=0.5), padding=1)
    found = layer(spikes)
    assert torch.equal(found.times, layer.simulate(spikes).times)
    assert found.silent.all() == (time == 9)


def test_a_kernel_that_covers_the_map_is_a_dense_layer() -> None:
    times, weight = draw(3, (4, 3, 5, 4), (7, 3, 5, 4), 16, torch.float32)
    found = fires(conv(weight, Causal()), times, 16)
    assert torch.equal(found.flatten(1), fires(dense(weight.flatten(1), Causal()), times.flatten(1), 16))


def test_memory_layout_and_types_of_the_times_do_not_matter() -> None:
    times, weight = draw(4, (2, 4, 6, 6), (3, 4, 3, 3), 16, torch.float32)
    layer = conv(weight, Causal())
    expected = fires(layer, times, 16)
    wide = torch.full((2, 4, 6, 12), 16.0)
    wide[..., ::2] = times
    for same in (
        times.contiguous(memory_format=torch.channels_last),
        wide[..., ::2],
        times.to(torch.int16),
        times.numpy(),
    ):
        assert torch.equal(fires(layer, same, 16), expected)


def test_an_empty_batch_has_empty_times_and_zero_gradients() -> None:
    layer = conv(torch.ones(3, 2, 2, 2), Causal())
    times = torch.zeros(0, 2, 4, 4, requires_grad=True)
    out = fires(layer, times, 8)
    assert out.shape == (0, 3, 3, 3)
    grad_times, grad_weight = torch.autograd.grad(out.sum(), (times, layer.weight))
    assert grad_times.shape == times.shape
    assert not grad_weight.any()


def test_an_input_after_the_output_spike_changes_nothing() -> None:
    times, weight = draw(5, (2, 3, 5, 5), (4, 3, 3, 3), 30, torch.float32)
    layer = conv(weight, Causal())
    before = fires(layer, times, 30)
    last = float(before.detach()[before < 30].max())
    changed = torch.where(times > last, torch.where(times == 30, 29.0, 30.0), times)
    fired = before < 30
    assert torch.equal(fires(layer, changed, 30)[fired], before[fired])


def test_the_membrane_is_the_sum_over_the_inputs_that_fired() -> None:
    layer = Conv2d(2, 3, 2, Causal(threshold=0.5), stride=2)
    spikes = draw_spikes(4, 2, 4, 4, steps=8)
    fired = (~spikes.silent).float()
    patches = F.unfold(fired, 2, stride=2)
    expected = (layer.weight.flatten(1) @ patches).unflatten(2, (2, 2))
    torch.testing.assert_close(layer.read(spikes)[1], expected)
