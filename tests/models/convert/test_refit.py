import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import firstspike as fs
from firstspike.models.convert.calibrate import sampled
from firstspike.models.convert.refit import refit
from firstspike.nn import Connection, Layer
from firstspike.nn.wiring import Convolution, TransposedConvolution

PULL = 0.1


def levels(*shape: int, seed: int) -> fs.Spikes:
    return fs.Spikes(torch.randint(0, 17, shape, generator=torch.Generator().manual_seed(seed)).float(), 16)


def by_neuron(values: Tensor) -> Tensor:
    """``(B, C, P)`` as ``(C, B P)``."""
    return values.flatten(2).transpose(0, 1).flatten(1)


def test_weights_move_by_the_least_squares_step() -> None:
    # Two connections in one group, a stride and a padding; few images, so that every place counts.
    drawn = torch.Generator().manual_seed(0)
    sizes = {"stride": 2, "padding": 1}
    wiring = Convolution(in_channels=3, out_channels=4, kernel_size=3, **sizes)
    shortcut = Connection(
        Convolution(in_channels=2, out_channels=4, kernel_size=1), source=0, generator=drawn
    )
    layer = Layer(wiring, fs.Window(input_high=16.0), shortcuts=[shortcut], generator=drawn)
    layer.bias = nn.Parameter(torch.randn(4, 4, 3, generator=drawn))
    main, other = levels(60, 3, 7, 6, seed=1), levels(60, 2, 4, 3, seed=2)
    values = 16 - main.times, 16 - other.times
    wanted = torch.randn(4, 60 * 12, generator=drawn)
    # torch's own patches, in double precision.
    rows = torch.cat([by_neuron(F.unfold(values[0], 3, **sizes)), by_neuron(values[1])]).double()
    weight = torch.cat([layer.weight.flatten(1), shortcut.weight.flatten(1)], 1).detach().double()
    # The batches look at the same places in another order.
    order = [
        batch * 50 * 12 + image * 12 + int(place)
        for batch, count in enumerate((50, 10))
        for image in range(count)
        for place in sampled(12, 60, batch)
    ]
    bias = layer.bias.detach().double().flatten(1).repeat(1, 60)
    missing = wanted.double() - (weight @ rows + bias)[:, order]
    gram = rows @ rows.T
    pull = PULL * gram.diagonal().mean()
    move = torch.linalg.solve(gram + pull * torch.eye(len(gram)), rows[:, order] @ missing.T).T
    inputs = list(zip(main.split(50), other.split(50), strict=True))
    with torch.no_grad():
        refit(layer, inputs, wanted)
    moved = torch.cat([layer.weight.flatten(1), shortcut.weight.flatten(1)], 1).detach().double()
    assert move.abs().max() > 0.01
    assert torch.allclose(moved, weight + move, atol=1e-5)


def test_a_layer_with_a_transposed_connection_stays() -> None:
    wiring = TransposedConvolution(in_channels=3, out_channels=4, kernel_size=2, stride=2)
    layer = Layer(wiring, fs.Window(input_high=16.0), generator=torch.Generator().manual_seed(0))
    before = layer.weight.clone()
    with torch.no_grad():
        refit(layer, [(levels(5, 3, 4, 4, seed=1),)], torch.zeros(4, 5 * 64))
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_membranes_have_the_given_means_in_either_precision(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[sampled.__module__], "fast_precision", lambda device: precision)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 3 * 2, 3),
    )
    images = torch.rand(120, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    net, again = (fs.from_torch(network, images, steps=16, ranges="maximum") for _ in range(2))
    assert all(
        torch.equal(one, two)
        for one, two in zip(net.state_dict().values(), again.state_dict().values(), strict=True)
    )
    spikes = net.encode(images)
    with torch.no_grad():
        for layer, wanted in zip(net[:2], (network[:1](images), network[:3](images)), strict=True):
            spikes, membrane = layer.read(spikes)
            # A neuron's range is that of its largest activation.
            unit = wanted.amax((0, 2, 3)) / 16
            error = (membrane - 0.5).mean((0, 2, 3)) * unit - wanted.mean((0, 2, 3))
            assert error.abs().max() < (1e-4 if precision == "float32" else 1e-2) * wanted.abs().max()
