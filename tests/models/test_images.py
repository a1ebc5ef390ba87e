"""The door for images: one image, one set of spikes, whatever its type."""

import pytest
import torch
from builders import refused

from firstspike.decision import Votes
from firstspike.inputs import as_images
from firstspike.models.images import levels
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.settings import PatchCarry
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.raster.settings import RasterNeuron, RasterWeights
from firstspike.models.window import WindowNetwork

SHAPE = (1, 16, 16)


def network(kind, shape=SHAPE, classes=3, **changes):
    torch.manual_seed(0)
    if kind == "window":
        windows = {"in_steps": 25, "steps": 8, "out_steps": 32, "clip": 2.0} | changes
        net = WindowNetwork("4C3-F8", shape, classes, **windows)
    elif kind == "one_step":
        net = OneStepNetwork("4C3-4C3", shape, classes, PatchCarry(), **changes)
    else:
        parts = {"neuron": RasterNeuron(), "weights": RasterWeights(), "decoder": Votes(), "steps": 5}
        net = RasterNetwork("4C3-F8", shape, classes, code=kind, **parts | changes)
    return net.eval()


def seen(net, images):
    """What every layer passes on."""
    traced = net.trace(images)
    if isinstance(net, RasterNetwork):
        return [spikes.times for spikes in traced]
    return [*traced[0][1:], traced[1].times] if isinstance(net, WindowNetwork) else traced[1:]


def every_level(count=2):
    return torch.arange(256, dtype=torch.uint8).reshape(1, *SHAPE).repeat(count, 1, 1, 1)


@pytest.mark.parametrize("kind", ["current", "latency", "window", "one_step"])
def test_the_same_image_gives_the_same_spikes_whatever_its_type(kind):
    net, images = network(kind), every_level()
    expected = seen(net, images)
    assert any(len(passed.unique()) > 1 for passed in expected)
    for same in (images.float() / 255, images.double() / 255, images.numpy(), images.numpy() / 255):
        for one, two in zip(seen(net, same), expected, strict=True):
            assert torch.equal(one, two)
    white = (images > 99).to(torch.uint8) * 255
    for one, two in zip(seen(net, images > 99), seen(net, white), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("kind", ["current", "latency", "window", "one_step"])
@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (torch.full((2, *SHAPE), float("nan")), ValueError, "NaN"),
        (torch.full((2, *SHAPE), 1.5), ValueError, "0 ... 1"),
        (torch.full((2, *SHAPE), 255.0), ValueError, "0 ... 1"),
        (torch.full((2, *SHAPE), -0.1), ValueError, "0 ... 1"),
        (torch.zeros(2, *SHAPE, dtype=torch.int64), TypeError, "int64"),
        ("images", TypeError, "images"),
        (torch.zeros(2, 2, 16, 16), ValueError, "expected images (batch, 1, 16, 16)"),
        (torch.zeros(2, 16, 16), ValueError, "images[:, None]"),
        (torch.zeros(0, *SHAPE), ValueError, "no images"),
    ],
)
def test_anything_else_is_refused_in_one_line(kind, images, error, words):
    with refused(error, words):
        network(kind)(images)


@pytest.mark.parametrize("kind", ["current", "latency", "window", "one_step"])
def test_wrong_ends_are_refused(kind):
    for shape in ((16, 16), (0, 16, 16), (1, 16.5, 16), 16):
        with refused(ValueError, "in_shape"):
            network(kind, shape)
    for classes in (0, -1, 2.5):
        with refused(ValueError, "num_classes", str(classes)):
            network(kind, classes=classes)


@pytest.mark.parametrize(
    ("kind", "changes", "error"),
    [
        *[(kind, {"steps": 8.5}, TypeError) for kind in ("window", "current")],
        *[(kind, {"steps": steps}, ValueError) for kind in ("window", "current") for steps in (-8, 0, 1)],
        ("window", {"in_steps": -8}, ValueError),
        ("window", {"out_steps": 0}, ValueError),
        *[("window", {"clip": clip}, ValueError) for clip in (0.0, -1.0, float("nan"))],
        *[("window", {"dropout": dropout}, ValueError) for dropout in (-0.1, 1.0)],
        ("rate", {}, ValueError),  # a code that there is not
    ],
)
def test_wrong_windows_are_refused(kind, changes, error):
    with refused(error, *(changes or [kind])):
        network(kind, **changes)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("window", ("4C3-F8", "in_steps=25", "levels=8", "clip=2")),
        ("current", ("4C3-F8", "steps=5", "'current'", "Votes(")),
        ("one_step", ("4C3-4C3", "PatchCarry(")),
    ],
)
def test_settings_are_printed(kind, words):
    printed = repr(network(kind))
    assert [word for word in words if word not in printed] == []


def test_fractions_of_a_level_stay():
    found = levels(as_images([[0.1, 0.5, 1 / 3]]))
    torch.testing.assert_close(found, torch.tensor([[25.5, 127.5, 85.0]]))
    assert float(found[0, 2]) == 85
