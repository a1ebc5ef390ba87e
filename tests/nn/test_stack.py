from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from builders import draw_spikes, refused, seeded

import firstspike as fs
from firstspike import (
    AvgPool2d,
    Causal,
    Connection,
    Conv2d,
    ConvTranspose2d,
    Linear,
    Phased,
    Spikes,
    Stack,
    Window,
)

CAUSAL = Causal(threshold=0.5)


def dense_stack(*neurons: fs.Neuron) -> Stack:
    sizes = ((6, 5), (5, 4), (4, 3))
    layers = [Linear(*two, neuron, generator=seeded(0)) for two, neuron in zip(sizes, neurons, strict=True)]
    return Stack(*layers, steps=16)


def causal_stack() -> Stack:
    return dense_stack(Causal(), Causal(), Causal())


def window_stack() -> Stack:
    return dense_stack(Window(high=1.0, steps=8), Window(high=1.0), Window(high=1.0, steps=32))


def mixed_stack() -> Stack:
    return dense_stack(Causal(), Window(high=1.0, steps=8), Causal())


def map_stack() -> Stack:
    return Stack(
        Conv2d(1, 4, 3, CAUSAL, padding=1),
        AvgPool2d(2),
        Conv2d(4, 6, 2, CAUSAL),
        Linear(6 * 2 * 3, 5, CAUSAL),
        Linear(5, 3, CAUSAL),
        steps=8,
    )


# One layer after the other


@pytest.mark.parametrize("make", [causal_stack, window_stack, mixed_stack])
def test_layers_run_one_after_the_other(make: Callable[[], Stack]) -> None:
    stack, spikes = make(), draw_spikes(9, 6)
    one, two, three = stack
    hidden = one(spikes)
    deeper = two(hidden)
    expected = [spikes, hidden, deeper, three(deeper)]
    traced, membrane = stack.read(spikes)
    for found, also, wanted in zip(stack.trace(spikes), traced, expected, strict=True):
        assert found.steps == also.steps == wanted.steps
        assert torch.equal(found.times, wanted.times)
        assert torch.equal(also.times, wanted.times)
    assert torch.equal(stack(spikes).times, expected[-1].times)
    assert torch.equal(membrane, three.membrane(deeper))
    assert [layer.steps for layer in traced] == stack.windows


@pytest.mark.parametrize(
    ("make", "offsets", "windows", "last_step"),
    [
        # One shared clock.
        (causal_stack, [0, 0, 0, 0], [16, 16, 16, 16], 16),
        # Each layer waits until its input window ends: 16, then 8, then 8 steps.
        (window_stack, [0, 16, 24, 32], [16, 8, 8, 32], 64),
        (mixed_stack, [0, 0, 16, 16], [16, 16, 8, 8], 24),
    ],
)
def test_where_the_windows_start_and_end(
    make: Callable[[], Stack], offsets: list[int], windows: list[int], last_step: int
) -> None:
    stack = make()
    assert (stack.offsets, stack.windows, stack.last_step) == (offsets, windows, last_step)
    assert (stack.steps, stack.out_steps, len(stack)) == (16, windows[-1], 3)


def test_maps_run_through_and_are_flattened_before_a_dense_layer() -> None:
    stack, spikes = map_stack(), draw_spikes(7, 1, 6, 8, steps=8)
    one, pool, two, three, four = stack
    maps = [one(spikes)]
    maps.append(pool(maps[-1]))
    maps.append(two(maps[-1]))
    flat = three(maps[-1].flatten())
    expected = [spikes, *maps, flat, four(flat)]
    traced, membrane = stack.read(spikes)
    for found, wanted in zip(traced, expected, strict=True):
        assert torch.equal(found.times, wanted.times)
    assert torch.equal(membrane, four.membrane(flat))
    assert stack.shapes((1, 6, 8)) == [tuple(wanted.shape[1:]) for wanted in expected]
    assert stack.offsets == [0] * 6


def test_window_maps_share_the_clock_of_window_layers() -> None:
    stack = Stack(
        Conv2d(1, 4, 3, Window(steps=4), stride=2, padding=1),
        ConvTranspose2d(4, 2, 4, Window(steps=6), stride=2, padding=1),
        Linear(2 * 6 * 8, 3),
        steps=8,
    )
    assert stack.offsets == [0, 8, 12, 18]
    spikes = draw_spikes(2, 1, 6, 8, steps=8)
    spikes.times.requires_grad_()
    traced, _ = stack.read(spikes)
    assert [tuple(part.shape) for part in traced] == [(2, 1, 6, 8), (2, 4, 3, 4), (2, 2, 6, 8), (2, 3)]
    traced[-1].times.sum().backward()
    assert all(parameter.grad is not None for parameter in stack.parameters())
    assert spikes.times.grad is not None


def test_gradients_reach_every_layer_through_pooling() -> None:
    torch.manual_seed(0)
    stack = map_stack()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.abs_()
    stack(draw_spikes(32, 1, 6, 8, steps=8)).times.sum().backward()
    for parameter in stack.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_a_single_layer_is_a_stack_and_an_empty_batch_a_batch() -> None:
    traced, membrane = Stack(Linear(6, 5, Causal()), steps=16).read(draw_spikes(2, 6))
    assert [tuple(layer.shape) for layer in traced] == [(2, 6), (2, 5)]
    assert membrane.shape == (2, 5)
    assert map_stack()(draw_spikes(0, 1, 6, 8, steps=8)).shape == (0, 3)


def test_the_mode_reaches_every_layer_and_a_state_has_a_name_for_each_weight() -> None:
    stack = Stack(Linear(6, 5, Causal()), Linear(5, 4), steps=16).eval()
    assert not any(part.training for part in stack)
    assert sorted(stack.state_dict()) == ["layers.0.weight", "layers.1.bias", "layers.1.weight"]


# Images


def test_images_are_encoded_as_the_first_layer_reads_them() -> None:
    images = torch.arange(256, dtype=torch.uint8)[:240].view(5, 6, 8)
    for stack, shape in ((map_stack(), (5, 1, 6, 8)), (Stack(Linear(48, 3), steps=8), (5, 48))):
        expected = fs.encode_latency(images.view(shape), 8).times
        for given in (
            images,
            images.numpy(),
            images.float() / 255,
            images.double() / 255,
            images.view(5, 1, 6, 8),
        ):
            encoded = stack.encode(given)
            assert encoded.steps == 8
            assert torch.equal(encoded.times, expected)
    phased = Stack(Linear(48, 3, Phased(source=(4, 12), target=(8, 16))), steps=16)
    assert phased.encode(images[:, :1]).first().min() >= 4
    for given, words in (([0.5, 1.0], ("(batch, ...)", "(2,)")), ([[0.5, 2.0]], ("0 ... 1", "2.0"))):
        with refused(ValueError, *words):
            map_stack().encode(given)


# Shortcuts


def test_a_shortcut_brings_spikes_of_an_earlier_layer_or_the_input() -> None:
    shortcuts = [Connection.linear(6, 4, source=0), Connection.linear(5, 4, source=1)]
    stack = Stack(
        Linear(6, 5, Window(high=1.0, steps=8)),
        Linear(5, 3, Window(high=1.0)),
        Linear(3, 4, Window(high=1.0), shortcuts=shortcuts),
        steps=16,
    )
    spikes = draw_spikes(9, 6)
    traced, membrane = stack.read(spikes)
    last = stack[2]
    expected = last.neuron.membrane(last.synapses, traced[2])
    for shortcut, source in zip(shortcuts, (spikes, traced[1]), strict=True):
        expected = expected + last.neuron.membrane(shortcut.synapses, source)
    torch.testing.assert_close(membrane, expected)
    torch.testing.assert_close(last.membrane(traced[2], spikes, traced[1]), expected)
    assert torch.equal(stack(spikes).times, traced[-1].times)
    stack(spikes).times.sum().backward()
    assert all(parameter.grad is not None for parameter in stack.parameters())
    assert len(stack.state_dict()) == 8


@pytest.mark.parametrize(
    ("shortcut", "words"),
    [
        (Connection.linear(5, 4, source=2), ("from 2 into layer 1", "1 at most")),
        (Connection.linear(5, 4, source=-1), ("from -1 into layer 1",)),
        (Connection.linear(6, 3, source=0), ("3 features", "4 features")),
        (Connection.conv2d(1, 4, 3, source=0), ("4 channels", "4 features")),
        (Connection.linear(7, 4, source=1), ("from 1 into layer 1 takes 7 features", "layer 0 gives 5")),
    ],
)
def test_shortcuts_that_lead_nowhere(shortcut: Connection, words: tuple[str, ...]) -> None:
    with refused(ValueError, "shortcut", *words):
        Stack(Linear(6, 5), Linear(5, 4, shortcuts=[shortcut]), steps=16)


# What does not fit


@pytest.mark.parametrize("steps", [8, 15, 17, 256])
def test_spikes_of_another_window_are_refused(steps: int) -> None:
    stack, spikes = window_stack(), Spikes(torch.zeros(2, 6), steps)
    for run in (stack, stack.trace, stack.read):
        with refused(ValueError, "16 steps", str(steps), "encode"):
            run(spikes)
        with refused(TypeError, "Spikes", "Tensor"):
            run(spikes.times)


def test_a_sample_without_a_batch_axis_is_refused() -> None:
    stack = causal_stack()
    for run in (stack, stack[0]):
        with refused(ValueError, "6 features", "batch axis"):
            run(draw_spikes(6))


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], ("at least one layer",)),
        ([Linear(6, 5), Linear(5, 4), Linear(5, 3)], ("layer 1 gives 4 features", "layer 2 takes 5")),
        ([Conv2d(1, 4, 3), Conv2d(3, 2, 3)], ("layer 0", "4 channels", "layer 1", "3 channels")),
        (
            [Conv2d(1, 4, 3), AvgPool2d(2), Conv2d(3, 2, 3)],
            ("layer 1", "4 channels", "layer 2", "3 channels"),
        ),
        ([Conv2d(1, 4, 3), Linear(30, 2)], ("4 channels", "30 features")),
        ([Linear(9, 16), Conv2d(1, 4, 3)], ("16 features", "1 channels")),
        ([Linear(9, 16), AvgPool2d(2)], ("16 features", "any channels")),
        (
            [
                Linear(3, 4, Phased(source=(0, 16), target=(8, 40))),
                Linear(4, 2, Phased(source=(8, 32), target=(32, 64))),
            ],
            ("layer 1", "(8, 32)", "(8, 40)", "layer 0"),
        ),
    ],
)
def test_layers_that_never_fit(layers: list[Any], words: tuple[str, ...]) -> None:
    with refused(ValueError, *words):
        Stack(*layers, steps=64)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([Conv2d(1, 4, 3), torch.nn.Flatten(), Linear(36, 2)], ("layer 1", "Flatten", "leave it out")),
        ([Conv2d(1, 4, 3), torch.nn.AvgPool2d(2)], ("layer 1", "firstspike's AvgPool2d")),
        ([Conv2d(1, 4, 3), torch.nn.MaxPool2d(2)], ("layer 1", "EarliestPool2d")),
        ([[Linear(6, 5), Linear(5, 4)]], ("layer 0", "list", "Stack(*layers")),
        ([torch.nn.ModuleList([Linear(6, 5)])], ("ModuleList", "Stack(*layers")),
        ([Stack(Linear(6, 5), steps=64)], ("firstspike.nn.stack.Stack", "Stack(*layers")),
        ([Linear(6, 5), torch.nn.ReLU()], ("layer 1", "ReLU", "neuron")),
        ([torch.nn.Linear(6, 5)], ("torch.nn.modules.linear.Linear", "firstspike's own")),
        ([Linear], ("layer 0", "Linear")),
        ([Window()], ("layer 0", "Window")),
    ],
)
def test_what_is_no_layer(layers: list[Any], words: tuple[str, ...]) -> None:
    with refused(TypeError, *words):
        Stack(*layers, steps=64)


def test_a_stack_prints_its_window_and_neurons() -> None:
    printed = repr(Stack(Linear(6, 5, Window(high=3.0)), steps=64))
    assert "steps=64" in printed
    assert "high=3.0" in printed


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 6, 8), ("layer 0 (Conv2d)", "(1, y, x)", "2 x 6 x 8")),
        ((48,), ("layer 0 (Conv2d)", "48")),
        ((1, 1, 8), ("layer 1 (AvgPool2d)", "kernel of 2 x 2", "map 1 x 8")),
        ((1, 3, 8), ("layer 2 (Conv2d)", "kernel of 2 x 2", "map 1 x 4")),
        ((1, 8, 8), ("layer 3 (Linear)", "36 features", "6 x 3 x 3 = 54")),
    ],
)
def test_a_misfit_known_with_the_input(shape: tuple[int, ...], words: tuple[str, ...]) -> None:
    stack, spikes = map_stack(), Spikes(torch.zeros(2, *shape), 8)
    for run in (stack, stack.trace, stack.read):
        with refused(ValueError, *words):
            run(spikes)
    with refused(ValueError, *words):
        stack.shapes(shape)


def test_sizes_of_maps_are_asked_for() -> None:
    with refused(ValueError, "in_shape = (channels, y, x)"):
        map_stack().shapes()
    assert Stack(Linear(4, 3), steps=8).shapes() == [(4,), (3,)]


@pytest.mark.parametrize(("steps", "error"), [(1, ValueError), (70_000, ValueError), (8.0, TypeError)])
def test_steps_are_checked(steps: Any, error: type[Exception]) -> None:
    with refused(error, "steps", str(steps)):
        Stack(Linear(4, 3), steps=steps)
    assert Stack(Linear(4, 3), steps=np.int64(8)).steps == 8  # type: ignore[arg-type]


def test_branches_take_what_their_sources_name() -> None:
    torch.manual_seed(0)
    # Two branches from the first layer, of unequal length, which meet in the last one.
    stem = Conv2d(1, 3, 3, padding=1)
    long, longer = Conv2d(3, 2, 3, padding=1), Conv2d(2, 4, 3, padding=1)
    short = fs.EarliestPool2d(3, stride=1, padding=1, source=1)
    past = Connection.conv2d(3, 4, 1, source=4)
    last = Conv2d(4, 4, 1, source=3, shortcuts=[past])
    stack = Stack(stem, long, longer, short, last, steps=8)
    assert stack.sources == [(0,), (1,), (2,), (1,), (3, 4)]
    assert stack.offsets == [0, 8, 16, 24, 8, 32]
    assert stack.shapes((1, 6, 6))[1:] == [(3, 6, 6), (2, 6, 6), (4, 6, 6), (3, 6, 6), (4, 6, 6)]
    spikes = Spikes(torch.randint(0, 9, (5, 1, 6, 6)).float(), 8)
    first = stem(spikes)
    pooled = -torch.nn.functional.max_pool2d(-first.times, 3, 1, 1)
    expected = last.read(longer(long(first)), Spikes(pooled, 8))[0]
    assert torch.equal(stack(spikes).times, expected.times)
    assert torch.equal(stack.read(spikes)[0][-1].times, expected.times)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([Linear(4, 4), Linear(4, 4, source=2)], ("connection from 2", "layer 1")),
        ([Linear(4, 3), Linear(3, 2), Linear(2, 2, source=1)], ("layer 0 gives 3", "layer 2 takes 2")),
    ],
)
def test_a_source_that_does_not_fit_is_refused(layers: list[Linear], words: tuple[str, ...]) -> None:
    with refused(ValueError, *words):
        Stack(*layers, steps=8)


@pytest.mark.parametrize("sizes", [(64, 100, 10), (64, 100, 100, 10)])
def test_freshly_drawn_causal_layers_fire_and_learn_digits(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    train, test = (fs.data.load("digits", split) for split in ("train", "validation"))
    net = Stack(*(Linear(*two, Causal()) for two in pairwise(sizes)), steps=16)
    spikes, asked = net.encode(train.images.flatten(1)), net.encode(test.images.flatten(1))
    with torch.no_grad():
        shares = [float((~layer.silent).float().mean()) for layer in net.trace(asked)]
    assert all(0.25 < share < 0.9 for share in shares)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(5):
        for batch in torch.randperm(len(spikes)).split(64):
            optimizer.zero_grad()
            fs.first_spike_cross_entropy(net(spikes[batch]), train.labels[batch]).backward()
            optimizer.step()
    assert fs.FirstSpike().decide(net(asked)).score(test.labels).accuracy > 0.6
