"""Operations of a one-step network, counted by hand."""

import pytest
import torch
from torch.nn import functional as F

from firstspike.metrics.cost import ADD_PJ, MULTIPLY_ADD_PJ
from firstspike.metrics.one_step import FUNCTION_PJ, MULTIPLY_PJ, carry_operations, one_step_report
from firstspike.onestep.network import OneStepNetwork
from firstspike.onestep.settings import WindowCarry


def images(count=7, shape=(1, 6, 6)):
    source = torch.Generator().manual_seed(3)
    return torch.randint(1, 256, (count, *shape), generator=source).to(torch.uint8)


def report(layout, **neuron):
    torch.manual_seed(0)
    net = OneStepNetwork(layout, (1, 6, 6), 3, WindowCarry(**neuron))
    net(images())
    return net, one_step_report(net, images(), torch.arange(7) % 3, batch_size=3)


def test_additions_are_spikes_times_fan_out_without_the_border():
    net, found = report("4-5", grid=1, carried="none")
    with torch.no_grad():
        _, first, last = net.walk(images())
    # A transposed convolution of ones says how many targets each place has.
    reach = F.conv_transpose2d(torch.ones(1, 1, 6, 6), torch.ones(1, 1, 3, 3), padding=1)
    expected = float((first.sum(1, keepdim=True) * reach).sum()) * 5 + float(last.sum())
    assert found.operations.additions == pytest.approx(expected / 7)
    # Numbers are heard by the first layer (no pixel is 0 in [-1, 1]) and by the head.
    assert found.operations.multiply_adds == pytest.approx(float(reach.sum()) * 4 + 5 * 3)
    assert found.dense_multiply_adds == 36 * 4 * 9 + 36 * 5 * 4 * 9 + 5 * 3
    assert found.spikes == pytest.approx(float(first.sum() + last.sum()) / 7)
    assert found.spikes_per_neuron_by_layer == pytest.approx(
        [float(first.mean()), float(last.mean())], rel=1e-5
    )
    # Without a carry: one shift per neuron.
    assert found.operations.carry_additions == 36 * 4 + 36 * 5
    assert found.operations.carry_functions == 0


def test_accuracy_is_that_of_the_highest_output():
    net, found = report("4-5", grid=2)
    expected = (net(images()).argmax(1) == torch.arange(7) % 3).float().mean()
    assert found.accuracy == pytest.approx(float(expected))


def test_fractions_are_multiplied_not_added():
    _, whole = report("4-4-4-4", grid=2)
    _, parts = report("4-4-4-4", grid=2, fractional=True)
    assert parts.operations.multiply_adds > whole.operations.multiply_adds
    assert parts.operations.additions < whole.operations.additions


def test_overlapping_windows_visit_places_more_than_once():
    _, plain = report("4-4-4", grid=2, windows="plain", carried="window", projection="linear")
    _, dilated = report("4-4-4", grid=2, windows="dilated", carried="window", projection="linear")
    neurons = 3 * 4 * 36
    # The shift and the reset for each neuron, and a multiply-add each.
    assert plain.operations.carry_additions == 2 * neurons
    assert plain.operations.carry_multiply_adds == neurons
    # Windows of 5 x 5 over 6 x 6, four of them: 100 visits of 36 places, of which 64 are merged.
    visits = 3 * 4 * 100
    assert dilated.operations.carry_additions == neurons + visits + (visits - neurons)
    assert dilated.operations.carry_multiply_adds == visits


@pytest.mark.parametrize(
    ("projection", "before", "windows", "functions"),
    [
        ("sine_window", True, True, 2),
        ("sine_window", False, True, 1),
        ("sine_window", True, False, 0),
        ("sine_layer", True, False, 1),
        ("sine_layer", False, True, 0),
        ("tanh", True, True, 1),
        ("linear", True, True, 0),
    ],
)
def test_functions_of_each_projection(projection, before, windows, functions):
    found = carry_operations(WindowCarry(projection=projection), before=before, windows=windows)
    assert found.carry_functions == functions


def test_energy_is_the_sum_over_the_constants():
    _, found = report("4-4", grid=2, projection="sine_layer")
    entries = found.as_dict()
    carry = entries["carry"]
    paper = entries["synops"] * ADD_PJ + entries["multiply_adds"] * MULTIPLY_ADD_PJ
    assert entries["energy_without_carry_pj"] == pytest.approx(paper)
    assert entries["energy_pj"] == pytest.approx(
        paper
        + carry["additions"] * ADD_PJ
        + carry["multiplies"] * MULTIPLY_PJ
        + carry["multiply_adds"] * MULTIPLY_ADD_PJ
        + carry["functions"] * FUNCTION_PJ
    )
    assert entries["dense_energy_paper_pj"] == pytest.approx(entries["dense_energy_pj"] * 5.5 / 4.6)


def test_nothing_to_report_on():
    net = OneStepNetwork("4", (1, 6, 6), 3, WindowCarry())
    with pytest.raises(ValueError, match="no samples"):
        one_step_report(net, images()[:0], torch.zeros(0, dtype=torch.int64))
