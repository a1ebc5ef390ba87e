"""Operations of a one-step network, counted by hand."""

import pytest
import torch
from torch.nn import functional as F

from firstspike.metrics.cost import ADD_PJ, MULTIPLY_ADD_PJ
from firstspike.metrics.operations import FUNCTION_PJ, MULTIPLY_PJ
from firstspike.metrics.report import report as measure
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.operations import carry_operations
from firstspike.models.patches.settings import PatchCarry


def images(count=7, shape=(1, 6, 6)):
    source = torch.Generator().manual_seed(3)
    return torch.randint(1, 256, (count, *shape), generator=source).to(torch.uint8)


def report(layout, head_size=1, **neuron):
    torch.manual_seed(0)
    net = OneStepNetwork(layout, (1, 6, 6), 3, PatchCarry(**neuron), head_size=head_size)
    net(images())
    return net.eval(), measure(net, images(), torch.arange(7) % 3, batch_size=3)


def walked(net, shown=None):
    with torch.no_grad():
        return net.trace(images() if shown is None else shown)


# A transposed convolution of ones says how many targets each place has.
REACH = F.conv_transpose2d(torch.ones(1, 1, 6, 6), torch.ones(1, 1, 3, 3), padding=1)


def test_additions_are_spikes_times_fan_out_without_the_border():
    net, found = report("4C3-5C3", grid=1, carried="none")
    _, first, last = walked(net)
    # Five outputs receive each spike of the first layer; the head adds up the last one's to means.
    expected = float((first.sum(1, keepdim=True) * REACH).sum()) * 5 + float(last.sum())
    assert found.synops == pytest.approx(expected / 7)
    # The first layer receives numbers (no pixel is 0 in [-1, 1]) and so does the head.
    means = float((last.sum((2, 3)) > 0).sum()) * 3 / 7
    assert found.multiply_adds == pytest.approx(float(REACH.sum()) * 4 + means)
    # Products with padding are no products.
    assert found.dense_multiply_adds == int(REACH.sum()) * (4 + 5 * 4) + 5 * 3
    assert found.spikes_to_decision == pytest.approx(float(first.sum() + last.sum()) / 7)
    assert found.spikes_per_neuron_by_layer == pytest.approx(
        [float(first.mean()), float(last.mean())], rel=1e-5
    )
    # Without a carry: one shift per neuron.
    assert found.neuron_operations["additions"] == 36 * 4 + 36 * 5
    assert found.neuron_operations["functions"] == 0


def test_a_head_that_receives_every_place_adds():
    net, found = report("4C3-5C3", head_size=6, grid=1, carried="none")
    _, first, last = walked(net)
    expected = float((first.sum(1, keepdim=True) * REACH).sum()) * 5 + float(last.sum()) * 3
    assert found.synops == pytest.approx(expected / 7)
    assert found.multiply_adds == pytest.approx(float(REACH.sum()) * 4)


def test_parts_of_a_head_that_overlap_add_a_spike_more_than_once():
    net, found = report("4C3-5C3", head_size=4, grid=1, carried="none")
    _, first, last = walked(net)
    # torch's parts of 6 places into 4: 0-1, 1-2, 3-4, 4-5.
    often = torch.tensor([1.0, 2, 1, 1, 2, 1])
    summed = float((last * often[:, None] * often).sum())
    expected = float((first.sum(1, keepdim=True) * REACH).sum()) * 5 + summed
    assert found.synops == pytest.approx(expected / 7)


def test_layers_of_a_perceptron_come_in_their_order():
    net, found = report("8C3-3B-8C3-5B", grid=1, carried="none")
    seen = walked(net)
    sizes = [8, 3, 8, 8, 5, 8]
    places = [
        share * size * 36 for share, size in zip(found.spikes_per_neuron_by_layer, sizes, strict=True)
    ]
    for k, block in {0: 1, 2: 2, 3: 3, 5: 4}.items():
        assert places[k] == pytest.approx(float(seen[block].sum()) / 7, rel=1e-5)


def test_a_shortcut_adds_each_spike_once_more():
    _, plain = report("4C3-4C3", grid=1, carried="none")
    net, past = report("4C3-D", grid=1, carried="none")
    _, first, last = walked(net)
    head = float(last.sum())
    # A fully connected layer: four targets, and the place itself.
    assert past.synops == pytest.approx((float(first.sum()) * 5 + head) / 7)
    assert plain.synops > past.synops


def test_an_lstm_by_hand():
    _, found = report("4L3", grid=2, patches="plain", carried="none")
    # Patches of 3 x 3: 36 visits, the recurrence in three of four patches.
    recurrent = 27 * 16 * 4
    assert found.dense_multiply_adds == int(REACH.sum()) * 16 + recurrent + 4 * 3
    operations = found.neuron_operations
    assert operations["functions"] == 5 * 36 * 4
    assert operations["additions"] == 36 * 16
    assert operations["multiplies"] == 2 * 36 * 4
    # Products of the cells, and the normalisation.
    assert operations["multiply_adds"] == 36 * 4 + 36 * 4


def test_accuracy_is_that_of_the_highest_output():
    net, found = report("4C3-5C3", grid=2)
    expected = (net(images()).argmax(1) == torch.arange(7) % 3).float().mean()
    assert found.accuracy == pytest.approx(float(expected))


def test_fractions_are_multiplied_not_added():
    _, whole = report("4C3-4C3-4C3-4C3", grid=2)
    _, parts = report("4C3-4C3-4C3-4C3", grid=2, fractional=True)
    assert parts.multiply_adds > whole.multiply_adds
    assert parts.synops < whole.synops


def test_overlapping_patches_visit_places_more_than_once():
    _, plain = report("4C3-4C3-4C3", grid=2, patches="plain", carried="patch", projection="linear")
    _, dilated = report("4C3-4C3-4C3", grid=2, patches="dilated", carried="patch", projection="linear")
    _, both = report("4C3-4C3-4C3", grid=2, patches="dilated", carried="both", projection="linear")
    neurons = 3 * 4 * 36
    # The shift and the reset for each neuron, and a multiply-add each.
    assert plain.neuron_operations["additions"] == 2 * neurons
    assert plain.neuron_operations["multiply_adds"] == neurons
    # Patches of 5 x 5 over 6 x 6, four of them: 100 visits of 36 places, of which 64 are merged.
    visits = 3 * 4 * 100
    assert dilated.neuron_operations["additions"] == neurons + visits + (visits - neurons)
    assert dilated.neuron_operations["multiply_adds"] == visits
    assert dilated.neuron_operations["multiplies"] == 0
    # What is left is merged too, as a mean where patches overlap (all places but the corners), and two
    # layers add what the one before left.
    more = (visits - neurons) + 2 * 4 * 100
    assert both.neuron_operations["additions"] == dilated.neuron_operations["additions"] + more
    assert both.neuron_operations["multiplies"] == 3 * 4 * (36 - 4)


@pytest.mark.parametrize(
    ("projection", "before", "patches", "functions"),
    [
        ("sine_patch", True, True, 2),
        ("sine_patch", False, True, 1),
        ("sine_patch", True, False, 0),
        ("sine_layer", True, False, 1),
        ("sine_layer", False, True, 0),
        ("tanh", True, True, 1),
        ("linear", True, True, 0),
    ],
)
def test_functions_of_each_projection(projection, before, patches, functions):
    found = carry_operations(PatchCarry(projection=projection), before=before, patches=patches)
    assert found.neuron_functions == functions


def test_energy_is_the_sum_over_the_constants():
    _, found = report("4C3-4C3", grid=2, projection="sine_layer")
    entries = found.as_dict()
    carry = entries["neuron_operations"]
    paper = entries["synops"] * ADD_PJ + entries["multiply_adds"] * MULTIPLY_ADD_PJ
    assert entries["energy_of_inputs_pj"] == pytest.approx(paper)
    assert entries["energy_pj"] == pytest.approx(
        paper
        + carry["additions"] * ADD_PJ
        + carry["multiplies"] * MULTIPLY_PJ
        + carry["multiply_adds"] * MULTIPLY_ADD_PJ
        + carry["functions"] * FUNCTION_PJ
    )
    assert entries["dense_energy_paper_pj"] == pytest.approx(entries["dense_energy_pj"] * 5.5 / 4.6)


def test_nothing_to_report_on():
    net = OneStepNetwork("4C3", (1, 6, 6), 3, PatchCarry())
    with pytest.raises(ValueError, match="no samples"):
        measure(net, images()[:0], torch.zeros(0, dtype=torch.int64))


def taps(side, kernel, places):
    """For each place of an axis, how many of the kernel's positions there hit it; padding hits none."""
    hit = [0] * side
    for start in range(places):
        for offset in range(kernel):
            place = start + offset - (kernel - 1) // 2
            if 0 <= place < side:
                hit[place] += 1
    return torch.tensor(hit, dtype=torch.float64)


@pytest.mark.parametrize("side", [10, 11])
def test_a_whitened_and_pooled_network_by_a_naive_count(side):
    torch.manual_seed(0)
    net = OneStepNetwork("W2-4C3-E2-5C3-6C3-E2", (1, side, side), 3, PatchCarry(grid=1, carried="none"))
    shown = images(shape=(1, side, side))
    net(shown)
    found = measure(net.eval(), shown, torch.arange(7) % 3, batch_size=3)
    pixels, *spikes, last = walked(net, shown)
    # 2 x 2 patches of one channel give 8 maps; pooling leaves a row and a column over where it must.
    inner = side - 1
    half, quarter = inner // 2, inner // 4
    shapes = [(8, inner), (4, half), (5, half), (6, quarter)]
    assert [tuple(s.shape[1:3]) for s in (*spikes, last)] == shapes

    def fan_out(maps, targets, kernel, places):
        hit = taps(maps.shape[-1], kernel, places)
        return float(((maps != 0).sum((0, 1)) * hit[:, None] * hit).sum()) * targets

    # The whitening receives numbers, none of them 0, and so does the head.
    numbers = fan_out(pixels, 8, 2, inner)
    assert numbers == 7 * 8 * 4 * inner**2
    means = float((last.sum((2, 3)) > 0).sum()) * 3
    assert found.multiply_adds == pytest.approx((numbers + means) / 7)
    # Convolutions compute every place, also those that are pooled away or left over.
    added = (
        fan_out(spikes[0], 4, 3, inner)
        + fan_out(spikes[1], 5, 3, half)
        + fan_out(spikes[2], 6, 3, half)
        + float(last.sum())
    )
    assert found.synops == pytest.approx(added / 7)
    full = [taps(length, 3, length).sum() ** 2 for length in (inner, half)]
    dense = 8 * 4 * inner**2 + 8 * 4 * full[0] + 4 * 5 * full[1] + 5 * 6 * full[1] + 6 * 3
    assert found.dense_multiply_adds == int(dense)
    # A shift for each neuron, and three comparisons to find the largest of four currents.
    neurons = [maps * length**2 for maps, length in shapes]
    assert found.neuron_operations["additions"] == sum(neurons) + 3 * (neurons[1] + neurons[3])
    assert found.neuron_operations["multiply_adds"] == 0
