from typing import Any

import pytest
import torch
from torch import Tensor

from firstspike.functional import (
    causal_linear,
    causal_membrane,
    phased_linear,
    phased_membrane,
    window_fire,
    window_membrane,
)
from firstspike.kernels.reference import simulate_causal, simulate_window
from firstspike.neurons import Causal, Neuron, Phased, Window
from firstspike.nn import Linear

T = 16
NEURONS = [
    Causal(threshold=2.0),
    Causal(threshold=4.0, synapse="ramp"),
    Window(high=1.0, out_steps=8),
    Phased(source=(0, 12), target=(4, 16), low=-0.5, high=0.5),
]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_times(batch: int = 7, features: int = 12) -> Tensor:
    return torch.randint(0, T + 1, (batch, features), generator=seeded(5)).float()


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("training", [True, False])
def test_a_layer_is_its_functions(neuron: Neuron, training: bool) -> None:
    bias = not isinstance(neuron, Causal)
    layer = Linear(12, 5, T, neuron, bias=bias, generator=seeded(0)).train(training)
    times, weight = some_times(), layer.weight
    if isinstance(neuron, Window):
        membrane = window_membrane(times, weight, layer.bias, T, neuron)
        expected = window_fire(membrane, 8, neuron)
    elif isinstance(neuron, Phased):
        membrane = phased_membrane(times, weight, layer.bias, T, neuron)
        expected = phased_linear(times, weight, layer.bias, T, neuron)
    else:
        membrane = causal_membrane(times, weight, T, neuron)
        expected = causal_linear(times, weight, T, neuron)
    assert torch.equal(layer(times), expected)
    assert torch.equal(layer.membrane(times), membrane)
    both = layer.read(times)
    assert torch.equal(both[0], expected)
    assert torch.equal(both[1], membrane)
    assert expected.unique().numel() > 2


def test_a_layer_fires_as_the_simulators_do() -> None:
    times = some_times()
    with torch.no_grad():
        causal = Linear(12, 5, T, Causal(threshold=2.0), generator=seeded(1))
        assert torch.equal(causal(times), simulate_causal(times, causal.weight, T, causal.neuron))
        window = Linear(12, 5, T, Window(high=1.0), bias=True, generator=seeded(1))
        window.weight.copy_((window.weight * 64).round() / 64)
        assert window.bias is not None
        window.bias.copy_((window.bias * 64).round() / 64)
        expected = simulate_window(times, window.weight, window.bias, T, window.neuron)
        assert torch.equal(window(times), expected)


@pytest.mark.parametrize("neuron", NEURONS)
def test_initial_weights(neuron: Neuron) -> None:
    layer = Linear(400, 60, T, neuron, generator=seeded(0))
    bound = 400**-0.5 * (neuron.threshold if isinstance(neuron, Causal) else 1)
    assert layer.weight.shape == (60, 400)
    assert layer.weight.abs().max() <= bound
    assert layer.weight.abs().max() > 0.99 * bound
    assert layer.weight.mean().abs() < 0.02 * bound
    # An input spike reads one contiguous run.
    assert layer.weight.t().is_contiguous()
    assert torch.equal(layer.weight, Linear(400, 60, T, neuron, generator=seeded(0)).weight)
    assert not torch.equal(layer.weight, Linear(400, 60, T, neuron, generator=seeded(1)).weight)
    assert layer.bias is None


def test_without_a_generator_the_global_one_is_used() -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(Linear(4, 3, T, Causal()).weight)
    assert torch.equal(*weights)


def test_a_bias_is_learnt() -> None:
    layer = Linear(4, 3, T, Window(high=8.0), bias=True, generator=seeded(0))
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([1.0, 4.0, 8.0]))
    out = layer(torch.zeros(1, 4))
    # u = b, so V = b / 8 * 16.
    assert out.tolist() == [[14, 8, 0]]
    out.sum().backward()
    assert layer.bias.grad is not None
    assert layer.bias.grad.tolist() == [-2, -2, -2]


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.uint8])
def test_times_of_any_number_type_mean_the_same(neuron: Neuron, dtype: torch.dtype) -> None:
    layer = Linear(12, 5, T, neuron, dropout=0.5, generator=seeded(0)).eval()
    times = some_times()
    assert torch.equal(layer(times.to(dtype)), layer(times))
    assert torch.equal(layer.read(times.to(dtype))[1], layer.membrane(times))
    layer.train()
    assert layer(times.to(dtype)).shape == (7, 5)


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_state_dict_restores_the_layer(neuron: Neuron) -> None:
    bias = not isinstance(neuron, Causal)
    one = Linear(12, 5, T, neuron, bias=bias, generator=seeded(0))
    two = Linear(12, 5, T, neuron, bias=bias, generator=seeded(1))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(some_times()), two(some_times()))
    assert two.weight.t().is_contiguous()


# Dropout


@pytest.mark.parametrize("neuron", NEURONS)
def test_dropout_is_off_in_evaluation(neuron: Neuron) -> None:
    layer = Linear(12, 5, T, neuron, dropout=0.5, generator=seeded(0)).eval()
    plain = Linear(12, 5, T, neuron, generator=seeded(0))
    assert torch.equal(layer(some_times()), plain(some_times()))
    assert torch.equal(layer.membrane(some_times()), plain.membrane(some_times()))


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_cut_input_is_silent_and_the_others_weigh_more(neuron: Neuron) -> None:
    layer = Linear(12, 5, T, neuron, dropout=0.25, generator=seeded(0))
    times = some_times()
    torch.manual_seed(9)
    found, membrane = layer.read(times)
    torch.manual_seed(9)
    kept = torch.rand(times.shape) >= 0.25
    expected = Linear(12, 5, T, neuron, generator=seeded(0))
    with torch.no_grad():
        expected.weight.div_(0.75)
    silenced = torch.where(kept, times, float(T))
    assert 0 < (~kept).sum() < kept.numel() / 2
    assert torch.equal(found, expected(silenced))
    assert torch.equal(membrane, expected.membrane(silenced))


@pytest.mark.parametrize("neuron", [Causal(), Causal(synapse="ramp"), Window(high=9.0)])
def test_dropout_keeps_the_mean_drive(neuron: Neuron) -> None:
    layer = Linear(40, 3, T, neuron, dropout=0.3, generator=seeded(0))
    times = some_times(1, 40).expand(4000, 40)
    torch.manual_seed(0)
    with torch.no_grad():
        drive = layer.membrane(times)
        expected = layer.eval().membrane(times[:1])
    error = drive.std(0) / 4000**0.5
    assert ((drive.mean(0) - expected).abs() < 4 * error).all()


def test_a_cut_input_gets_no_gradient() -> None:
    layer = Linear(30, 4, T, Window(high=99.0), dropout=0.5, generator=seeded(0))
    times = torch.full((1, 30), 3.0, requires_grad=True)
    torch.manual_seed(1)
    (grad,) = torch.autograd.grad(layer.membrane(times).sum(), times)
    torch.manual_seed(1)
    kept = torch.rand(1, 30) >= 0.5
    assert torch.equal(grad != 0, kept)


# Errors


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (-1, 3)])
def test_sizes_below_one_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"sizes must be 1 or more, found {sizes[0]} and {sizes[1]}"):
        Linear(*sizes, T, Causal())


def test_other_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="a causal layer with the ramp synapse has no bias"):
        Linear(2, 2, T, Causal(synapse="ramp"), bias=True)
    with pytest.raises(ValueError, match="a constant current is the bias of causal neurons"):
        Linear(2, 2, T, Causal(), constant=True)
    for dropout in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\)"):
            Linear(2, 2, T, Causal(), dropout=dropout)
    with pytest.raises(ValueError, match="num_steps must be in 2"):
        Linear(2, 2, 1, Causal())


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("bad", [float("nan"), -1.0, T + 1.0, 0.5])
def test_bad_times_are_refused_by_both_neurons(neuron: Neuron, bad: float) -> None:
    layer = Linear(2, 2, T, neuron)
    times = torch.tensor([[0.0, bad]])
    call: Any
    for call in (layer, layer.membrane, layer.read):
        with pytest.raises(ValueError, match="times"):
            call(times)


def test_a_layer_prints_its_sizes_and_neuron() -> None:
    printed = repr(Linear(12, 5, T, Window(high=3.0)))
    assert printed.startswith("Linear(12, 5, num_steps=16, Window(")
    assert "high=3.0" in printed
    assert Linear(2, 2, T, Window(out_steps=8)).out_steps == 8
    assert Linear(2, 2, T, Causal()).out_steps == T
