from collections.abc import Callable

import pytest
import torch

from firstspike.neurons import Causal, Neuron, Phased, Window
from firstspike.nn import Linear, Stack


def layer(
    inputs: int, outputs: int, num_steps: int, neuron: Neuron, dropout: float = 0.0, seed: int = 0
) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    return Linear(inputs, outputs, num_steps, neuron, dropout=dropout, generator=generator)


def causal_stack() -> Stack:
    return Stack([layer(6, 5, 16, Causal()), layer(5, 4, 16, Causal()), layer(4, 3, 16, Causal())])


def window_stack() -> Stack:
    return Stack(
        [
            layer(6, 5, 16, Window(high=1.0, out_steps=8)),
            layer(5, 4, 8, Window(high=1.0)),
            layer(4, 3, 8, Window(high=1.0, out_steps=32)),
        ]
    )


def mixed_stack() -> Stack:
    return Stack(
        [
            layer(6, 5, 16, Causal()),
            layer(5, 4, 16, Window(high=1.0, out_steps=8)),
            layer(4, 3, 8, Causal()),
        ]
    )


@pytest.mark.parametrize("make", [causal_stack, window_stack, mixed_stack])
def test_layers_run_one_after_the_other(make: Callable[[], Stack]) -> None:
    stack = make()
    times = torch.randint(0, 17, (9, 6), generator=torch.Generator().manual_seed(0)).float()
    one, two, three = stack
    hidden = one(times)
    deeper = two(hidden)
    expected = [times, hidden, deeper, three(deeper)]
    assert torch.equal(stack(times), expected[-1])
    traced, membrane = stack.read(times)
    for found, also, wanted in zip(stack.trace(times), traced, expected, strict=True):
        assert torch.equal(found, wanted)
        assert torch.equal(also, wanted)
    assert torch.equal(membrane, three.membrane(deeper))


@pytest.mark.parametrize(
    ("make", "offsets", "out_steps"),
    [
        # One shared clock.
        (causal_stack, [0, 0, 0, 0], 16),
        # Each layer waits until its input window ends: 16, then 8, then 8 steps.
        (window_stack, [0, 16, 24, 32], 32),
        (mixed_stack, [0, 0, 16, 16], 8),
    ],
)
def test_where_the_windows_start(make: Callable[[], Stack], offsets: list[int], out_steps: int) -> None:
    stack = make()
    assert stack.offsets == offsets
    assert (stack.num_steps, stack.out_steps) == (16, out_steps)


def test_gradients_reach_every_layer() -> None:
    stack = window_stack()
    times = torch.zeros(3, 6, requires_grad=True)
    stack(times).sum().backward()
    assert all(parameter.grad is not None for parameter in stack.parameters())
    assert times.grad is not None


def test_the_mode_reaches_every_layer() -> None:
    stack = Stack([layer(6, 5, 16, Causal(), dropout=0.5), layer(5, 4, 16, Causal())])
    assert all(part.training for part in stack)
    stack.eval()
    assert not any(part.training for part in stack)
    assert sorted(stack.state_dict()) == ["layers.0.weight", "layers.1.weight"]


def test_a_single_layer_is_a_stack() -> None:
    stack = Stack([layer(6, 5, 16, Causal())])
    traced, membrane = stack.read(torch.zeros(2, 6))
    assert [tuple(times.shape) for times in traced] == [(2, 6), (2, 5)]
    assert membrane.shape == (2, 5)


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="a Stack needs at least one layer"):
        Stack([])
    with pytest.raises(ValueError, match="layer 1 gives 4 features, layer 2 takes 5"):
        Stack([layer(6, 5, 8, Causal()), layer(5, 4, 8, Causal()), layer(5, 3, 8, Causal())])
    with pytest.raises(ValueError, match="layer 0 fires in a window of 32 steps, layer 1 reads one of 16"):
        Stack([layer(6, 5, 16, Window(out_steps=32)), layer(5, 4, 16, Window())])


def test_phases_of_neighbours_must_meet():
    first = Linear(3, 4, 64, Phased(source=(0, 16), target=(8, 40)))
    second = Linear(4, 2, 64, Phased(source=(8, 32), target=(32, 64)))
    with pytest.raises(ValueError, match=r"phase \(8, 40\), layer 1 listens in \(8, 32\)"):
        Stack([first, second])
