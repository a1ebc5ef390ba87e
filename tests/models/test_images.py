"""The door for images: one image, one set of spikes, whatever its type."""

import pytest
import torch

from firstspike.models.images import image_levels
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.settings import PatchCarry
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.raster.settings import RasterNeuron, RasterWeights, Readout
from firstspike.models.window import WindowNetwork

SHAPE = (1, 16, 16)


def network(kind):
    torch.manual_seed(0)
    if kind == "window":
        net = WindowNetwork("4C3-F8", SHAPE, 3, in_steps=25, num_steps=8, out_steps=32, clip=2.0)
    elif kind == "one_step":
        net = OneStepNetwork("4C3-4C3", SHAPE, 3, PatchCarry())
    else:
        parts = {"neuron": RasterNeuron(), "weights": RasterWeights(), "readout": Readout()}
        net = RasterNetwork("4C3-F8", SHAPE, 3, 5, code=kind, **parts)
    return net.eval()


def every_level(count=2):
    return torch.arange(256, dtype=torch.uint8).reshape(1, *SHAPE).repeat(count, 1, 1, 1)


@pytest.mark.parametrize("kind", ["current", "latency", "window", "one_step"])
def test_the_same_image_gives_the_same_spikes_whatever_its_type(kind):
    net, images = network(kind), every_level()
    expected = net.trace(images)
    assert any(float((seen != seen.max()).float().mean()) > 0 for seen in expected[1:])
    for same in (images.float() / 255, images.double() / 255, images.numpy(), images.numpy() / 255):
        for one, two in zip(net.trace(same), expected, strict=True):
            assert torch.equal(one, two)
    white = (images > 99).to(torch.uint8) * 255
    for one, two in zip(net.trace(images > 99), net.trace(white), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("kind", ["current", "latency", "window", "one_step"])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((2, *SHAPE), float("nan")), "0 ... 1"),
        (torch.full((2, *SHAPE), 1.5), "divide them by 255"),
        (torch.full((2, *SHAPE), 255.0), "divide them by 255"),
        (torch.full((2, *SHAPE), -0.1), "0 ... 1"),
        (torch.zeros(2, *SHAPE, dtype=torch.int64), "int64"),
        ([[0.5]], "list"),
        (torch.zeros(2, 2, 16, 16), r"expected images \(batch, 1, 16, 16\)"),
        (torch.zeros(2, 16, 16), r"images\[:, None\]"),
        (torch.zeros(0, *SHAPE), "no images"),
    ],
)
def test_anything_else_is_refused_in_one_line(kind, images, message):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        network(kind)(images)
    assert "\n" not in str(caught.value)


def test_fractions_of_a_level_stay():
    levels = image_levels(torch.tensor([[0.1, 0.5, 1 / 3]]), (3,))
    torch.testing.assert_close(levels, torch.tensor([[25.5, 127.5, 85.0]]))
    assert float(levels[0, 2]) == 85
