import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstspike.decision import STRICT
from firstspike.engine import Decision, Engine
from firstspike.metrics.cost import (
    spikes_per_layer,
    spikes_to_decision,
    steps_to_decision,
    synaptic_operations,
)
from firstspike.neurons import Causal, Neuron, Phased, Window
from firstspike.nn import AvgPool2d, Conv2d, Layer, Linear, Stack


def dense(sizes: list[int], num_steps: int, neurons: list[Neuron], weights: list[Any]) -> Stack:
    """Return a stack with the given weights ``(out, in)``."""
    layers = []
    for (inputs, outputs), neuron, weight in zip(pairwise(sizes), neurons, weights, strict=True):
        layers.append(Linear(inputs, outputs, num_steps, neuron))
        layers[-1].weight.data = torch.as_tensor(weight)
    return Stack(layers)


@st.composite
def stacks(draw: st.DrawFn) -> tuple[Stack, Tensor]:
    """Draw a causal stack and images for it: ties, silence, delays, strict thresholds, both precisions."""
    sizes = draw(st.lists(st.sampled_from([1, 2, 5, 15, 16, 33, 70]), min_size=2, max_size=4))
    num_steps = draw(st.sampled_from([2, 3, 8, 256, 300, 65_535]))
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
    stack = dense(sizes, num_steps, neurons, weights)
    count = draw(st.integers(1, 4))
    latest = draw(st.sampled_from([1, 4, num_steps]))
    times = rng.integers(0, min(latest, num_steps) + 1, (count, sizes[0]))
    silent = rng.random((count, sizes[0])) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    return stack, torch.from_numpy(np.where(silent, num_steps, times)).float()


def naive(stack: Stack, times_I: list[int], early_exit: bool) -> tuple[list[list[int]], int, int]:
    """Walk through every step; return the spike times of all layers, the decision's step and the additions.

    After the step of the first output spike, if `early_exit`, nothing is looked at any more.
    """
    num_steps = stack.num_steps
    layers = [(layer.weight.detach().numpy(), layer.neuron) for layer in stack]
    times = [list(times_I), *([num_steps] * len(weight) for weight, _ in layers)]
    crossed = [[False] * len(weight) for weight, _ in layers]
    membranes = [np.zeros(len(weight), weight.dtype) for weight, _ in layers]
    operations = 0
    for t in range(num_steps):
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
                    times[d + 1][j] = min(t + neuron.delay, num_steps)
        if early_exit and t == min(times[-1]):
            break
    step = min(times[-1])
    if early_exit:
        times[-1] = [at if at <= step else num_steps for at in times[-1]]
    return times, step, operations


def check_against_trace(stack: Stack, times: Tensor) -> None:
    """Compare every field of both walks with the trace of the whole window and the metrics' counts."""
    engine = Engine(stack, tuple(times.shape[1:]))
    with torch.no_grad():
        traced = stack.trace(times)
    output = traced[-1].flatten(1)
    early, late = engine.run_many(times), engine.run_many(times, early_exit=False)

    steps = steps_to_decision(stack, output)
    for found in (early, late):
        assert torch.equal(found.labels, STRICT.decide(output, stack.num_steps))
        assert torch.equal(found.steps.float(), steps)
        assert torch.equal(found.silent, steps == stack.num_steps)
        assert torch.equal(found.tied, ((output == steps[:, None]).sum(1) > 1) & ~found.silent)
    assert torch.equal(early.spikes.float(), spikes_to_decision(stack, traced))
    assert torch.equal(early.synaptic_operations.float(), synaptic_operations(stack, traced))
    at_first = torch.where(output == steps[:, None], output, float(stack.num_steps))
    assert torch.equal(early.output_times, at_first)

    assert torch.equal(late.spikes.float(), spikes_per_layer(stack, traced))
    all_additions = synaptic_operations(stack, traced, until_decision=False)
    assert torch.equal(late.synaptic_operations.float(), all_additions)
    assert torch.equal(late.output_times, output)


@settings(deadline=None, max_examples=150)
@given(drawn=stacks())
def test_a_decision_is_that_of_the_whole_trace(drawn: tuple[Stack, Tensor]) -> None:
    check_against_trace(*drawn)


@st.composite
def map_stacks(draw: st.DrawFn) -> tuple[Stack, Tensor]:
    """Draw convolutions and poolings, perhaps a linear layer after them, and images for them."""
    num_steps = draw(st.sampled_from([2, 8, 300]))
    shape = tuple(draw(st.integers(low, high)) for low, high in ((1, 4), (3, 8), (3, 8)))
    source = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    times = torch.randint(0, num_steps + 1, (draw(st.integers(1, 3)), *shape), generator=source).float()
    layers: list[Layer] = []
    for _ in range(draw(st.integers(1, 3))):
        neuron = Causal(
            threshold=draw(st.sampled_from([0.25, 0.5])),
            strict=draw(st.booleans()),
            delay=draw(st.sampled_from([0, 0, 1])),
        )
        kernel = tuple(draw(st.integers(1, min(3, size))) for size in shape[1:])
        stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
        if draw(st.booleans()):
            layers.append(AvgPool2d(kernel, num_steps, neuron, stride=stride))  # type: ignore[arg-type]
        else:
            groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if shape[0] % g == 0]))
            outputs = groups * draw(st.sampled_from([1, 2, 7, 8, 17]))
            padding = draw(st.integers(0, 2))
            convolution = Conv2d(
                shape[0], outputs, kernel, num_steps, neuron,
                stride=stride, padding=padding, groups=groups, generator=source,
            )  # fmt: skip
            convolution.weight.data = convolution.weight.data * 2 + 0.05
            layers.append(convolution)
        shape = layers[-1].out_shape(shape)
    if draw(st.booleans()):
        layers.append(Linear(math.prod(shape), 5, num_steps, Causal(threshold=0.5), generator=source))
    stack = Stack(layers)
    return (stack.double() if draw(st.booleans()) else stack), times


@settings(deadline=None, max_examples=100)
@given(drawn=map_stacks())
def test_a_decision_on_maps_is_that_of_the_whole_trace(drawn: tuple[Stack, Tensor]) -> None:
    check_against_trace(*drawn)


def test_one_image_of_maps() -> None:
    layers = [Conv2d(2, 3, 3, 16, Causal(threshold=0.3)), AvgPool2d(2, 16), Linear(12, 4, 16, Causal())]
    with torch.no_grad():
        for layer in (layers[0], layers[2]):
            layer.weight.abs_()
    engine = Engine(Stack(layers), (2, 6, 6))
    times = torch.randint(0, 17, (5, 2, 6, 6), generator=torch.Generator().manual_seed(0)).float()
    many = engine.run_many(times)
    assert not many.silent.all()
    for k, image in enumerate(times):
        assert engine.run(image).synaptic_operations == many.synaptic_operations[k]
    with pytest.raises(ValueError, match=r"the shape \(2, 6, 6\), found \(72,\)"):
        engine.run(times[0].flatten())


def test_shapes_of_maps_are_checked() -> None:
    stack = Stack([Conv2d(2, 3, 3, 16, Causal()), Linear(48, 4, 16, Causal())])
    with pytest.raises(ValueError, match="in_shape"):
        Engine(stack)
    with pytest.raises(ValueError, match="takes maps"):
        Engine(stack, (3, 6, 6))
    with pytest.raises(ValueError, match="takes 48 features"):
        Engine(stack, (2, 7, 6))


@settings(deadline=None, max_examples=80)
@given(drawn=stacks().filter(lambda drawn: drawn[0].num_steps < 1000), early_exit=st.booleans())
def test_a_decision_is_that_of_a_walk_through_every_step(
    drawn: tuple[Stack, Tensor], early_exit: bool
) -> None:
    stack, times = drawn
    engine = Engine(stack)
    for image in times:
        seen, step, operations = naive(stack, image.int().tolist(), early_exit)
        found = engine.run(image, early_exit=early_exit)
        assert found.output_times.tolist() == seen[-1]
        assert found.step == step
        assert found.synaptic_operations == operations
        last = step if early_exit else stack.num_steps - 1
        assert found.spikes == tuple(
            sum(at <= last and at < stack.num_steps for at in layer) for layer in seen
        )


@settings(deadline=None, max_examples=60)
@given(drawn=stacks(), data=st.data())
def test_an_input_after_the_decision_changes_nothing(
    drawn: tuple[Stack, Tensor], data: st.DataObject
) -> None:
    stack, times = drawn
    engine = Engine(stack)
    image = times[0]
    before = engine.run(image)
    late = (image > before.step).nonzero().flatten().tolist()
    if before.step + 1 >= stack.num_steps or not late:
        return
    changed = image.clone()
    for place in data.draw(st.lists(st.sampled_from(late), min_size=1)):
        changed[place] = data.draw(st.integers(before.step + 1, stack.num_steps))
    assert same(engine.run(changed), before)


def same(one: Decision, two: Decision) -> bool:
    """Return whether two decisions are equal in every field."""
    mine, yours = vars(one) | {"output_times": 0}, vars(two) | {"output_times": 0}
    return mine == yours and torch.equal(one.output_times, two.output_times)


def by_hand(**changes: Any) -> Stack:
    neuron = Causal(threshold=1.0, **changes)
    return dense([3, 2, 2], 8, [neuron, neuron], [[[1.0, 0, 0], [0, 0.5, 0.5]], [[0, 1.0], [0.5, 0.5]]])


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
    found = Engine(by_hand(**changes)).run(torch.tensor(times))
    assert (
        found.label,
        found.step,
        found.spikes,
        found.synaptic_operations,
        found.output_times.tolist(),
        found.tied,
        found.silent,
    ) == expected


def random_stack(num_steps: int = 64) -> Stack:
    neuron = Causal(threshold=2.0)
    source = torch.Generator().manual_seed(0)
    weights = [torch.rand(30, 40, generator=source) - 0.2, torch.rand(5, 30, generator=source) - 0.2]
    return dense([40, 30, 5], num_steps, [neuron, neuron], weights)


def images(count: int, num_steps: int = 64) -> Tensor:
    source = torch.Generator().manual_seed(1)
    return torch.randint(0, num_steps + 1, (count, 40), generator=source).float()


def test_one_image_and_many_say_the_same() -> None:
    engine, times = Engine(random_stack()), images(30)
    many = engine.run_many(times)
    for k in range(30):
        one = engine.run(times[k])
        assert (one.label, one.step) == (int(many.labels[k]), int(many.steps[k]))
        assert one.spikes == tuple(many.spikes[k].tolist())
        assert torch.equal(one.output_times, many.output_times[k])
    assert engine.run_many(times[:0]).labels.shape == (0,)


def test_an_early_exit_saves_operations() -> None:
    engine, times = Engine(random_stack()), images(30)
    early, late = engine.run_many(times), engine.run_many(times, early_exit=False)
    assert (early.synaptic_operations < late.synaptic_operations).all()


def test_the_number_of_steps_does_not_matter() -> None:
    times = images(30)
    few = Engine(random_stack()).run_many(times)
    many = Engine(random_stack(64 * 1000)).run_many(times * 1000)
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
        lambda times: times.to(torch.int64),
        lambda times: times.double(),
        lambda times: times.to(torch.uint8),
        lambda times: torch.zeros(80)[::2].copy_(times),
        lambda times: times.clone().requires_grad_(),
    ],
)
def test_types_and_layouts_of_times(change: Callable[[Tensor], Tensor]) -> None:
    engine, image = Engine(random_stack()), images(1)[0]
    assert same(engine.run(change(image)), engine.run(image))


def test_threads_do_not_disturb_each_other() -> None:
    engine, times = Engine(random_stack()), images(400)
    expected = [engine.run(image) for image in times]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine.run, times))
    assert all(same(one, two) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        ([0.0] * 40, TypeError, "found list"),
        (torch.zeros(40, dtype=torch.bool), TypeError, "torch.bool"),
        (torch.zeros(39), ValueError, r"the shape \(40\), found \(39,\)"),
        (torch.zeros(1, 40), ValueError, r"the shape \(40\), found \(1, 40\)"),
        (torch.full((40,), float("nan")), ValueError, "times holds NaN"),
        (torch.full((40,), 0.5), ValueError, "whole steps, found 0.5"),
        (torch.full((40,), 65.0), ValueError, r"0 \.\.\. 64 .*found 65.0"),
        (torch.full((40,), -1, dtype=torch.int8), ValueError, "found -1.0"),
        (torch.full((40,), float("inf")), ValueError, "found inf"),
        (torch.zeros(40, device="meta"), ValueError, "the engine runs on the CPU"),
    ],
)
def test_bad_times_are_one_clear_error(times: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Engine(random_stack()).run(times)
    if isinstance(times, Tensor) and times.shape == (40,) and times.device.type == "cpu":
        with pytest.raises(error, match=message):
            Engine(random_stack()).run_many(torch.stack([torch.zeros(40, dtype=times.dtype), times]))


def test_other_shapes_of_many_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the shape \(images, 40\), found \(40,\)"):
        Engine(random_stack()).run_many(torch.zeros(40))


@pytest.mark.parametrize(
    ("neuron", "depth"),
    [
        (Window(), 0),
        (Phased(source=(0, 4), target=(2, 8)), 0),
        (Causal(synapse="ramp"), 1),
    ],
)
def test_other_neurons_are_refused(neuron: Neuron, depth: int) -> None:
    layers = [Linear(3, 3, 8, Causal()), Linear(3, 3, 8, Causal())]
    layers[depth] = Linear(3, 3, 8, neuron)
    with pytest.raises(ValueError, match=f"share one clock; layer {depth} has {type(neuron).__name__}"):
        Engine(Stack(layers))


def test_bad_weights_are_refused() -> None:
    stack = random_stack()
    next(iter(stack)).weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="weights of layer 0 hold NaN or infinity"):
        Engine(stack)
    stack = random_stack()
    next(iter(stack)).double()
    with pytest.raises(TypeError, match="all float32 or all float64"):
        Engine(stack)
    with pytest.raises(TypeError, match="bfloat16"):
        Engine(random_stack().to(torch.bfloat16))
