import json
from dataclasses import replace
from typing import Any

import torch
from builders import seeded
from drawn import Joined, settle, twin
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import firstspike as fs
from firstspike.models.convert.fold import fold
from firstspike.models.convert.graph import Clip, Graph, MaxPool, Multiply, Node, Relay
from firstspike.models.convert.read_torch import read_torch
from firstspike.nn.description import StackDescription, describe
from firstspike.recipes.fields import from_json, to_json
from firstspike.support import InputError

IMAGES = torch.rand(24, 2, 9, 8, generator=torch.Generator().manual_seed(0))


def converted(network: nn.Module, images: Tensor = IMAGES, **how: Any) -> fs.Stack:
    """Convert; drawn networks with a dead layer do not count."""
    try:
        return fs.from_torch(network, images, **how)
    except InputError as error:
        assume("never active" not in str(error))
        raise


def check_converted(network: nn.Module, images: Tensor = IMAGES, steps: int = 512) -> fs.Stack:
    """Convert with levels so fine that the result must compute what the network does."""
    with torch.no_grad():
        expected = network(images).flatten(1)
    net = converted(network, images, steps=steps, output_steps=4096, ranges="maximum", corrected=False)
    with torch.no_grad():
        membrane = net.read(net.encode(images))[1].flatten(1)
    # Up to the unit of the output's window.
    one = torch.stack([membrane.flatten(), torch.ones(membrane.numel())], 1).double()
    solution = torch.linalg.lstsq(one, expected.flatten()[:, None].double()).solution
    assert solution[0] > 0
    error = (one @ solution).flatten() - expected.flatten()
    spread = (expected - expected.mean()).abs().max()
    # Rounded weights and activations; what is wired wrongly is far off.
    assert error.abs().max() < 0.2 * spread
    assert error.abs().median() < 0.03 * spread
    return net


def check_twin(net: fs.Stack, images: Tensor) -> None:
    """Every spike time of every layer is that of the plain quantised network."""
    spikes = net.encode(images)
    with torch.no_grad():
        traced, levels = net.trace(spikes), twin(net, spikes)
    for one, level in zip(traced, levels, strict=True):
        assert torch.equal(one.steps - one.times.double(), level)


@st.composite
def parts(draw: st.DrawFn, channels: int, size: int) -> tuple[nn.Module, int]:
    """One operation on maps, and the channels that it gives."""
    kind = draw(
        st.sampled_from(["conv", "depthwise", "transposed", "max", "average", "sum", "cat", "norm"])
    )
    norm = draw(st.booleans())
    act = draw(st.sampled_from([nn.ReLU(), nn.ReLU6(), nn.Hardtanh(0, 3), nn.Hardtanh(-0.5, 2)]))

    def finished(layer: nn.Module, out: int) -> nn.Module:
        tail = [nn.BatchNorm2d(out)] if norm else []
        if draw(st.booleans()):
            return nn.Sequential(layer, *tail, act)
        return nn.Sequential(layer, act, *tail)

    kernel = draw(st.integers(1, 3))
    if kind in ("conv", "depthwise"):
        groups = channels if kind == "depthwise" else draw(st.sampled_from([1, 2]))
        out = channels * draw(st.integers(1, 2))
        layer = nn.Conv2d(
            channels,
            out,
            kernel,
            stride=draw(st.sampled_from([1, 1, 2, (1, 2)])),
            padding=draw(st.integers(0, 2)),
            dilation=draw(st.sampled_from([1, 1, 2])),
            groups=groups,
            bias=draw(st.booleans()),
        )
        return finished(layer, out), out
    if kind == "transposed":
        layer = nn.ConvTranspose2d(
            channels,
            channels,
            kernel,
            stride=draw(st.integers(1, 2)),
            padding=draw(st.integers(0, (kernel - 1) // 2)),
            output_padding=0,
            groups=draw(st.sampled_from([1, 2])),
        )
        return finished(layer, channels), channels
    if kind == "max":
        return nn.MaxPool2d(
            2, draw(st.integers(1, 2)), draw(st.integers(0, 1)), ceil_mode=draw(st.booleans())
        ), channels
    if kind == "average":
        return nn.AvgPool2d(2, draw(st.integers(1, 2)), draw(st.integers(0, 1))), channels
    if kind == "norm":
        return nn.BatchNorm2d(channels), channels
    branches = [nn.Identity(), nn.Conv2d(channels, channels, 3, padding=1)]
    if draw(st.booleans()):
        branches.append(nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU()))
    add = kind == "sum"
    out = channels if add else channels * len(branches)
    return finished(Joined(*branches, add=add), out), out


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    """A network of drawn operations that ends in a linear layer."""
    layers: list[nn.Module] = []
    channels = 2
    for _ in range(draw(st.integers(1, 4))):
        part, channels = draw(parts(channels, 8))
        if channels > 16:
            break
        layers.append(part)
    body = nn.Sequential(*layers)
    try:
        with torch.no_grad():
            shape = settle(body, torch.Generator().manual_seed(0))(IMAGES[:1]).shape
    except RuntimeError:
        # The maps became smaller than a kernel.
        body, shape = nn.Sequential(), IMAGES[:1].shape
    head: list[nn.Module] = [nn.Flatten(), nn.Linear(shape[1:].numel(), 5)]
    if draw(st.booleans()):
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape[1], 5)]
    network = nn.Sequential(*body, *head)
    return settle(network, torch.Generator().manual_seed(draw(st.integers(0, 2**31))))


@settings(deadline=None, max_examples=60)
@given(networks())
def test_connections_and_biases_compute_what_the_network_does(network: nn.Module) -> None:
    with torch.no_grad():
        expected = network(IMAGES)
    graph, _ = read_torch(network, IMAGES[:2])
    connections = fold(graph)
    values = {id(graph.input): IMAGES}
    silent = {id(graph.input): torch.zeros_like(IMAGES[:1])}
    for one in graph.order():
        if isinstance(one.op, MaxPool):
            for found in (values, silent):
                found[id(one)] = one.op(found[id(one.inputs[0])])
        elif id(one) in connections:
            # What each connection adds to silence; the bias is what silence gives.
            membrane = _through(graph, one, silent)
            for term in connections[id(one)]:
                source = id(term.source)
                membrane = membrane + replace(term.op, bias=None)(
                    (values[source] - silent[source]).flatten(1)
                    if isinstance(term.op, Multiply)
                    else values[source] - silent[source]
                )
            low = one.op.low if isinstance(one.op, Clip) else 0.0
            values[id(one)] = one.op(membrane) if isinstance(one.op, Clip | Relay) else membrane
            silent[id(one)] = torch.full((1, *one.shape), low)
    assert torch.allclose(values[id(graph.output)], expected, atol=1e-4, rtol=1e-4)


def _through(graph: Graph, target: Node, known: dict[int, Tensor]) -> Tensor:
    """What reaches a target's neurons from known values, by the graph's own operations."""
    values = dict(known)
    for one in graph.order():
        if one is target:
            return (
                values[id(one.inputs[0])]
                if isinstance(one.op, Clip | Relay)
                else one.op(*(values[id(b)] for b in one.inputs))
            )  # type: ignore[misc]
        if id(one) not in values and all(id(before) in values for before in one.inputs):
            assert one.op is not None
            values[id(one)] = one.op(*(values[id(before)] for before in one.inputs))
    raise AssertionError


@settings(deadline=None, max_examples=25)
@given(networks())
def test_drawn_networks_compute_the_same_with_fine_levels(network: nn.Module) -> None:
    check_converted(network)


@settings(deadline=None, max_examples=25)
@given(networks(), st.sampled_from([2, 5, 8, 16, 64]))
def test_spike_times_are_those_of_the_quantised_twin(network: nn.Module, steps: int) -> None:
    net, images = converted(network, steps=steps), torch.rand(8, 2, 9, 8, generator=seeded(1))
    check_twin(net, images)
    check_described(net, images)


def check_described(net: fs.Stack, images: Tensor) -> None:
    """The network that a file describes fires at the very same steps."""
    written = json.dumps(to_json(describe(net)))
    again = from_json(json.loads(written), StackDescription).build()
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        (one, membrane), (two, other) = (each.read(each.encode(images)) for each in (net, again))
    assert all(torch.equal(a.times, b.times) and a.steps == b.steps for a, b in zip(one, two, strict=True))
    assert torch.equal(membrane, other)
