"""A stack as a value, and the stack that is built of it."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from builders import draw_spikes, refused, seeded

import firstspike as fs
from firstspike import Causal, Connection, Conv2d, ConvTranspose2d, Linear, Phased, Ramp, Window
from firstspike.nn.description import PoolDescription, StackDescription, describe

CAUSAL = Causal(threshold=0.3, delay=1, strict=True)


@dataclass(frozen=True, kw_only=True)
class Late(Window):
    """A neuron of a user's own."""

    wait_steps: int = 3

    def waits(self, steps: int) -> int:
        return steps + self.wait_steps


def by_place() -> fs.Stack:
    """A bias for each place, shortcuts, sources, and pools of both kinds."""
    window = Window(high=3.0, steps=8)
    stack = fs.Stack(
        Conv2d(2, 4, (3, 2), window, padding=(1, 0), groups=2, generator=seeded(0)),
        fs.EarliestPool2d((2, 1), padding=(1, 0)),
        ConvTranspose2d(
            4, 2, 2, Late(steps=8), stride=(1, 2), padding=(0, 1), source=1, generator=seeded(1)
        ),
        Linear(
            4 * 6 * 4,
            5,
            Window.output(steps=32),
            source=1,
            shortcuts=[Connection.linear(2 * 7 * 6, 5, source=3, bias=True, generator=seeded(3))],
            generator=seeded(4),
        ),
        steps=16,
    )
    stack[0].bias = torch.nn.Parameter(torch.randn(4, 6, 4, generator=seeded(5)))
    return stack


def pooled() -> fs.Stack:
    return fs.Stack(
        Conv2d(2, 4, 3, CAUSAL, padding=1, generator=seeded(0)),
        fs.AvgPool2d(2, Causal(threshold=0.5, strict=True, delay=2), stride=(2, 1)),
        fs.AvgPool2d(3, Causal(threshold=1 / 3), padding=1),
        Linear(4 * 1 * 2, 5, Causal(bias="current"), bias=True, generator=seeded(1)),
        steps=16,
    )


def dense(*neurons: fs.Neuron) -> fs.Stack:
    sizes = ((60, 7), (7, 5))
    return fs.Stack(
        *(
            Linear(*two, one, generator=seeded(k))
            for k, (two, one) in enumerate(zip(sizes, neurons, strict=True))
        ),
        steps=16,
    )


STACKS = {
    "by place": by_place,
    "pooled": pooled,
    "ramp": lambda: dense(Ramp(threshold=2.0, silent_slope=0.1), Ramp()),
    "phased": lambda: dense(
        Phased(source=(0, 8), target=(4, 12)), Phased(source=(4, 12), target=(8, 16), low=-0.5)
    ),
    "double": lambda: dense(Window(), Window.output(steps=64)).double(),
}


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_a_stack_is_built_again_to_the_bit(make: Any) -> None:
    stack = make()
    description = describe(stack)
    before = torch.random.get_rng_state()
    again = description.build()
    assert torch.random.get_rng_state().equal(before)
    assert describe(again) == description
    assert hash(description) == hash(describe(again))
    again.load_state_dict(stack.state_dict())
    assert all(a.dtype == b.dtype for a, b in zip(stack.parameters(), again.parameters(), strict=True))
    shape = (2, 6, 5) if "Conv2d" in type(stack[0]).__name__ else (60,)
    spikes = draw_spikes(9, *shape)
    (one, membrane), (two, other) = stack.read(spikes), again.read(spikes)
    assert [layer.steps for layer in one] == [layer.steps for layer in two]
    assert all(torch.equal(a.times, b.times) for a, b in zip(one, two, strict=True))
    assert torch.equal(membrane, other)
    assert any(not bool(layer.silent.all()) for layer in one[1:])
    assert (stack.offsets, stack.last_step) == (again.offsets, again.last_step)


class Mine(fs.Linear):
    """A layer whose computation no field tells."""


class MyStack(fs.Stack):
    """Likewise."""


class MyConnection(fs.Connection):
    """Likewise."""


def test_what_no_description_holds_is_refused_by_its_name() -> None:
    with refused(TypeError, "firstspike.Stack", "Linear"):
        describe(torch.nn.Linear(3, 2))  # type: ignore[arg-type]
    with refused(TypeError, "firstspike.Stack itself", "MyStack"):
        describe(MyStack(Linear(3, 2), steps=8))
    with refused(TypeError, "Mine is a class of its own", "Linear"):
        describe(fs.Stack(Mine(3, 2), steps=8))
    own = MyConnection(fs.Linear(3, 2).wiring, source=0)
    with refused(TypeError, "MyConnection is a class of its own"):
        describe(fs.Stack(Linear(3, 2, shortcuts=[own]), steps=8))
    with refused(TypeError, "float16"):
        describe(dense(Window(), Window()).half())


def test_a_description_of_no_stack_is_refused() -> None:
    good = describe(by_place())
    with refused(ValueError, "steps"):
        StackDescription(layers=good.layers, steps=1).build()
    with refused(ValueError, "at least one layer"):
        StackDescription(layers=(), steps=8).build()
    pool = PoolDescription(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0), source=None, neuron=Window())
    with refused(ValueError, "AvgPool2d", "Window"):
        StackDescription(layers=(pool,), steps=8).build()
    for bias in ((5,), (), (4, 0)):
        with refused(ValueError, "bias"):
            wrong = type(good.layers[0])(**(vars(good.layers[0]) | {"bias": bias}))
            StackDescription(layers=(wrong,), steps=8).build()


def test_a_bias_for_each_place_belongs_to_one_size_of_maps() -> None:
    stack = fs.Stack(Conv2d(1, 2, 3, generator=seeded(0)), steps=8)
    stack[0].bias = torch.nn.Parameter(torch.zeros(2, 4, 4))
    assert stack.shapes((1, 6, 6)) == [(1, 6, 6), (2, 4, 4)]
    with refused(ValueError, "layer 0 (Conv2d)", "bias for each place of (2, 4, 4)", "(2, 5, 4)"):
        stack.shapes((1, 7, 6))
    with refused(ValueError, "bias for each place"):
        stack(draw_spikes(3, 1, 7, 6, steps=8))
