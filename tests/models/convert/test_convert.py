import json
import logging
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from builders import refused, seeded
from drawn import Joined, settle, twin
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import firstspike as fs
from firstspike.models.convert import make
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


@pytest.mark.parametrize("seed", range(5))
def test_a_convolution_in_groups_is_calibrated_right(seed: int) -> None:
    """One that bfloat16 gives NaN for, on processors that have it."""
    convolution = nn.Conv2d(2, 4, 2, stride=(1, 2), dilation=2, groups=2, bias=False)
    body = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), convolution, nn.ReLU(), nn.BatchNorm2d(4))
    network = nn.Sequential(body, nn.Flatten(), nn.Linear(12, 5))
    check_converted(settle(network, seeded(seed)))


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


class Forms(nn.Module):
    """The same operations as modules, functions, methods, and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.again, self.head = nn.Conv2d(4, 4, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return three numbers."""
        x = self.act(self.norm(self.conv((x - 0.5) / 0.25)))
        x = F.max_pool2d(torch.relu(self.again(x)), 2)
        left, right = x.chunk(2, 1)
        x = torch.cat([right.relu(), F.relu6(left)], 1)
        x = F.avg_pool2d(x, (x.shape[2], 1)).clamp(min=0).view(x.shape[0], -1)
        return F.log_softmax(self.head(F.dropout(x, training=self.training)), dim=-1)


def test_all_forms_of_an_operation_are_one() -> None:
    network = settle(Forms(), torch.Generator().manual_seed(3))
    images = torch.rand(16, 2, 9, 8, generator=torch.Generator().manual_seed(4))
    net = fs.from_torch(network, images, steps=64, output_steps=4096)
    with torch.no_grad():
        assert (net.read(net.encode(images))[1].argmax(1) == network(images).argmax(1)).float().mean() > 0.9


class PreActivated(nn.Module):
    """Blocks whose sums have no activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return five numbers."""
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=False):
            x = x + conv(F.relu(norm(x)))
        return self.head(F.relu(self.norms[2](x)).mean((2, 3)))


def test_pre_activation_blocks_need_no_relay() -> None:
    network = settle(PreActivated(), torch.Generator().manual_seed(0))
    net = check_converted(network)
    check_twin(net, IMAGES)
    # The stem, the two activations of the blocks, and the output: sums are further connections.
    assert len(net) == 4
    assert [len(sources) for sources in net.sources] == [1, 2, 3, 1]


def test_a_normalisation_before_a_padding_is_a_bias_for_each_place() -> None:
    layers = [nn.Conv2d(2, 3, 1), nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()]
    network = settle(
        nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 72, 5)), torch.Generator().manual_seed(1)
    )
    net = check_converted(network)
    assert net[1].bias is not None
    bias = net[1].bias.detach()
    assert bias.shape == (4, 9, 8)
    assert float((bias[:, 1:-1, 1:-1] - bias[:, 1:2, 1:2]).abs().max()) < 0.01
    assert float((bias[:, 0] - bias[:, 1]).abs().max()) > 0.1


def test_layers_fire_as_their_walk_through_the_steps() -> None:
    layers = [
        nn.Conv2d(2, 4, 3, 2, 1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.ReLU6(),
    ]
    network = settle(
        nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, 5)), torch.Generator().manual_seed(1)
    )
    net = fs.from_torch(network, IMAGES, steps=8)
    spikes = net.encode(IMAGES)
    for layer in net:
        fired = layer(spikes)
        assert torch.equal(layer.simulate(spikes).times, fired.times)
        spikes = fired


def test_the_given_network_is_left_as_it_is() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fs.from_torch(network, IMAGES)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(p.requires_grad for p in network.parameters())


def test_bytes_and_floats_and_a_normalisation_outside_are_one() -> None:
    network = settle(
        nn.Sequential(nn.Flatten(), nn.Linear(144, 9), nn.ReLU(), nn.Linear(9, 4)),
        torch.Generator().manual_seed(0),
    )
    pixels = (IMAGES * 255).round().to(torch.uint8)
    one = fs.from_torch(network, pixels, steps=16, mean=[0.3, 0.4], std=[0.5, 0.25])
    two = fs.from_torch(network, pixels.numpy() / 255, steps=16, mean=[0.3, 0.4], std=[0.5, 0.25])
    assert torch.equal(one(one.encode(pixels)).times, two(two.encode(pixels.double() / 255)).times)
    mean, std = (torch.tensor(v).reshape(2, 1, 1) for v in ([0.3, 0.4], [0.5, 0.25]))
    with torch.no_grad():
        expected = network((pixels / 255 - mean) / std).argmax(1)
        assert (one.read(one.encode(pixels))[1].argmax(1) == expected).float().mean() > 0.9


@pytest.mark.parametrize(("ranges", "spans"), [("maximum", [1.0, 8.0]), (0.75, [0.5, 4.0])])
def test_ranges_are_those_of_each_channel(ranges: Any, spans: list[float]) -> None:
    # Two neurons that hand on the input, one eight times as strong.
    hidden = nn.Linear(1, 2)
    network = nn.Sequential(hidden, nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor([[1.0], [8.0]]))
        hidden.bias.zero_()
    images = torch.tensor([0.0, 0.25, 0.5, 0.5, 1.0])[:, None]
    net = fs.from_torch(network, images, steps=8, ranges=ranges, corrected=False)
    # From levels of the input, of 1/8, to levels of the range.
    expected = torch.tensor([[1 / spans[0]], [8 / spans[1]]])
    assert torch.allclose(net[0].weight, expected, atol=1e-3)
    assert torch.allclose(net[0].bias, torch.full((2,), 0.5))


class Odd(nn.Module):
    """Whatever function it is given, before a linear layer."""

    def __init__(self, function: Any, features: int = 144) -> None:
        super().__init__()
        self.function, self.head = function, nn.Linear(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return three numbers."""
        return self.head(self.function(x).flatten(1))


def data_dependent(x: Tensor) -> Tensor:
    return x if x.sum() > 3 else -x


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Odd(nn.LeakyReLU()), ("function (leaky_relu) cannot be converted; a spike time", "ReLU")),
        (Odd(nn.PReLU()), ("function (prelu) cannot", "ReLU")),
        (Odd(nn.Sigmoid()), ("function (sigmoid) cannot", "ReLU")),
        (Odd(nn.GELU()), ("function (gelu) cannot", "ReLU")),
        (Odd(nn.SiLU()), ("function (silu) cannot", "ReLU")),
        (Odd(nn.Hardswish()), ("function (hardswish) cannot", "ReLU")),
        (Odd(nn.Softsign()), ("function (abs), part of Softsign, cannot", "ReLU")),
        (Odd(F.tanhshrink), ("tanh, part of tanhshrink, cannot", "ReLU")),
        (Odd(torch.frac), ("frac cannot be converted; linear layers",)),
        (Odd(nn.GroupNorm(1, 2)), ("group_norm", "batch normalisation")),
        (Odd(lambda x: x * x), ("product of two activations",)),
        (Odd(lambda x: torch.softmax(x, 1) + 1), ("after a softmax",)),
        (Odd(lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), 220), ("pad", "not of zeros")),
        (Odd(lambda x: F.max_pool2d(x, 2, dilation=2), 24), ("dilated max pooling",)),
        (Odd(lambda x: x.clamp(max=0.5)), ("without a lower bound",)),
        (
            Odd(nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
            ("function (avg_pool2d) is an average", "hold fewer places", "counts its padding"),
        ),
        (Odd(nn.AdaptiveAvgPool2d(4), 32), ("adaptive pooling of 9 x 8 to 4 x 4", "divide")),
        (Odd(lambda x: x[:1].expand(2, -1, -1, -1)), ("batch",)),
        (Odd(data_dependent), ("cannot trace",)),
        (nn.LSTM(8, 3), ("LSTM does not take images of shape (2, 9, 8)",)),
        (nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU()), ("does not take images of shape",)),
        (nn.Sequential(nn.Flatten(), nn.Linear(9, 3)), ("does not take images of shape (2, 9, 8)",)),
        (
            nn.Sequential(
                nn.Flatten(), nn.Linear(144, 4), nn.ReLU(), nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 2, 1)
            ),
            ("rearranged",),
        ),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(network: nn.Module, words: tuple[str, ...]) -> None:
    with refused(InputError, *words):
        fs.from_torch(network, IMAGES)


def test_an_average_pooling_is_torchs_or_refused_where_patches_hold_different_numbers_of_places() -> None:
    """Every small case, against torch's pooling of values and of ones."""
    outcomes = set()
    for n, k, s, p, ceil, counts, divisor in product(
        range(2, 7), range(1, 5), range(1, 5), range(3), (False, True), (False, True), (None, 3)
    ):
        if 2 * p > k or n + 2 * p < k:
            continue
        pool = partial(F.avg_pool2d, kernel_size=k, stride=s, padding=p, ceil_mode=ceil)
        ones = torch.ones(1, 1, n, n + 1)
        divided = pool(ones, divisor_override=1) / pool(
            ones, count_include_pad=counts, divisor_override=divisor
        )
        uneven = bool(divided.max() - divided.min() > 1e-4)
        outcomes.add((uneven, ceil, counts, p > 0))
        make_pool = partial(
            make.average_pool,
            "pool",
            Node("the input", None, [], (2, n, n + 1)),
            (k, k),
            (s, s),
            (p, p, p, p),
            counts_padding=counts,
            ceil_mode=ceil,
            divisor=divisor,
        )
        if uneven:
            with refused(InputError, "hold fewer places"):
                make_pool()
            continue
        values = torch.randn(3, 2, n, n + 1, generator=seeded(n))
        expected = pool(values, count_include_pad=counts, divisor_override=divisor)
        op = make_pool().op
        assert op is not None
        assert torch.allclose(op(values), expected, atol=1e-6), (n, k, s, p, ceil, counts, divisor)
    # Padding that is not counted is converted too where all patches hold as many places.
    assert {(True, False, False, True), (False, False, False, True), (False, True, False, True)} <= outcomes


def test_images_of_another_shape_are_refused_without_a_log(caplog: pytest.LogCaptureFixture) -> None:
    # torch hands no records on to the root.
    torchs = logging.getLogger("torch")
    torchs.addHandler(caplog.handler)
    try:
        with refused(
            InputError, "Sequential does not take images of shape (2, 9, 8), as the calibration's"
        ):
            fs.from_torch(nn.Sequential(nn.Flatten(), nn.Linear(9, 3)), IMAGES)
    finally:
        torchs.removeHandler(caplog.handler)
    assert not caplog.records


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 3))


def dead() -> nn.Module:
    network = linear()
    with torch.no_grad():
        network[1].bias.fill_(-1e3)
    return network


@pytest.mark.parametrize(
    ("calibration", "how", "error", "words"),
    [
        (IMAGES[:1], {}, ValueError, ("two images or more", "(1, 2, 9, 8)")),
        (IMAGES * 2 - 1, {}, ValueError, ("calibration", "0 ... 1", "scale them", "mean and std")),
        (IMAGES * float("nan"), {}, ValueError, ("NaN",)),
        (IMAGES, {"steps": 1}, ValueError, ("2",)),
        (IMAGES, {"steps": 1.5}, TypeError, ("int", "1.5")),
        (IMAGES, {"output_steps": 70_000}, ValueError, ("output_steps", "65535")),
        (IMAGES, {"ranges": "largest"}, ValueError, ("ranges", "largest")),
        (IMAGES, {"ranges": 2.0}, ValueError, ("ranges",)),
        (IMAGES, {"std": 0}, ValueError, ("std",)),
        (IMAGES, {"mean": [1, 2, 3]}, ValueError, ("mean", "2")),
    ],
)
def test_wrong_calibrations_are_refused(
    calibration: Tensor, how: dict[str, Any], error: type[Exception], words: tuple[str, ...]
) -> None:
    with refused(error, *words):
        fs.from_torch(linear(), calibration, **how)


def test_a_dead_layer_is_refused_by_name() -> None:
    with refused(InputError, "2 (relu)", "never active", "dead layer"):
        fs.from_torch(dead(), IMAGES)


@pytest.mark.parametrize("last", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-10, 10)])
def test_a_last_activation_leaves_outputs_comparable(last: nn.Module) -> None:
    network = settle(nn.Sequential(nn.Flatten(), nn.Linear(144, 5), last), torch.Generator().manual_seed(0))
    with torch.no_grad():
        network[1].bias.copy_(torch.tensor([0.2, 0.5, 1.0, 2.0, 3.0]))
        expected = network(IMAGES).argmax(1)
    net = fs.from_torch(network, IMAGES, steps=64)
    out = net(net.encode(IMAGES))
    assert out.steps == 2048
    assert (out.times.argmin(1) == expected).float().mean() > 0.95


class Once(nn.Module):
    """A function around a convolution and a linear layer."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.conv, self.head, self.function = nn.Conv2d(2, 4, 3), nn.Linear(168, 3), function

    def forward(self, x: Tensor) -> Any:
        """Return whatever the function does."""
        return self.function(self, x)


def on_a_view(self: Any, x: Tensor) -> Tensor:
    flat = self.conv(x).flatten(1)
    flat[:, :100].relu_()
    return self.head(flat)


def on_the_input(self: Any, x: Tensor) -> Tensor:
    return self.head(F.relu(self.conv(x.sub_(0.5).div_(0.5))).flatten(1))


def plainly(self: Any, x: Tensor) -> Tensor:
    return self.head(F.relu(self.conv(x)).flatten(1))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (on_a_view, ("in place on a view",)),
        (lambda self, x: {"a": plainly(self, x)}, ("dict", "one tensor")),
        (lambda self, x: (plainly(self, x), 3), ("tuple", "one tensor")),
        (lambda self, x: plainly(self, torch.div(x, 2, rounding_mode="floor")), ("div", "form")),
        (lambda self, x: plainly(self, x.clamp(min=torch.zeros(2, 1, 1))), ("clamp", "form")),
    ],
)
def test_odd_functions_are_refused_in_one_line(function: Any, words: tuple[str, ...]) -> None:
    with refused(InputError, *words):
        fs.from_torch(Once(function), IMAGES)


def test_the_users_images_random_state_and_defaults_are_left_alone() -> None:
    network = settle(Once(on_the_input), torch.Generator().manual_seed(0))
    images, state = IMAGES.clone(), torch.get_rng_state()
    net = fs.from_torch(network, images)
    assert torch.equal(images, IMAGES)
    assert torch.equal(torch.get_rng_state(), state)
    same = settle(Once(lambda self, x: plainly(self, (x - 0.5) / 0.5)), torch.Generator().manual_seed(0))
    torch.set_default_dtype(torch.float64)
    try:
        other = fs.from_torch(same, images)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        third = fs.from_torch(same, images.clone())
    spikes = net.encode(images)
    assert torch.equal(net(spikes).times, other(spikes).times)
    assert torch.equal(net(spikes).times, third(spikes).times)


def test_a_network_of_nothing_hands_its_input_on() -> None:
    images = torch.rand(10, 4, generator=torch.Generator().manual_seed(0))
    net = fs.from_torch(nn.Identity(), images, steps=64)
    assert torch.equal(net(net.encode(images)).times.argmin(1), images.argmax(1))
    with refused(TypeError, "torch.nn.Module", "function"):
        fs.from_torch(lambda x: x, images)  # type: ignore[arg-type]


def test_a_share_may_be_a_number_of_numpy() -> None:
    network = settle(linear(), torch.Generator().manual_seed(0))
    one, two = (fs.from_torch(network, IMAGES, ranges=share) for share in (np.float32(0.75), 0.75))
    assert torch.equal(one[0].weight, two[0].weight)
    assert not torch.equal(one[0].weight, fs.from_torch(network, IMAGES)[0].weight)


def test_images_that_are_all_the_same_are_refused() -> None:
    with refused(ValueError, "all the same"):
        fs.from_torch(linear(), torch.zeros(50, 2, 9, 8))
