import torch

from firstspike.neurons import Causal
from firstspike.nn import Linear, redraw_dead


def make_layer() -> Linear:
    return Linear(200, 4, 16, Causal(), generator=torch.Generator().manual_seed(0))


def test_only_neurons_below_the_rate_are_redrawn_within_the_bounds() -> None:
    layer = make_layer()
    before = layer.weight.detach().clone()
    # S4NN's bound is strict: 0.1 % is alive.
    rates = torch.tensor([0.0, 0.001, 0.5, 0.0009])
    generator = torch.Generator().manual_seed(1)
    assert redraw_dead(layer, rates, low=2.0, high=5.0, generator=generator) == 2
    assert torch.equal(layer.weight[[1, 2]], before[[1, 2]])
    fresh = layer.weight[[0, 3]]
    assert 2 <= fresh.min() < 2.1
    assert 4.9 < fresh.max() <= 5
    assert not torch.equal(fresh[0], fresh[1])
    assert layer.weight.requires_grad
    assert layer.weight.t().is_contiguous()


def test_no_dead_neurons_no_change() -> None:
    layer = make_layer()
    before = layer.weight.detach().clone()
    assert redraw_dead(layer, torch.ones(4), low=0.0, high=1.0) == 0
    assert torch.equal(layer.weight, before)


def test_the_least_rate_may_be_given_and_draws_are_seeded() -> None:
    weights = []
    for _ in range(2):
        layer = make_layer()
        generator = torch.Generator().manual_seed(7)
        rates = torch.tensor([0.4, 0.6, 0.4, 0.6])
        assert redraw_dead(layer, rates, low=0.0, high=1.0, min_rate=0.5, generator=generator) == 2
        weights.append(layer.weight)
    assert torch.equal(*weights)


def test_a_redrawn_neuron_fires() -> None:
    layer = make_layer()
    times = torch.zeros(3, 200)
    with torch.no_grad():
        layer.weight.fill_(-1.0)
        rates = (layer(times) < 16).float().mean(0)
        assert redraw_dead(layer, rates, low=0.0, high=5.0) == 4
        assert (layer(times) == 0).all()
