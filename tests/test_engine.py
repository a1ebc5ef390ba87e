import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from builders import dense, refused, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstspike.decision import FirstSpike
from firstspike.engine import Decision, Engine
from firstspike.metrics.cost import (
    spikes_per_layer,
    spikes_to_decision,
    steps_to_decision,
    synaptic_operations,
)
from firstspike.neurons import Causal, Neuron, Phased, Ramp, Window
from firstspike.nn import AvgPool2d, Connection, Conv2d, ConvTranspose2d, Layer, Linear, Stack
from firstspike.spikes import Spikes


def stack_of(steps: int, neurons: list[Neuron], weights: list[Any]) -> Stack:
    """Return a stack with the given weights ``(out, in)``."""
    layers = [dense(weight, neuron) for weight, neuron in zip(weights, neurons, strict=True)]
    return Stack(*layers, steps=steps)


@st.composite
def stacks(draw: st.DrawFn) -> tuple[Stack, Spikes]:
    """Draw a causal stack and images for it: ties, silence, delays, strict thresholds, both precisions."""
    sizes = draw(st.lists(st.sampled_from([1, 2, 5, 15, 16, 33, 70]), min_size=2, max_size=4))
    steps = draw(st.sampled_from([2, 3, 8, 256, 300, 65_535]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    coarse = draw(st.booleans())
    neurons: list[Neuron] = []
    weights = []
    for inputs, outputs in pairwise(sizes):
        weight = rng.uniform(-0.5, 3 / inputs**0.5, (outputs, inputs))
        # Quarters make sums that meet the threshold exactly, and equal neurons.
        weights.append(torch.from_numpy(np.round(weight * 4) / 4 if coarse else weight).to(dtype))
        neurons.append(
            Causal(
                threshold=float(rng.choice([0.25, 0.5, 1.0])),
                strict=draw(st.booleans()),
                delay=draw(st.sampled_from([0, 0, 1, 2, 400])),
            )
        )
    count = draw(st.integers(1, 4))
    latest = draw(st.sampled_from([1, 4, steps]))
    times = rng.integers(0, min(latest, steps) + 1, (count, sizes[0]))
    silent = rng.random((count, sizes[0])) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    return stack_of(steps, neurons, weights), Spikes(np.where(silent, steps, times), steps)


def naive(stack: Stack, times_I: list[int], early_exit: bool) -> tuple[list[list[int]], int, int]:
    """Walk through every step; return the spike times of all layers, the decision's step and the additions.

    After the step of the first output spike, if `early_exit`, nothing is looked at any more.
    """
    steps = stack.steps
    layers = [(layer.weight.detach().numpy(), layer.neuron) for layer in stack]
    times = [list(times_I), *([steps] * len(weight) for weight, _ in layers)]
    crossed = [[False] * len(weight) for weight, _ in layers]
    membranes = [np.zeros(len(weight), weight.dtype) for weight, _ in layers]
    operations = 0
    for t in range(steps):
        for d, (weight, neuron) in enumerate(layers):
            assert isinstance(neuron, Causal)
            arriving = [i for i, at in enumerate(times[d]) if at == t]
            for i in arriving:
                membranes[d] = membranes[d] + weight[:, i]
                operations += len(weight)
            for j, membrane in enumerate(membranes[d]):
                limit = weight.dtype.type(neuron.threshold)
                if not crossed[d][j] and (membrane > limit if neuron.strict else membrane >= limit):
                    crossed[d][j] = True
                    times[d + 1][j] = min(t + neuron.delay, steps)
        if early_exit and t == min(times[-1]):
            break
    step = min(times[-1])
    if early_exit:
        times[-1] = [at if at <= step else steps for at in times[-1]]
    return times, step, operations


def check_against_trace(stack: Stack, spikes: Spikes) -> None:
    """Compare every field of both walks with the trace of the whole window and the metrics' counts."""
    engine = Engine(stack, tuple(spikes.shape[1:]))
    with torch.no_grad():
        traced = stack.trace(spikes)
    out = traced[-1].flatten()
    output, verdict = out.times, FirstSpike().decide(out)
    early, late = engine.run_many(spikes), engine.run_many(spikes, early_exit=False)

    steps = steps_to_decision(stack, out)
    for found in (early, late):
        assert torch.equal(found.labels, verdict.label)
        assert torch.equal(found.steps.float(), steps)
        assert torch.equal(found.silent, verdict.silent)
        assert torch.equal(found.tied, verdict.tied)
    assert torch.equal(early.spikes.float(), spikes_to_decision(stack, traced))
    assert torch.equal(early.synaptic_operations.float(), synaptic_operations(stack, traced))
    at_first = torch.where(output == steps[:, None], output, float(stack.steps))
    assert torch.equal(early.output_times, at_first)

    assert torch.equal(late.spikes.float(), spikes_per_layer(stack, traced))
    all_additions = synaptic_operations(stack, traced, until_decision=False)
    assert torch.equal(late.synaptic_operations.float(), all_additions)
    assert torch.equal(late.output_times, output)


@settings(deadline=None, max_examples=150)
@given(drawn=stacks())
def test_a_decision_is_that_of_the_whole_trace(drawn: tuple[Stack, Spikes]) -> None:
    check_against_trace(*drawn)


@st.composite
def map_stacks(draw: st.DrawFn) -> tuple[Stack, Spikes]:
    """Draw convolutions and poolings, perhaps a linear layer after them, and images for them."""
    steps = draw(st.sampled_from([2, 8, 300]))
    shape = tuple(draw(st.integers(low, high)) for low, high in ((1, 4), (3, 8), (3, 8)))
    source = seeded(draw(st.integers(0, 2**31)))
    times = torch.randint(0, steps + 1, (draw(st.integers(1, 3)), *shape), generator=source)
    layers: list[Layer | AvgPool2d] = []
    for _ in range(draw(st.integers(1, 3))):
        neuron = Causal(
            threshold=draw(st.sampled_from([0.25, 0.5])),
            strict=draw(st.booleans()),
            delay=draw(st.sampled_from([0, 0, 1])),
        )
        kernel = tuple(draw(st.integers(1, min(3, size))) for size in shape[1:])
        stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
        if draw(st.booleans()):
            layers.append(AvgPool2d(kernel, neuron, stride=stride))  # type: ignore[arg-type]
        else:
            groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if shape[0] % g == 0]))
            outputs = groups * draw(st.sampled_from([1, 2, 7, 8, 17]))
            padding = draw(st.integers(0, 2))
            convolution = Conv2d(
                shape[0], outputs, kernel, neuron,  # type: ignore[arg-type]
                stride=stride, padding=padding, groups=groups, generator=source,
            )  # fmt: skip
            with torch.no_grad():
                convolution.weight.mul_(2).add_(0.05)
            layers.append(convolution)
        shape = layers[-1].out_shape(shape)
    if draw(st.booleans()):
        layers.append(Linear(math.prod(shape), 5, Causal(threshold=0.5), generator=source))
    stack = Stack(*layers, steps=steps)
    return (stack.double() if draw(st.booleans()) else stack), Spikes(times, steps)


@settings(deadline=None, max_examples=100)
@given(drawn=map_stacks())
def test_a_decision_on_maps_is_that_of_the_whole_trace(drawn: tuple[Stack, Spikes]) -> None:
    check_against_trace(*drawn)


def test_one_image_of_maps() -> None:
    layers = [Conv2d(2, 3, 3, Causal(threshold=0.3)), AvgPool2d(2), Linear(12, 4, Causal())]
    with torch.no_grad():
        for layer in (layers[0], layers[2]):
            layer.weight.abs_()
    engine = Engine(Stack(*layers, steps=16), (2, 6, 6))
    spikes = Spikes(torch.randint(0, 17, (5, 2, 6, 6), generator=seeded(0)), 16)
    many = engine.run_many(spikes)
    assert not many.silent.all()
    for k in range(5):
        assert engine.run(spikes[k]).synaptic_operations == many.synaptic_operations[k]
    with refused(ValueError, "(2, 6, 6)", "(72,)"):
        engine.run(spikes[0].with_times(spikes.times[0].flatten()))


@settings(deadline=None, max_examples=80)
@given(drawn=stacks().filter(lambda drawn: drawn[0].steps < 1000), early_exit=st.booleans())
def test_a_decision_is_that_of_a_walk_through_every_step(
    drawn: tuple[Stack, Spikes], early_exit: bool
) -> None:
    stack, spikes = drawn
    engine = Engine(stack)
    for k in range(len(spikes)):
        image = spikes[k]
        seen, step, operations = naive(stack, image.times.int().tolist(), early_exit)
        found = engine.run(image, early_exit=early_exit)
        assert found.output_times.tolist() == seen[-1]
        assert found.step == step
        assert found.synaptic_operations == operations
        last = step if early_exit else stack.steps - 1
        assert found.spikes == tuple(sum(at <= last and at < stack.steps for at in layer) for layer in seen)


@settings(deadline=None, max_examples=60)
@given(drawn=stacks(), data=st.data())
def test_an_input_after_the_decision_changes_nothing(
    drawn: tuple[Stack, Spikes], data: st.DataObject
) -> None:
    stack, spikes = drawn
    engine = Engine(stack)
    image = spikes.times[0]
    before = engine.run(spikes[0])
    late = (image > before.step).nonzero().flatten().tolist()
    if before.step + 1 >= stack.steps or not late:
        return
    changed = image.clone()
    for place in data.draw(st.lists(st.sampled_from(late), min_size=1)):
        changed[place] = data.draw(st.integers(before.step + 1, stack.steps))
    assert same(engine.run(Spikes(changed, stack.steps)), before)


def same(one: Decision, two: Decision) -> bool:
    """Return whether two decisions are equal in every field."""
    mine, yours = vars(one) | {"output_times": 0}, vars(two) | {"output_times": 0}
    return mine == yours and torch.equal(one.output_times, two.output_times)


def by_hand(**changes: Any) -> Stack:
    neuron = Causal(threshold=1.0, **changes)
    return stack_of(8, [neuron, neuron], [[[1.0, 0, 0], [0, 0.5, 0.5]], [[0, 1.0], [0.5, 0.5]]])


@pytest.mark.parametrize(
    ("times", "changes", "expected"),
    [
        # Hidden 0 fires with input 0 at 2, hidden 1 with inputs 1 and 2 at 5; then both outputs at 5.
        ([2, 4, 5], {}, (-1, 5, (3, 2, 2), 10, [5, 5], True, False)),
        # Without input 0 output 1 gets half of what it needs.
        ([8, 4, 5], {}, (0, 5, (2, 1, 1), 6, [5, 8], False, False)),
        # Input 0 comes after the decision.
        ([6, 4, 5], {}, (0, 5, (2, 1, 1), 6, [5, 8], False, False)),
        # Strict: 1 is not above 1.
        ([2, 4, 5], {"strict": True}, (-1, 8, (3, 0, 0), 6, [8, 8], False, True)),
        # One step per layer; the hidden spikes of 3 and 6 reach the outputs, which fire at 7.
        ([2, 4, 5], {"delay": 1}, (-1, 7, (3, 2, 2), 10, [7, 7], True, False)),
        # Input 0 crosses at 6 and its neuron fires at 7, the step of the decision: counted, and in vain.
        ([6, 4, 5], {"delay": 1}, (0, 7, (3, 2, 1), 10, [7, 8], False, False)),
        # Two steps per layer: the outputs' crossing at 7 would come out at 9, which is silence.
        ([2, 4, 5], {"delay": 2}, (-1, 8, (3, 2, 0), 10, [8, 8], False, True)),
        ([8, 8, 8], {}, (-1, 8, (0, 0, 0), 0, [8, 8], False, True)),
    ],
)
def test_by_hand(times: list[int], changes: dict[str, Any], expected: tuple[Any, ...]) -> None:
    found = Engine(by_hand(**changes)).run(Spikes(times, 8))
    assert (
        found.label,
        found.step,
        found.spikes,
        found.synaptic_operations,
        found.output_times.tolist(),
        found.tied,
        found.silent,
    ) == expected


def random_stack(steps: int = 64) -> Stack:
    neuron = Causal(threshold=2.0)
    source = seeded(0)
    weights = [torch.rand(30, 40, generator=source) - 0.2, torch.rand(5, 30, generator=source) - 0.2]
    return stack_of(steps, [neuron, neuron], weights)


def images(count: int) -> Spikes:
    return Spikes(torch.randint(0, 65, (count, 40), generator=seeded(1)), 64)


def test_one_image_and_many_say_the_same() -> None:
    engine, spikes = Engine(random_stack()), images(30)
    many = engine.run_many(spikes)
    for k in range(30):
        one = engine.run(spikes[k])
        assert (one.label, one.step) == (int(many.labels[k]), int(many.steps[k]))
        assert one.spikes == tuple(many.spikes[k].tolist())
        assert torch.equal(one.output_times, many.output_times[k])
    assert engine.run_many(spikes[:0]).labels.shape == (0,)


def test_an_early_exit_saves_operations() -> None:
    engine, spikes = Engine(random_stack()), images(30)
    early, late = engine.run_many(spikes), engine.run_many(spikes, early_exit=False)
    assert (early.synaptic_operations < late.synaptic_operations).all()


def test_the_number_of_steps_does_not_matter() -> None:
    spikes = images(30)
    few = Engine(random_stack()).run_many(spikes)
    many = Engine(random_stack(64 * 1000)).run_many(Spikes(spikes.times * 1000, 64 * 1000))
    assert torch.equal(many.steps, few.steps * 1000)
    assert torch.equal(many.synaptic_operations, few.synaptic_operations)


def test_weights_are_copied() -> None:
    stack = random_stack()
    engine, image = Engine(stack), images(1)[0]
    before = engine.run(image)
    with torch.no_grad():
        for layer in stack:
            layer.weight.zero_()
    assert same(engine.run(image), before)
    assert Engine(stack).run(image).silent


@pytest.mark.parametrize(
    "change",
    [
        lambda times: times.double(),
        lambda times: torch.zeros(80)[::2].copy_(times),
        lambda times: times.clone().requires_grad_(),
    ],
)
def test_types_and_layouts_of_times(change: Callable[[Tensor], Tensor]) -> None:
    engine, image = Engine(random_stack()), images(1)[0]
    assert same(engine.run(image.with_times(change(image.times))), engine.run(image))


def test_threads_do_not_disturb_each_other() -> None:
    engine, spikes = Engine(random_stack()), images(400)
    singles = [spikes[k] for k in range(400)]
    expected = [engine.run(image) for image in singles]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine.run, singles))
    assert all(same(one, two) for one, two in zip(found, expected, strict=True))


# What is refused


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (torch.zeros(40), TypeError, ("Spikes", "encode")),
        # A window of another length.
        (Spikes(torch.zeros(40), 8), ValueError, ("64", "8")),
        (Spikes(torch.zeros(39), 64), ValueError, ("(40)", "(39,)")),
        (Spikes(torch.zeros(1, 40), 64), ValueError, ("(40)", "(1, 40)")),
        # What a layer of one's own may make.
        (Spikes.trusted(torch.full((40,), math.nan), 64), ValueError, ("NaN",)),
        (Spikes.trusted(torch.full((40,), 0.5), 64), ValueError, ("integer", "0.5")),
        (Spikes.trusted(torch.full((40,), 65.0), 64), ValueError, ("0 ... 64", "65")),
        (Spikes.trusted(torch.full((40,), -1.0), 64), ValueError, ("0 ... 64", "-1")),
        (Spikes.trusted(torch.zeros(40, device="meta"), 64), ValueError, ("CPU", "meta")),
    ],
)
def test_bad_times_are_one_clear_error(image: Any, error: type[Exception], words: tuple[str, ...]) -> None:
    engine = Engine(random_stack())
    with refused(error, *words):
        engine.run(image)
    if isinstance(image, Spikes) and image.shape == (40,) and image.device.type == "cpu":
        two = torch.stack([torch.zeros_like(image.times), image.times])
        with refused(error, *words):
            engine.run_many(image.with_times(two))


def test_many_images_have_an_axis_more() -> None:
    with refused(ValueError, "(images, 40)", "(40,)"):
        Engine(random_stack()).run_many(Spikes(torch.zeros(40), 64))


def broken(value: float, name: str) -> Stack:
    stack = Stack(Linear(3, 3, Causal()), Linear(3, 2, Causal(), bias=True), steps=8)
    with torch.no_grad():
        getattr(stack[1], name).view_as(getattr(stack[1], name)).select(0, 0).fill_(value)
    return stack


@pytest.mark.parametrize(
    ("stack", "error", "words"),
    [
        *[
            (Stack(Linear(3, 3, Causal()), Linear(3, 3, neuron), steps=8), ValueError, ("layer 1", words))
            for neuron, words in [(Window(), "Window"), (Ramp(), "Ramp")]
        ],
        (
            Stack(Linear(3, 3, Phased(source=(0, 4), target=(2, 8))), steps=8),
            ValueError,
            ("layer 0", "Phased"),
        ),
        (
            Stack(Linear(3, 3, Causal(bias="current"), bias=True), steps=8),
            ValueError,
            ("layer 0", "current"),
        ),
        (
            Stack(Linear(3, 3, Causal(), shortcuts=[Connection.linear(3, 3, source=0)]), steps=8),
            ValueError,
            ("layer 0", "more than the one before"),
        ),
        *[
            (broken(value, "weight"), ValueError, ("layer 1", "weights", "NaN"))
            for value in (math.nan, math.inf)
        ],
        *[
            (broken(value, "bias"), ValueError, ("layer 1", "bias", "NaN"))
            for value in (math.nan, -math.inf)
        ],
        (random_stack().to(torch.bfloat16), TypeError, ("float32", "bfloat16")),
        (
            Stack(Linear(3, 3, Causal()).double(), Linear(3, 2, Causal()), steps=8),
            TypeError,
            ("float32", "float64"),
        ),
    ],
)
def test_networks_that_it_cannot_run(stack: Stack, error: type[Exception], words: tuple[str, ...]) -> None:
    with refused(error, *words):
        Engine(stack)


def test_only_a_stack_is_run() -> None:
    with refused(TypeError, "Stack", "Sequential", "spiking_form"):
        Engine(torch.nn.Sequential(Linear(3, 2, Causal())))  # type: ignore[arg-type]


def test_shapes_of_maps_are_checked() -> None:
    stack = Stack(Conv2d(2, 3, 3, Causal()), Linear(48, 4, Causal()), steps=16)
    for shape, words in ((None, ("in_shape",)), ((3, 6, 6), ("takes maps",)), ((2, 7, 6), ("takes 48",))):
        with refused(ValueError, *words):
            Engine(stack, shape)


class Summing(Causal):
    """A neuron of a user's own that sums weights, behind any connection."""

    def check(self, connection: Any) -> None:
        pass


def test_a_neuron_of_ones_own_runs_where_it_sums_weights() -> None:
    weight = torch.rand(5, 40, generator=seeded(0)) - 0.2
    found, expected = (Engine(stack_of(64, [kind(threshold=2.0)], [weight])) for kind in (Summing, Causal))
    assert same(found.run(images(1)[0]), expected.run(images(1)[0]))
    with refused(ValueError, "transposed", "layer 0"):
        Engine(Stack(ConvTranspose2d(1, 1, 2, Summing()), steps=8), (1, 3, 3))
