"""Muon for convolutions against singular value decompositions and steps by hand, and how it resumes."""

import copy
import math

import pytest
import torch
from builders import refused, seeded
from safetensors.torch import load, save
from torch import nn

from firstspike.recipes.optimizers import AdamW, Muon, OrthogonalMomentum, Sgd, orthogonal
from firstspike.support import InputError
from firstspike.training.optimizer import expected_tensors, load_optimizer, optimizer_tensors, set_rate

SHAPES = [(8, 20), (20, 8), (12, 12), (1, 9), (9, 1)]


def polynomial(value):
    """One Newton-Schulz step on a singular value, as published."""
    return 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("iterations", [1, 3, 5])
def test_singular_vectors_stay_and_values_follow_the_polynomial(shape, iterations):
    matrix = torch.randn(*shape, generator=seeded(0), dtype=torch.float64) * 7
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    moved = values / values.square().sum().sqrt()
    for _ in range(iterations):
        moved = polynomial(moved)
    torch.testing.assert_close(orthogonal(matrix, iterations), left @ moved.diag() @ right)


def test_values_above_a_fiftieth_of_the_norm_come_near_1_in_three_steps():
    """What the docstring says; smaller ones do not get there, nor do others with fewer steps."""
    scale = torch.linspace(0.02, 1, 100_001, dtype=torch.float64)
    moved = polynomial(polynomial(polynomial(scale)))
    assert 0.68 < float(moved.min()) < 0.69
    assert 1.20 < float(moved.max()) < 1.21
    assert float(polynomial(polynomial(scale)).min()) < 0.3
    assert float(polynomial(polynomial(polynomial(torch.tensor(0.01))))) < 0.41


def test_gradients_of_a_filter_bank_come_near_an_orthogonal_matrix():
    matrix = torch.randn(64, 16 * 9, generator=seeded(1))
    before = torch.linalg.svdvals(matrix)
    assert float(before.min() / before.square().sum().sqrt()) > 0.02
    assert float(before.max() / before.min()) > 4
    after = torch.linalg.svdvals(orthogonal(matrix, 3))
    assert float(after.min()) > 0.68
    assert float(after.max()) < 1.21
    # A square matrix has small ones too: these only grow, by 3.4 each step.
    square = torch.randn(64, 64, generator=seeded(1))
    assert float(torch.linalg.svdvals(orthogonal(square, 3)).min()) < 0.5


def test_a_matrix_of_zeros_stays_as_it_is():
    assert orthogonal(torch.zeros(3, 5), 3).equal(torch.zeros(3, 5))
    weight = nn.Parameter(torch.zeros(2, 1, 3, 3))
    weight.grad = torch.zeros_like(weight)
    OrthogonalMomentum([weight], 0.1).step()
    assert weight.equal(torch.zeros_like(weight))


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(6, 5))
    # As the library keeps kernels.
    for layer in net[:2]:
        layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return net


def with_gradients(net, seed):
    source = seeded(seed)
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=source).to(parameter.dtype)
    return net


def test_two_steps_by_hand():
    rate, decay, momentum = 0.1, 0.3, 0.6
    muon = Muon(momentum=momentum, iterations=3, bias_rate=0.5, head_rate=0.25)
    net = network().to(torch.float64)
    expected = {name: p.detach().clone() for name, p in net.named_parameters()}
    gathered = {name: torch.zeros_like(p) for name, p in expected.items()}
    optimizer = muon.of(net, 1.0, decay)
    set_rate(optimizer, rate)
    for step in range(2):
        with_gradients(net, step)
        gradients = {name: p.grad.clone() for name, p in net.named_parameters()}
        optimizer.step()
        for name, weight in expected.items():
            gradient = gradients[name]
            if weight.dim() == 2:
                gradient = gradient + decay * weight
            gathered[name] = momentum * gathered[name] + gradient
            direction = gradient + momentum * gathered[name]
            if weight.dim() == 4:
                left, values, right = torch.linalg.svd(direction.flatten(1), full_matrices=False)
                values = values / values.square().sum().sqrt()
                for _ in range(3):
                    values = polynomial(values)
                direction = (left @ values.diag() @ right).view_as(weight)
                # As many filters as the square of its norm.
                weight = weight * math.sqrt(len(weight) / float(weight.square().sum()))
                expected[name] = weight - rate * direction
            else:
                scale = {1: 0.5, 2: 0.25}[weight.dim()]
                expected[name] = weight - rate * scale * direction
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name])


def test_all_but_the_filters_step_as_torchs_sgd_does():
    net, other = network(), network()
    muon = Muon(momentum=0.7, bias_rate=1.0, head_rate=1.0).of(net, 0.05, 0.2)
    sgd = Sgd(momentum=0.7, nesterov=True).of(other, 0.05, 0.2)
    for step in range(3):
        for one, optimizer in ((net, muon), (other, sgd)):
            with_gradients(one, step)
            optimizer.step()
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        if one.dim() == 4:
            assert not one.allclose(two)
        else:
            torch.testing.assert_close(one, two)


def test_the_norm_of_a_filter_bank_makes_no_difference():
    net, other = network(), network()
    with torch.no_grad():
        other[0].weight.mul_(100)
    for one in (net, other):
        Muon().of(with_gradients(one, 0), 0.1, 0.0).step()
    torch.testing.assert_close(net[0].weight, other[0].weight)


@pytest.mark.parametrize("optimizer", [AdamW(), Sgd(momentum=0.5), Muon()])
def test_what_is_not_trained_is_in_no_group(optimizer):
    net = network()
    net[0].requires_grad_(False)
    net[1].bias.requires_grad_(False)
    made = optimizer.of(net, 0.1, 0.1)
    stepped = {id(p) for group in made.param_groups for p in group["params"]}
    assert stepped == {id(p) for p in net.parameters() if p.requires_grad}
    before = copy.deepcopy(net.state_dict())
    with_gradients(net, 0)
    made.step()
    fixed = {name for name, p in net.named_parameters() if p.equal(before[name])}
    assert fixed == {"0.weight", "0.bias", "1.bias"}


@pytest.mark.parametrize("optimizer", [AdamW(), Sgd(), Muon()])
def test_decay_is_for_weights_only(optimizer):
    net = network()
    groups = optimizer.of(net, 0.1, 0.3).param_groups
    decays = {p.dim(): group["weight_decay"] for group in groups for p in group["params"]}
    # A filter bank of Muon's has a norm that nothing takes away.
    assert decays == {4: 0.0 if optimizer == Muon() else 0.3, 2: 0.3, 1: 0.0}


def test_biases_of_sgd_have_a_rate_of_their_own():
    net = network()
    optimizer = Sgd(momentum=0.0, bias_rate=4.0).of(net, 1.0, 0.0)
    set_rate(optimizer, 0.1)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    with_gradients(net, 0)
    optimizer.step()
    for name, parameter in net.named_parameters():
        rate = 0.4 if parameter.dim() == 1 else 0.1
        torch.testing.assert_close(parameter.detach(), before[name] - rate * parameter.grad)


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_it_goes_on_from_a_file_to_the_same_bits(steps):
    net = network()
    optimizer = Muon().of(net, 0.1, 0.1)
    for step in range(steps):
        with_gradients(net, step)
        optimizer.step()
    state = optimizer_tensors(optimizer, "o")
    expected = expected_tensors(Muon().of(network(), 0.1, 0.1), "o")
    if steps:
        assert {name: t.shape for name, t in state.items()} == {
            name: t.shape for name, t in expected.items()
        }
    state = load(save({name: t.contiguous() for name, t in state.items()}))
    other = network()
    other.load_state_dict({name: t.contiguous() for name, t in net.state_dict().items()})
    resumed = Muon().of(other, 0.1, 0.1)
    load_optimizer(resumed, state, "o")
    for step in range(steps, steps + 3):
        for one, made in ((net, optimizer), (other, resumed)):
            with_gradients(one, step)
            made.step()
    assert all(one.equal(two) for one, two in zip(net.parameters(), other.parameters(), strict=True))
    one, two = (optimizer_tensors(made, "o") for made in (optimizer, resumed))
    assert one.keys() == two.keys()
    assert all(one[name].equal(two[name]) for name in one)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Muon, {"momentum": 1.0}),
        (Muon, {"iterations": 0}),
        (Sgd, {"bias_rate": 0.0}),
        (Sgd, {"momentum": -1}),
    ],
)
def test_numbers_out_of_range_are_refused(kind, wrong):
    with refused(ValueError, f"{kind.__name__}.{next(iter(wrong))} must be"):
        kind(**wrong)


def test_nesterov_needs_a_momentum():
    with refused(InputError, "Sgd.nesterov", "momentum above 0"):
        Sgd(momentum=0.0, nesterov=True)
