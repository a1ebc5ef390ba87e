"""Phased neurons: the stepped simulation, causality, the window neuron's values, exact gradients."""

import pytest
import torch

from firstspike.coding import decode_phase, encode_phase
from firstspike.functional import phased_linear, phased_membrane, phased_parameters
from firstspike.kernels.reference import simulate_phased
from firstspike.neurons import Phased

T = 64
NEURON = Phased(source=(0, 16), target=(8, 40), low=0.0, high=4.0, input_low=-1.0, input_high=1.0)
APART = Phased(source=(0, 16), target=(16, 48), low=0.0, high=4.0)


def draw(seed, batch=7, inputs=12, outputs=9):
    """Dyadic numbers, so that every sum is exact in float32."""
    source = torch.Generator().manual_seed(seed)
    times = torch.randint(0, 17, (batch, inputs), generator=source).float()
    times[times == 16] = T
    weight = torch.randint(-16, 17, (outputs, inputs), generator=source).float() / 16
    bias = torch.randint(-8, 9, (outputs,), generator=source).float() / 8
    return times, weight, bias


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("neuron", [NEURON, APART], ids=["overlapping", "apart"])
def test_equals_the_stepped_simulation(seed, neuron):
    times, weight, bias = draw(seed)
    currents, threshold = phased_parameters(weight, bias, neuron)
    expected = simulate_phased(times, currents.double(), threshold.double(), T, neuron)
    assert torch.equal(phased_linear(times, weight, bias, T, neuron), expected)
    assert (expected < T).any()
    assert (expected == T).any()


def test_hand_worked_case():
    # One input at step 4 of the phase 0 ... 16, value 12/16; u = 2 * 12/16 = 1.5, value 1.5/4 of the
    # phase 16 ... 48, so it fires at 48 - 32 * 0.375 = 36.
    times = torch.tensor([[4.0]])
    assert phased_membrane(times, torch.tensor([[2.0]]), None, T, APART).item() == 1.5
    assert phased_linear(times, torch.tensor([[2.0]]), None, T, APART).item() == 36.0
    assert phased_linear(times, torch.tensor([[-2.0]]), None, T, APART).item() == T


def test_later_inputs_change_nothing_before_them():
    times, weight, bias = draw(11)
    out = phased_linear(times, weight, bias, T, NEURON)
    for cut in (4, 9, 13):
        moved = torch.where(times >= cut, torch.tensor(float(T)), times)
        other = phased_linear(moved, weight, bias, T, NEURON)
        early = out <= cut
        assert torch.equal(out[early], other[early])
        assert (other[~early] > cut).all()


def test_after_the_gate_it_is_the_window_neurons_value():
    times, weight, bias = draw(5)
    out = phased_linear(times, weight, bias, T, APART)
    value = phased_membrane(times, weight, bias, T, APART) / 4
    asked = torch.ceil(48 - 32 * value)
    late = (out > 16) & (out < T)
    assert late.any()
    assert torch.equal(out[late], asked[late])


def test_gradient_of_late_spikes_is_that_of_the_linear_map():
    times, weight, bias = draw(5)
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    times = times.requires_grad_()
    out = phased_linear(times, weight, bias, T, APART)
    late = ((out > 16) & (out < T)).float().detach()
    (out * late).sum().backward()
    ours = [weight.grad.clone(), bias.grad.clone(), times.grad.clone()]
    weight.grad = bias.grad = times.grad = None
    asked = 48 - 32 * phased_membrane(times, weight, bias, T, APART) / 4
    (asked * late).sum().backward()
    torch.testing.assert_close(ours[0], weight.grad)
    torch.testing.assert_close(ours[1], bias.grad)
    heard = times.detach() < T
    torch.testing.assert_close(ours[2][heard], times.grad[heard])


def test_saturation_and_silence_drop_outward_gradients():
    neuron = Phased(source=(0, 16), target=(8, 40), saturates=True)
    times = torch.zeros(1, 1)
    for value, outward in ((9.0, 1.0), (-9.0, -1.0)):
        for sign in (1.0, -1.0):
            weight = torch.tensor([[value]], requires_grad=True)
            phased_linear(times, weight, None, T, neuron).backward(torch.tensor([[sign]]))
            assert (weight.grad.item() == 0) == (sign == outward)


def test_phase_coding_round_trip_and_refusals():
    times = torch.cat([torch.arange(48.0, 304.0), torch.tensor([400.0])])
    assert torch.equal(encode_phase(decode_phase(times, (48, 304)).double(), (48, 304), 400), times)
    assert decode_phase(torch.tensor([10.0, 48.0, 304.0, 400.0]), (48, 304)).tolist() == [1, 1, 0, 0]
    assert encode_phase(torch.tensor([0, 255], dtype=torch.uint8), (48, 304), 400).tolist() == [400, 48]
    with pytest.raises(ValueError, match="must end by num_steps = 32"):
        phased_linear(torch.zeros(1, 1), torch.ones(1, 1), None, 32, APART)
    with pytest.raises(ValueError, match="first < last"):
        Phased(source=(5, 5), target=(8, 40))
