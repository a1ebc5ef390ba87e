"""Pooling before the normalisation gives the spikes of pooling behind the neurons."""

import pytest
import torch
from builders import refused, seeded
from torch.nn import functional as F

from firstspike.decision import Votes
from firstspike.models.layout import Pool
from firstspike.models.patches.blocks import Connection
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.raster.settings import RasterNeuron, RasterWeights
from firstspike.models.spiking_form import spiking_form
from firstspike.models.window import AnnNetwork, WindowNetwork
from firstspike.nn import EarliestPool2d
from firstspike.nn.normed import BatchNorm, NormedConnection
from firstspike.support import InputError

# Odd sides: every pooling leaves rows or columns over.
IN_SHAPE, CLASSES = (2, 13, 11), 5
LAYOUTS = ["6C3-E2-8C3-E3-F20", "6C3-7C3-E2-8C3s2-F9", "8C3-E2-9C5-E3", "W2-E2-8C3-E2-12C3"]
RESIDUAL = "8C3-E2-8R-E2-12R-F9"


def images(count=8, seed=1):
    return torch.randint(0, 256, (count, *IN_SHAPE), generator=seeded(seed)).to(torch.uint8)


def take(network, other):
    """Give a network the weights of another one, and what this adds to its variances."""
    network.load_state_dict(other.state_dict())
    for own, norm in zip(
        *([m for m in net.modules() if isinstance(m, BatchNorm)] for net in (network, other)), strict=True
    ):
        own.epsilon = norm.epsilon


def trained(network, logits):
    """A few batches, so that neurons differ in their shifts and outputs in their times."""
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 0.03)
    for step in range(10):
        loss = F.cross_entropy(logits(network(images(40, step))), torch.arange(40) % CLASSES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def window(layout, *, pool_first):
    torch.manual_seed(0)
    return WindowNetwork(
        layout, IN_SHAPE, CLASSES, in_steps=16, steps=8, out_steps=32, clip=2.0, pool_first=pool_first
    )


def raster(layout, code, *, pool_first):
    torch.manual_seed(0)
    return RasterNetwork(
        layout, IN_SHAPE, CLASSES, 6,
        neuron=RasterNeuron(), weights=RasterWeights(norm="batch"),
        decoder=Votes(neurons_per_class=4), code=code, pool_first=pool_first,
    )  # fmt: skip


def behind(network, per_layer, pick):
    """What goes on behind each layer that has weights, pooled by hand where the layout says so."""
    found, layers = [], iter(per_layer)
    for part in network.parts:
        if isinstance(part, Pool) and part.kind == "earliest":
            found[-1] = pick(found[-1], part.size)
        elif not isinstance(part, Pool):
            found.append(next(layers))
    return [*found, *layers]


def squares(maps, size):
    """The places of each square along a last axis; rows and columns left over are in none."""
    rows, columns = (side // size for side in maps.shape[-2:])
    cut = maps[..., : rows * size, : columns * size].unflatten(-1, (columns, size))
    return cut.unflatten(-3, (rows, size)).movedim(-3, -2).flatten(-2)


def highest(maps, size):
    return squares(maps, size).amax(-1)


def earliest(times, size):
    return squares(times, size).amin(-1)


def differ(times, steps):
    """Whether neurons fire at several steps, and not each image's alike."""
    found = times.flatten(1)
    return found.unique().numel() >= steps and len(found.unique(dim=0)) > 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_window_networks(layout):
    first = trained(window(layout, pool_first=True), lambda out: -out.times / 8)
    last = window(layout, pool_first=False).eval()
    take(last, first)
    with torch.no_grad():
        (received, *values), out = first.trace(images())
        (_, *all_values), expected = last.trace(images())
        by_hand = behind(last, all_values, highest)
    assert received.equal(last.trace(images())[0][0])
    assert [value.shape for value in values] == [value.shape for value in by_hand]
    assert all(value.equal(other) for value, other in zip(values, by_hand, strict=True))
    assert all(differ(value, 3) for value in values)
    assert out.times.equal(expected.times)
    assert differ(out.times, 4)

    form = spiking_form(first)
    traced = form.stack.trace(form.encode(images()))
    assert traced[-1].times.equal(out.times)
    # In the spiking form each neuron fires for itself, and the pooling is a layer of its own.
    each = [s.values for s, layer in zip(traced[1:], form.stack, strict=True) if not _pools(layer)]
    assert all(a.equal(b) for a, b in zip(each[:-1], all_values, strict=True))
    for one, two in zip(form.stack.parameters(), spiking_form(last).stack.parameters(), strict=True):
        assert one.equal(two)


def _pools(layer):
    return isinstance(layer, EarliestPool2d)


def test_residual_blocks_are_pooled_behind_their_neurons():
    first = trained(window(RESIDUAL, pool_first=True), lambda out: -out.times / 8)
    last = window(RESIDUAL, pool_first=False).eval()
    take(last, first)
    out = first(images()).times
    assert out.equal(last(images()).times)
    assert differ(out, 4)
    form = spiking_form(first)
    assert form.stack(form.encode(images())).times.equal(out)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("code", ["current", "latency"])
def test_raster_networks(layout, code):
    first = trained(raster(layout, code, pool_first=True), lambda out: out)
    last = raster(layout, code, pool_first=False).eval()
    take(last, first)
    times = [spikes.times for spikes in first.trace(images())]
    every = [spikes.times for spikes in last.trace(images())]
    by_hand = behind(last, every, earliest)
    assert [t.shape for t in times] == [t.shape for t in by_hand]
    assert all(t.equal(other) for t, other in zip(times, by_hand, strict=True))
    assert differ(times[-1], 3)
    with torch.no_grad():
        assert first(images()).equal(last(images()))
    for layer, membrane in zip(first.layers, first.membranes(images()), strict=True):
        assert membrane.shape[1:] == times.pop(0).shape, layer

    form = spiking_form(first)
    received = form.encode(images())
    traced = form.stack.trace(received)
    each = [s.times for s, layer in zip(traced[1:], form.stack, strict=True) if not _pools(layer)]
    if code == "current":
        # The neurons that the current drives, each for itself.
        assert received.times.equal(every.pop(0))
    assert len(each) == len(every)
    assert all(t.equal(other) for t, other in zip(each, every, strict=True))


def test_gains_stay_1_in_training():
    for network in (
        window("6C3-E2-8R-F9", pool_first=True),
        raster(LAYOUTS[0], "current", pool_first=True),
    ):
        gains = [p for name, p in network.named_parameters() if name.endswith("norm.weight")]
        assert gains
        assert not any(p.requires_grad for p in gains)
        assert all(p.requires_grad for name, p in network.named_parameters() if name.endswith("norm.bias"))
    ann = AnnNetwork("6C3-E2-F9", IN_SHAPE, CLASSES, in_steps=16, levels=0, clip=2.0, pool_first=True)
    trained(ann, lambda out: out)
    assert all(p.eq(1).all() for name, p in ann.named_parameters() if name.endswith("norm.weight"))


def test_a_relu_network_pools_alike():
    first, last = (
        AnnNetwork(LAYOUTS[0], IN_SHAPE, CLASSES, in_steps=16, levels=0, clip=2.0, pool_first=pool_first)
        for pool_first in (True, False)
    )
    trained(first, lambda out: out)
    take(last.eval(), first)
    with torch.no_grad():
        assert first(images()).equal(last(images()))
        assert float(first(images()).std()) > 0.05


def test_what_is_normalised_in_training_are_the_largest():
    torch.manual_seed(0)
    connection = NormedConnection((6, 2, 3, 3), gain=False, pool=2)
    values = torch.randn(4, 2, 7, 7)
    pooled = highest(F.conv2d(values, connection.weight, padding=1), 2)
    assert pooled.shape == (4, 6, 3, 3)
    found = connection(values)
    torch.testing.assert_close(found, F.batch_norm(pooled, None, None, training=True, eps=1e-3))
    torch.testing.assert_close(connection.norm.running_mean, 0.1 * pooled.mean((0, 2, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_the_largest_current_goes_on_under_a_gain_below_0(training):
    torch.manual_seed(0)
    connection = Connection(2, 3, 3, pool=2).train(training)
    with torch.no_grad():
        connection.norm.weight.copy_(torch.tensor([1.5, -2.0, 0.5]))
        connection.norm.bias.uniform_(-1, 1)
        connection.norm.running_mean.uniform_(-1, 1)
    values = torch.randn(4, 2, 5, 6)
    pooled = highest(F.conv2d(values, connection.weight, padding=1), 2)
    norm = connection.norm
    expected = F.batch_norm(
        pooled,
        norm.running_mean.clone(),
        norm.running_var.clone(),
        norm.weight,
        norm.bias,
        training=training,
    )
    torch.testing.assert_close(connection(values), expected)


def test_it_needs_a_batch_normalisation():
    with refused(InputError, "pool_first", 'norm="batch"', "found norm='weight'"):
        RasterNetwork(
            "8C3-E2", IN_SHAPE, CLASSES, 6,
            neuron=RasterNeuron(), weights=RasterWeights(norm="weight"), decoder=Votes(), pool_first=True,
        )  # fmt: skip


def test_pooling_that_does_not_fit():
    with refused(InputError, "part 2", "pooling over 12 x 12 does not fit a map of 13 x 11"):
        window("6C3-E12", pool_first=True)
    with refused(InputError, "part 2", "pooling over 2 x 2 does not divide a map of 13 x 11"):
        window("6C3-A2", pool_first=True)
