"""Networks over rasters: their membranes against a walk through the steps, start-up, normalisation."""

import math

import pytest
import torch
from torch.nn import functional as F

from firstspike.codes import encode_latency
from firstspike.decision import Membrane, Votes
from firstspike.models.raster.layers import RasterLayer
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.raster.settings import RasterNeuron, RasterWeights
from firstspike.nn.normed import GRID_BITS
from firstspike.support import InputError

T = 6


def network(layout="6C3s2-A2-5C3-F9", *, neuron=None, weights=None, code="latency", **more):
    torch.manual_seed(3)
    net = RasterNetwork(
        layout,
        (2, 12, 8),
        3,
        T,
        neuron=neuron or RasterNeuron(),
        weights=weights or RasterWeights(),
        decoder=Votes(neurons_per_class=2),
        code=code,
        **more,
    )
    for layer in net.layers:
        gain, shift = affine(layer)
        if gain is not None:
            gain.data.uniform_(0.5, 2)
            shift.data.uniform_(-0.4, 0.8)
    return net


def affine(layer):
    return (layer.gain, layer.shift) if layer.norm is None else (layer.norm.weight, layer.norm.bias)


def images(count=5):
    return torch.randint(0, 256, (count, 2, 12, 8), generator=torch.Generator().manual_seed(5)).to(
        torch.uint8
    )


def stepped(net, inputs):
    """Spike times by the paper's equations: ``V[t] = V[t-1] + X[t]``, one spike, step by step."""
    weights = [layer.folded() for layer in net.layers]
    times = encode_latency(inputs, T).times
    potentials = fired = None
    found = None
    for step in range(T):
        spikes = (times == step).float()
        received, state = (inputs / 256 if net.code == "current" else spikes), []
        for depth, layer in enumerate(net.layers):
            weight, shift = weights[depth]
            current = net.code == "current" and depth == 0
            connect = (
                F.linear(received.flatten(1), weight)
                if weight.dim() == 2
                else F.conv2d(received, weight, stride=layer.stride, padding=weight.shape[-1] // 2)
            )
            added = 0 if shift is None else shift.reshape(1, -1, *([1] * (connect.dim() - 2)))
            every = current or layer.weights.shift == "per_step"
            connect = connect + (added if every or step == 0 else 0)
            before = torch.zeros_like(connect) if potentials is None else potentials[depth]
            done = torch.zeros_like(connect) if fired is None else fired[depth]
            potential = before + connect
            spike = (potential >= 1).float() * (1 - done)
            state.append((potential, done + spike, spike))
            received = spike
            if layer.pool > 1:
                received = F.avg_pool2d(spike, layer.pool) * layer.pool**2
        potentials, fired = [s[0] for s in state], [s[1] for s in state]
        found = found or [torch.full_like(s[0], T) for s in state]
        for times_of, (_, _, spike) in zip(found, state, strict=True):
            times_of[spike > 0] = step
    assert all(float(f.max()) <= 1 for f in fired), "at most one spike"
    return found


@pytest.mark.parametrize("code", ["latency", "current"])
@pytest.mark.parametrize(
    "weights",
    [
        RasterWeights(),
        RasterWeights(shift="per_step"),
        RasterWeights(norm="batch"),
        RasterWeights(norm="none", affine="none", init="kaiming"),
        RasterWeights(affine="layer"),
    ],
    ids=lambda w: f"{w.norm}-{w.affine}-{w.shift}",
)
def test_spikes_are_the_recursion_step_by_step(code, weights):
    net = network(weights=weights, code=code).eval()
    with torch.no_grad():
        expected = stepped(net, images())
    for spikes, by_steps in zip(net.trace(images()), expected, strict=True):
        assert torch.equal(spikes.times, by_steps)


def test_recomputing_saves_the_membranes_and_changes_nothing():
    found = {}
    for recompute in (False, True):
        net = network(neuron=RasterNeuron(recompute=recompute), code="current")
        kept: list[int] = []

        def keep(tensor, kept=kept):
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = net(images())
        out.square().sum().backward()
        found[recompute] = out.detach(), [p.grad for p in net.parameters()], sum(kept)
    assert torch.equal(found[False][0], found[True][0])
    for one, two in zip(found[False][1], found[True][1], strict=True):
        assert torch.equal(one, two)
    assert found[True][2] < 0.6 * found[False][2]


def deep(init, *, fire_last):
    """Standard deviation of each layer's input per step in 8 layers of 512, T = 8."""
    torch.manual_seed(0)
    net = RasterNetwork(
        "-".join(["F512"] * 8),
        (1, 16, 32),
        10,
        8,
        neuron=RasterNeuron(fire_last=fire_last),
        weights=RasterWeights(init=init, norm="none", affine="none"),
        decoder=Votes(),
        code="latency",
    )
    pixels = torch.randint(0, 256, (64, 1, 16, 32), dtype=torch.uint8)
    membranes = net.membranes(pixels)[:8]
    return [float(torch.diff(m, dim=0, prepend=torch.zeros_like(m[:1])).std()) for m in membranes]


def test_depth_keeps_the_spread_of_the_input_and_kaiming_loses_it():
    kept = deep("ettfs", fire_last=True)
    assert all(0.9 < sd < 1.1 for sd in kept), kept
    faded = deep("ettfs", fire_last=False)
    assert 0.5 < faded[-1] < 0.75
    dead = deep("kaiming", fire_last=False)
    assert dead[0] > 0.3
    assert all(sd == 0 for sd in dead[4:]), dead


def test_initialisation_is_equation_14():
    for init, variance in (("ettfs", T / 500), ("kaiming", 1 / 500)):
        layer = RasterLayer((400, 500), T, RasterNeuron(), RasterWeights(init=init))
        assert float(layer.weight.detach().var()) == pytest.approx(variance, rel=0.02)
        assert float(layer.weight.detach().abs().max()) == pytest.approx(math.sqrt(3 * variance), rel=0.01)


def test_weight_normalisation_is_equation_16():
    layer = RasterLayer((7, 5, 3, 3), T, RasterNeuron(), RasterWeights())
    layer.weight.data.mul_(3).add_(2)
    weight, shift = layer.folded()
    flat = weight.detach().flatten(1)
    assert torch.allclose(flat.mean(1), torch.zeros(7), atol=1e-4)
    assert torch.allclose(flat.std(1, correction=0), torch.full((7,), math.sqrt(T / 45)), atol=1e-4)
    assert torch.equal(shift, torch.zeros(7))


def test_effective_weights_lie_on_the_grid_and_gradients_pass_it():
    layer = RasterLayer((7, 5, 3, 3), T, RasterNeuron(), RasterWeights(norm="none"))
    weight, _ = layer.folded()
    assert torch.equal(weight * 2**GRID_BITS, torch.round(weight * 2**GRID_BITS))
    assert float((weight - layer.weight).detach().abs().max()) <= 2.0 ** -(GRID_BITS + 1)
    weight.sum().backward()
    assert torch.equal(layer.weight.grad, torch.ones_like(layer.weight))


def test_batch_normalisation_folds_for_evaluation():
    net = network(weights=RasterWeights(norm="batch"), code="current")
    for _ in range(300):
        net(images(64))
    trained = net.membranes(images(64))
    folded = net.eval().membranes(images(64))
    # The first layer's input is the same in both, so the running statistics are its own.
    assert torch.allclose(trained[0], folded[0], atol=2e-2)


def test_a_last_batch_of_one_is_normalised_by_the_running_statistics():
    net = network("F9", weights=RasterWeights(norm="batch"), code="current")
    net(images(64))
    kept = net.layers[0].norm.running_mean.clone()
    net.layers[0].norm(torch.randn(1, 9))
    assert torch.equal(net.layers[0].norm.running_mean, kept)


def test_reading_membranes_moves_the_statistics_once():
    net = network("F9", weights=RasterWeights(norm="batch"), code="current")
    other = network("F9", weights=RasterWeights(norm="batch"), code="current")
    other.decoder = Membrane(neurons_per_class=2)
    net(images(64))
    other(images(64))
    for one, two in zip(net.layers, other.layers, strict=True):
        assert torch.equal(one.norm.running_var, two.norm.running_var)


def test_what_a_single_spike_network_cannot_be():
    with pytest.raises(ValueError, match="code must be one of current, latency; found 'rate'"):
        network(code="rate")
    with pytest.raises(ValueError, match="move the statistics of a batch normalisation twice"):
        network(neuron=RasterNeuron(recompute=True), weights=RasterWeights(norm="batch"))
    with pytest.raises(ValueError, match="weight normalisation needs two inputs or more"):
        RasterLayer((4, 1, 1, 1), T, RasterNeuron(), RasterWeights())
    with pytest.raises(InputError, match="max pooling"):
        network("6C3-M2-F9")
    with pytest.raises(InputError, match="cannot have '8R'"):
        network("6C3-8R-F9")
    with pytest.raises(InputError, match="does not divide a map of 12 x 8"):
        network("6C3-A5-F9")
    with pytest.raises(ValueError, match="batch normalisation has its own gain and shift"):
        RasterWeights(norm="batch", shift="per_step")
