"""torch.compile runs the layers as they are, between two graphs."""

import pytest
import torch

import firstspike as fs


def gradients(stack: torch.nn.Module, out: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(out.sum(), list(stack.parameters()))


@pytest.mark.slow
@pytest.mark.parametrize("neuron", [fs.Causal(), fs.Causal(synapse="ramp"), fs.Window()])
def test_a_compiled_stack_gives_the_same_times_and_gradients(neuron: fs.Causal | fs.Window) -> None:
    torch.manual_seed(0)
    stack = fs.Stack([fs.Linear(20, 30, 16, neuron), fs.Linear(30, 5, 16, neuron)])
    times = torch.randint(0, 17, (6, 20)).to(torch.float32)
    expected = stack(times)
    found = torch.compile(stack, backend="eager")(times)
    assert torch.equal(found, expected)
    for ours, theirs in zip(gradients(stack, found), gradients(stack, expected), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
def test_a_compiled_convolution_gives_the_same_times() -> None:
    torch.manual_seed(0)
    layer = fs.Conv2d(2, 3, 3, 16, fs.Causal())
    times = torch.randint(0, 17, (2, 2, 6, 6)).to(torch.float32)
    assert torch.equal(torch.compile(layer, backend="eager")(times), layer(times))


@pytest.mark.slow
def test_one_graph_for_everything_is_refused() -> None:
    layer = fs.Linear(4, 3, 8, fs.Causal())
    whole = torch.compile(layer, backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="compile"):
        whole(torch.zeros(2, 4))
