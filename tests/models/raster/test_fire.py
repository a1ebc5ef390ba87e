"""The once-only threshold: compiled and plain form against the recursion written step by step."""

import math

import pytest
import torch

from firstspike.models.raster.fire import _Compiled, _Plain, fire
from firstspike.models.raster.settings import RasterNeuron
from firstspike.models.surrogates import KINDS, surrogate

SHAPES = [
    ((8, 3, 4, 6, 5), 1),
    ((8, 3, 4, 6, 4), 2),
    ((5, 2, 17, 3, 6), 3),
    ((7, 4, 13), 1),
    ((2, 2, 3), 1),
]
NEURONS = [
    RasterNeuron(surrogate=kind, width=1.5, gradient=gradient, fire_last=last)
    for kind in KINDS
    for gradient in ("every_step", "firing_step", "bptt")
    for last in (False, True)
]


class _Theta(torch.autograd.Function):
    """The threshold with its surrogate derivative, for autograd to unroll."""

    @staticmethod
    def forward(ctx, membrane, neuron):
        ctx.save_for_backward(membrane)
        ctx.neuron = neuron
        return (membrane >= 1).to(membrane.dtype)

    @staticmethod
    def backward(ctx, grad):
        (membrane,) = ctx.saved_tensors
        return grad * surrogate(membrane - 1, ctx.neuron.surrogate, ctx.neuron.width), None


def recursion(membrane, neuron):
    """``S[t] = Theta(H[t]) (1 - F[t-1])``, ``F[t] = F[t-1] + S[t]``, as the paper has it."""
    done, fired = torch.zeros_like(membrane[0]), []
    for potential in membrane:
        above = _Theta.apply(potential, neuron)
        if neuron.gradient == "every_step":
            # The value is the recursion's, its derivative that of this step's threshold alone.
            value = torch.maximum(done, above).detach()
            done = above + (value - above).detach()
        elif neuron.gradient == "firing_step":
            spike = (above * (1 - done)).detach()
            done = done + above * spike
        else:
            done = done + above * (1 - done)
        fired.append(done)
        if neuron.gradient == "every_step":
            done = done.detach()
    if neuron.fire_last:
        fired[-1] = torch.ones_like(fired[-1])
    return torch.stack(fired)


def pooled(fired, pool):
    if pool == 1:
        return fired
    return torch.nn.functional.avg_pool2d(fired.flatten(0, 1), pool).unflatten(0, fired.shape[:2]) * pool**2


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: f"{n.surrogate}-{n.gradient}-{n.fire_last}")
@pytest.mark.parametrize(("shape", "pool"), SHAPES)
def test_cumulative_spikes_and_gradients_are_the_recursions(neuron, shape, pool):
    torch.manual_seed(0)
    membrane = torch.randn(shape) + 0.6
    membrane[0].view(-1)[0] = 1.0
    upstream = None
    for apply in (_Compiled.apply, _Plain.apply):
        one, two = (membrane.clone().requires_grad_() for _ in range(2))
        fired = apply(one, neuron, pool, neuron.fire_last)
        expected = pooled(recursion(two, neuron), pool)
        assert torch.equal(fired, expected.detach())
        upstream = torch.randn_like(fired) if upstream is None else upstream
        fired.backward(upstream)
        expected.backward(upstream)
        assert torch.allclose(one.grad, two.grad, atol=1e-5)


@pytest.mark.parametrize(
    "neuron",
    [neuron for neuron in NEURONS if neuron.surrogate == "arctan"],
    ids=lambda n: f"{n.gradient}-{n.fire_last}",
)
@pytest.mark.parametrize(("shape", "pool"), SHAPES)
def test_half_precision_rounds_only_the_gradient(neuron, shape, pool):
    torch.manual_seed(1)
    membrane = (torch.randn(shape) + 0.6).bfloat16()
    one, two = membrane.clone().requires_grad_(), membrane.float().requires_grad_()
    forced = neuron.fire_last
    fired, expected = _Compiled.apply(one, neuron, pool, forced), _Plain.apply(two, neuron, pool, forced)
    assert fired.dtype == torch.bfloat16
    assert torch.equal(fired.float(), expected)
    upstream = torch.randn(fired.shape).bfloat16()
    fired.backward(upstream)
    expected.backward(upstream.float())
    # One rounding to 8 bits.
    assert torch.allclose(one.grad.float(), two.grad, rtol=2**-8, atol=1e-6)


def test_thread_counts_and_memory_layouts_agree():
    neuron = RasterNeuron(gradient="bptt")
    membrane = torch.randn(6, 5, 8, 4, 6)
    last = membrane.flatten(0, 1).contiguous(memory_format=torch.channels_last).reshape(membrane.shape)
    before, found = torch.get_num_threads(), []
    try:
        for threads, values in ((1, membrane), (2, membrane), (2, last)):
            torch.set_num_threads(threads)
            given = values.clone().requires_grad_()
            fired = fire(given, neuron, 2)
            fired.backward(torch.arange(fired.numel()).reshape(fired.shape).float())
            found.append((fired.detach(), given.grad))
    finally:
        torch.set_num_threads(before)
    for fired, grad in found[1:]:
        assert torch.equal(fired, found[0][0])
        assert torch.equal(grad, found[0][1])


def test_an_empty_batch():
    given = torch.empty(8, 0, 3, 4, 4, requires_grad=True)
    fired = fire(given, RasterNeuron(), 2)
    assert fired.shape == (8, 0, 3, 2, 2)
    fired.sum().backward()
    assert given.grad.shape == given.shape


def test_bad_settings_are_refused():
    for bad in ({"surrogate": "box"}, {"gradient": "none"}, {"width": 0.0}, {"width": math.inf}):
        with pytest.raises(ValueError, match=f"RasterNeuron.{next(iter(bad))}"):
            RasterNeuron(**bad)
