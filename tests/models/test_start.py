"""An identity start passes maps on, through the layers' own arithmetic."""

import pytest
import torch
from builders import seeded

from firstspike.decision import Votes
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.settings import PatchCarry
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.raster.settings import RasterNeuron, RasterWeights
from firstspike.models.start import start_as_identity
from firstspike.models.window import WindowNetwork
from firstspike.nn.normed import EPSILON, BatchNorm

IMAGES = torch.randint(0, 256, (5, 2, 7, 6), generator=seeded(0)).to(torch.uint8)


def neutral(network):
    """A normalisation that changes nothing."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.running_var.fill_(1 - EPSILON)
    return network.eval()


def one_step(layout):
    torch.manual_seed(0)
    return OneStepNetwork(layout, (2, 7, 6), 3, PatchCarry())


def test_a_window_network_passes_its_input_on():
    torch.manual_seed(0)
    network = WindowNetwork("4C5-6C3-6C3", (2, 7, 6), 3, in_steps=16, steps=8, out_steps=8, clip=1.0)
    start_as_identity(network)
    neutral(network)
    values, _ = network.trace(IMAGES)
    membranes = network.membranes(IMAGES)
    assert values[0].unique().numel() > 10
    for received, membrane in zip(values, membranes[:-1], strict=False):
        assert membrane[:, : received.shape[1]].equal(received)
    # What is passed on to the end is the image, rounded to the levels of a layer.
    assert values[3][:, :2].equal((values[0] * 8 + 0.5).floor() / 8)
    # The other filters were drawn.
    assert not membranes[0][:, 2:].equal(values[0])


def test_a_raster_network_passes_its_input_on():
    network = RasterNetwork(
        "4C3-6C3", (2, 7, 6), 3, 8,
        neuron=RasterNeuron(), weights=RasterWeights(norm="batch"), decoder=Votes(), code="latency",
    )  # fmt: skip
    start_as_identity(network)
    neutral(network)
    first, second, _ = network.trace(IMAGES)
    # A single spike of weight 1 makes a neuron fire, at once.
    assert first.times[:, :2].equal(network.first_spikes(IMAGES).times)
    assert second.times[:, :4].equal(first.times)


def test_currents_of_a_one_step_network_are_its_input():
    network = one_step("4C3-6C3")
    start_as_identity(network)
    neutral(network)
    with torch.no_grad():
        for layer, received, _ in network.each_layer(IMAGES):
            current = layer.connection(received.spikes)
            torch.testing.assert_close(current[:, : received.spikes.shape[1]], received.spikes)


@pytest.mark.parametrize(
    ("layout", "fixed"),
    [("8C3-4C3", "blocks.1"), ("4C1-8C3", "blocks.0"), ("4L3-8C3", "blocks.0"), ("8C3-D", "blocks.1")],
    ids=["fewer maps", "one place", "an LSTM", "dense"],
)
def test_what_cannot_pass_its_input_on_stays_as_drawn(layout, fixed):
    network, other = one_step(layout), one_step(layout)
    start_as_identity(network)
    changed = {
        name for name, weight in network.state_dict().items() if not weight.equal(other.state_dict()[name])
    }
    (weight,) = changed
    assert weight.endswith("connection.weight")
    assert not weight.startswith(fixed)
