import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstspike.functional import causal_membrane
from firstspike.kernels.reference import simulate_causal_conv2d
from firstspike.neurons import Causal, Neuron, Phased, Window
from firstspike.nn import AvgPool2d, Conv2d, ConvTranspose2d, Linear, Stack
from firstspike.window_convolution import window_conv2d_membrane, window_conv_transpose2d_membrane

CAUSAL = Causal(threshold=0.5)
WINDOW = Window(low=-1.0, high=1.0, input_low=-1.0, out_steps=6)


def draw_times(shape: tuple[int, ...], num_steps: int = 8, seed: int = 0) -> Tensor:
    return torch.randint(0, num_steps + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_a_causal_convolution_is_that_of_the_simulator(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 3))
    in_channels, out_channels = (groups * data.draw(st.integers(1, 3)) for _ in range(2))
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    padding = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    num_steps = data.draw(st.sampled_from([2, 8, 300]))
    neuron = Causal(
        threshold=0.5, strict=data.draw(st.booleans()), delay=data.draw(st.sampled_from([0, 2]))
    )
    source = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    layer = Conv2d(
        in_channels,
        out_channels,
        kernel,
        num_steps,
        neuron,
        stride=stride,
        padding=padding,
        groups=groups,
        generator=source,
    )
    with torch.no_grad():
        # Eighths meet the threshold exactly and tie.
        layer.weight.uniform_(-0.5, 1, generator=source).mul_(8).round_().div_(8)
    sizes = tuple(k + data.draw(st.integers(0, 4)) for k in kernel)
    times = torch.randint(0, num_steps + 1, (2, in_channels, *sizes), generator=source).float()
    with torch.no_grad():
        found = layer(times)
    expected = simulate_causal_conv2d(
        times, layer.weight.detach(), num_steps, neuron, stride, padding, groups
    )
    assert torch.equal(found, expected)
    assert tuple(found.shape[1:]) == layer.out_shape(tuple(times.shape[1:]))


def test_the_simulator_by_hand() -> None:
    # A row of four inputs, padded by one; a neuron fires when its two neighbours' weights reach 1.
    times = torch.tensor([[[[0.0, 3.0, 8.0, 5.0]]]])
    weight = torch.tensor([[[[0.25, 1.0]]]])
    found = simulate_causal_conv2d(times, weight, 8, Causal(threshold=1.0), (1, 1), (0, 1), 1)
    # Patches (-, 0), (0, 3), (3, 8), (8, 5), (5, -): the right input alone is enough, the left is not.
    assert found.tolist() == [[[[0.0, 3.0, 8.0, 5.0, 8.0]]]]
    # Both are needed: (0, 3) at 3, (8, 5) never. The second group needs its left input only.
    both = torch.tensor([[[[0.25, 1.0]]], [[[1.25, 0.0]]]])
    two = simulate_causal_conv2d(
        times.expand(1, 2, 1, 4), both, 8, Causal(threshold=1.25, delay=1), (1, 2), (0, 0), 2
    )
    assert two.tolist() == [[[[4.0, 8.0]], [[1.0, 8.0]]]]


@pytest.mark.parametrize("neuron", [CAUSAL, WINDOW])
def test_a_kernel_that_covers_the_map_is_a_fully_connected_layer(neuron: Causal | Window) -> None:
    times = draw_times((7, 2, 3, 4))
    bias = isinstance(neuron, Window)
    conv, linear = Conv2d(2, 6, (3, 4), 8, neuron, bias=bias), Linear(24, 6, 8, neuron, bias=bias)
    linear.weight.data = conv.weight.detach().flatten(1)
    if bias:
        assert linear.bias is not None
        linear.bias.data = conv.bias.detach()
    (fired, membrane), (wanted, wanted_membrane) = conv.read(times), linear.read(times.flatten(1))
    torch.testing.assert_close(membrane.flatten(1), wanted_membrane)
    if isinstance(neuron, Causal):
        assert torch.equal(fired.flatten(1), wanted)
    else:
        # A membrane within rounding of a step's boundary may fall on either side.
        assert (fired.flatten(1) - wanted).abs().max() <= 1
    torch.testing.assert_close(conv.membrane(times), membrane)

    fired.sum().backward()
    wanted.sum().backward()
    assert conv.weight.grad is not None
    assert linear.weight.grad is not None
    torch.testing.assert_close(conv.weight.grad.flatten(1), linear.weight.grad)
    assert (conv.weight.grad != 0).any()


@pytest.mark.parametrize("groups", [1, 2])
def test_window_layers_are_the_membranes_with_their_weights(groups: int) -> None:
    times = draw_times((3, 2, 5, 4))
    how: dict[str, Any] = {"stride": (2, 1), "padding": 1, "groups": groups}
    conv = Conv2d(2, 4, 3, 8, WINDOW, bias=True, **how)
    membrane = window_conv2d_membrane(times, conv.weight, conv.bias, 8, WINDOW, **how)
    assert torch.equal(conv.membrane(times), membrane)
    wider = ConvTranspose2d(2, 4, 3, 8, WINDOW, bias=True, **how)
    larger = window_conv_transpose2d_membrane(times, wider.weight, wider.bias, 8, WINDOW, **how)
    assert torch.equal(wider.membrane(times), larger)
    for layer, expected in ((conv, membrane), (wider, larger)):
        # V = clip((u + 1) / 2, 0, 1) * 6 and t = 6 - floor(V), written out.
        steps = 6 - torch.floor(((expected + 1) / 2).clamp(0, 1) * 6)
        assert torch.equal(layer(times), steps)
        fired, read = layer.read(times)
        assert torch.equal(fired, steps)
        assert torch.equal(read, expected)
        assert tuple(fired.shape[1:]) == layer.out_shape((2, 5, 4))
        assert layer.out_steps == 6


def test_a_causal_membrane_is_the_sum_over_the_inputs_that_fired() -> None:
    conv = Conv2d(2, 3, 2, 8, CAUSAL, stride=2)
    times = draw_times((4, 2, 4, 4))
    patches = torch.nn.functional.unfold(times, 2, stride=2).transpose(1, 2).flatten(0, 1)
    expected = causal_membrane(patches, conv.weight.flatten(1), 8, CAUSAL)
    expected = expected.unflatten(0, (4, 4)).transpose(1, 2).unflatten(2, (2, 2))
    torch.testing.assert_close(conv.read(times)[1], expected)


@pytest.mark.parametrize(("groups", "out_channels"), [(1, 6), (4, 4)])
def test_rows_of_weights_lie_together_and_stay_so(groups: int, out_channels: int) -> None:
    layer = Conv2d(4, out_channels, 3, 8, CAUSAL, groups=groups)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.Adam(layer.parameters())
    layer(draw_times((2, 4, 5, 5))).sum().backward()
    optimizer.step()
    other = Conv2d(4, out_channels, 3, 8, CAUSAL, groups=groups)
    other.load_state_dict(layer.state_dict())
    for one in (layer, copy.deepcopy(layer), other):
        grouped = one.weight.detach().unflatten(0, (groups, -1)).flatten(2).transpose(1, 2)
        assert grouped.is_contiguous()
        assert grouped.data_ptr() == one.weight.data_ptr()
        assert torch.equal(one.weight, layer.weight)
    assert not torch.equal(before, layer.weight)


def test_initial_weights_fill_their_bound_and_follow_the_generator() -> None:
    def make(kind: type, neuron: Neuron, **how: Any) -> Tensor:
        return kind(4, 64, 3, 8, neuron, generator=torch.Generator().manual_seed(1), **how).weight

    for weight, bound in (
        (make(Conv2d, Causal(threshold=5.0)), 5 / 6),
        (make(Conv2d, Causal(threshold=5.0), groups=4), 5 / 3),
        (make(Conv2d, Window()), 1 / 6),
        (make(ConvTranspose2d, Window(), stride=3), 1 / 2),
    ):
        assert 0.95 * bound < weight.max() <= bound
        assert -bound <= weight.min() < -0.95 * bound
    assert torch.equal(make(Conv2d, CAUSAL), make(Conv2d, CAUSAL))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neuron": Phased(source=(0, 4), target=(2, 8))}, "takes Window or Causal neurons"),
        ({"neuron": Causal(synapse="ramp")}, "with the step synapse, found Causal"),
        ({"bias": True, "groups": 2}, "needs one group and a padding below half the kernel"),
        ({"in_channels": 0}, "channels and groups must be 1 or more, found 0, 4 and 1"),
        ({"groups": 4}, "2 input and 4 output channels must divide into 4 groups"),
        ({"kernel_size": 0}, "kernel_size must be 1 or more"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be 1 or more"),
        ({"stride": (1, 0)}, r"stride must be 1 or more, one number or \(y, x\), found \(1, 0\)"),
        ({"padding": -1}, "padding must be 0 or more"),
        ({"num_steps": 0}, "num_steps"),
    ],
)
def test_bad_arguments_are_one_clear_error(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "num_steps": 8}
    with pytest.raises(ValueError, match=message):
        Conv2d(**(given | {"neuron": CAUSAL} | arguments))


def test_a_transposed_convolution_takes_window_neurons_only() -> None:
    with pytest.raises(ValueError, match="ConvTranspose2d takes Window neurons, found Causal"):
        ConvTranspose2d(2, 4, 3, 8, CAUSAL)  # type: ignore[arg-type]


def conv_stack() -> Stack:
    return Stack(
        [
            Conv2d(1, 4, 3, 8, CAUSAL, padding=1),
            AvgPool2d(2, 8),
            Conv2d(4, 6, 2, 8, CAUSAL),
            Linear(6 * 2 * 3, 5, 8, CAUSAL),
            Linear(5, 3, 8, CAUSAL),
        ]
    )


def test_maps_run_through_a_stack_and_are_flattened_before_a_linear() -> None:
    stack = conv_stack()
    times = draw_times((7, 1, 6, 8))
    one, pool, two, three, four = stack
    maps = [one(times)]
    maps.append(pool(maps[-1]))
    maps.append(two(maps[-1]))
    flat = three(maps[-1].reshape(7, -1))
    expected = [times, *maps, flat, four(flat)]
    traced, membrane = stack.read(times)
    for found, also, wanted in zip(stack.trace(times), traced, expected, strict=True):
        assert torch.equal(found, wanted)
        assert torch.equal(also, wanted)
    assert torch.equal(stack(times), expected[-1])
    assert torch.equal(membrane, four.membrane(flat))
    assert stack.shapes((1, 6, 8)) == [tuple(wanted.shape[1:]) for wanted in expected]
    assert stack.offsets == [0] * 6


def test_window_maps_share_the_clock_of_window_layers() -> None:
    stack = Stack(
        [
            Conv2d(1, 4, 3, 8, Window(out_steps=4), stride=2, padding=1, bias=True),
            ConvTranspose2d(4, 2, 4, 4, Window(out_steps=6), stride=2, padding=1),
            Linear(2 * 6 * 8, 3, 6, Window()),
        ]
    )
    assert stack.offsets == [0, 8, 12, 18]
    times = draw_times((2, 1, 6, 8)).requires_grad_()
    traced, _ = stack.read(times)
    assert [tuple(part.shape) for part in traced] == [(2, 1, 6, 8), (2, 4, 3, 4), (2, 2, 6, 8), (2, 3)]
    traced[-1].sum().backward()
    assert all(parameter.grad is not None for parameter in stack.parameters())
    assert times.grad is not None


def test_gradients_reach_every_layer_through_pooling() -> None:
    stack = conv_stack()
    times = draw_times((32, 1, 6, 8))
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.abs_()
    stack(times).sum().backward()
    for parameter in stack.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [Conv2d(1, 4, 3, 8, CAUSAL), Conv2d(3, 2, 3, 8, CAUSAL)],
            "layer 0 gives 4 channels, layer 1 takes 3",
        ),
        (
            [Conv2d(1, 4, 3, 8, CAUSAL), AvgPool2d(2, 8), Conv2d(3, 2, 3, 8, CAUSAL)],
            "layer 1 gives 4 channels, layer 2 takes 3",
        ),
        (
            [Conv2d(1, 4, 3, 8, CAUSAL), Linear(30, 2, 8, CAUSAL)],
            "layer 0 gives 4 channels, layer 1 takes 30 features, no multiple of them",
        ),
        (
            [Linear(9, 16, 8, CAUSAL), Conv2d(1, 4, 3, 8, CAUSAL)],
            r"layer 0 gives 16 features, layer 1 takes maps \(channels, y, x\)",
        ),
        ([Linear(9, 16, 8, CAUSAL), AvgPool2d(2, 8)], "layer 0 gives 16 features, layer 1 takes maps"),
        ([Conv2d(1, 4, 3, 8, CAUSAL), AvgPool2d(2, 16)], "layer 0 fires in a window of 8 steps"),
    ],
)
def test_a_misfit_known_at_construction_is_one_clear_error(layers: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stack(layers)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 6, 8), r"layer 0 \(Conv2d\) takes maps \(1, y, x\), found 2 x 6 x 8"),
        ((48,), r"layer 0 \(Conv2d\) takes maps \(1, y, x\), found 48"),
        ((1, 1, 8), r"layer 1 \(AvgPool2d\) has a kernel of 2 x 2, larger than the map 1 x 8"),
        ((1, 3, 8), r"layer 2 \(Conv2d\) has a kernel of 2 x 2, larger than the map 1 x 4"),
        ((1, 8, 8), r"layer 3 \(Linear\) takes 36 features, found 6 x 3 x 3 = 54"),
    ],
)
def test_a_misfit_known_with_the_input_is_one_clear_error(shape: tuple[int, ...], message: str) -> None:
    stack, times = conv_stack(), torch.zeros(2, *shape)
    for run in (stack, stack.trace, stack.read):
        with pytest.raises(ValueError, match=message):
            run(times)
    with pytest.raises(ValueError, match=message):
        stack.shapes(shape)


def test_sizes_of_maps_are_asked_for() -> None:
    with pytest.raises(ValueError, match=r"give in_shape = \(channels, y, x\)"):
        conv_stack().shapes()
    assert Stack([Linear(4, 3, 8, CAUSAL)]).shapes() == [(4,), (3,)]
    with pytest.raises(ValueError, match=r"padding of 2 x 2, which cuts off all that the map 2 x 2 gives"):
        ConvTranspose2d(1, 1, 2, 8, WINDOW, padding=2).out_shape((1, 2, 2))


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_fan_out_is_what_each_input_changes(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 2))
    kernel = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    stride = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    padding = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 1)))
    sizes = tuple(k + data.draw(st.integers(0, 3)) for k in kernel)
    shape = (2 * groups, *sizes)
    kind = data.draw(st.sampled_from(["forward", "transposed", "pool"]))
    if kind == "pool":
        pool = AvgPool2d(kernel, 8, stride=stride)
        found, channels = pool.fan_out(shape), 2 * groups
        maps = torch.nn.functional.avg_pool2d(
            torch.eye(int(np.prod(shape))).view(-1, *shape), kernel, stride
        )
    else:
        make = Conv2d if kind == "forward" else ConvTranspose2d
        if kind == "transposed":
            padding = tuple(
                min(p, ((n - 1) * s + k - 1) // 2)
                for n, k, s, p in zip(sizes, kernel, stride, padding, strict=True)
            )
        layer = make(
            2 * groups, 3 * groups, kernel, 8, Window(), stride=stride, padding=padding, groups=groups
        )
        found = layer.fan_out(shape)
        # One input at a time, through torch's own convolution with weights 1.
        operation = (
            torch.nn.functional.conv2d if kind == "forward" else torch.nn.functional.conv_transpose2d
        )
        each = torch.eye(int(np.prod(shape))).view(-1, *shape)
        maps = operation(each, torch.ones_like(layer.weight), stride=stride, padding=padding, groups=groups)
        channels = 2 * groups
    changed = (maps != 0).flatten(1).sum(1).view(channels, *sizes).float()
    assert torch.equal(found.expand(shape), changed)
