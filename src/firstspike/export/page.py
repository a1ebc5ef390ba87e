"""A network as a page: one file of HTML that computes in the reader's browser and asks for nothing."""

import base64
import json
import math
from dataclasses import asdict
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch

from firstspike.export.integers import IntegerNetwork
from firstspike.export.tables import check_drawn, intensities, tables
from firstspike.export.whole import whole
from firstspike.inputs import as_images, check_labels
from firstspike.models.conv_gan import ConvGenerator, on_spikes
from firstspike.models.gan import SpikingGenerator
from firstspike.models.spiking_form import SpikingForm
from firstspike.nn import Stack
from firstspike.nn.geometry import Shape
from firstspike.support import InputError, expanded, write_text

# Test images on a page; each costs its pixels and a third.
MOST_IMAGES = 100
_WHITE = 255
# MNIST's line, box and centre in a picture of 28 x 28, measured as `_pen` does.
_MNIST = {"line": 2.5 / 28, "box": 20 / 28, "centre": 14.5 / 28}
# A soft line's ink by its gradient, against its width: measured on lines of 1.5 ... 3 pixels.
_LINE = 1.14


def html(
    net: Stack | SpikingForm | SpikingGenerator | ConvGenerator,
    path: str | Path,
    *,
    bits: int | None = None,
    in_shape: Shape | None = None,
    images: Any = None,
    labels: Any = None,
    title: str = "firstspike",
) -> None:
    """Write a network as a page that decides, or generates, in the browser, spike by spike.

    The page is one file without a server or a request. It computes what `IntegerNetwork` computes, in the
    same integers. A classifier's page takes drawn pictures and decides by the first output spike; a
    tie and silence have no label there.

    Args:
        net: a classifier of grey pictures or a generator, whole or to be made so by `integer`.
        path: of the page, replaced if it is there.
        bits, in_shape: see `firstspike.integer`, where `net` is not whole yet; 8 bits by default.
        images: test images to pick from, ``(count, height, width)``, with one channel
            ``(count, 1, height, width)`` or as ``(count, features)``; uint8, or floats in 0 ... 1, which
            the page rounds to 255ths. The first 100 are taken. A drawing becomes as large, as central and
            of as thick lines as they are; without them, as MNIST's.
        labels: of `images`, integers ``(count,)``.
        title: heading of the page.

    Raises:
        InputError: a network of other inputs than grey pictures, or nothing says their height and width; or
            an output of maps.
        TypeError, ValueError: as of `integer`, `as_images` and `check_labels`; images for a generator, or
            labels without images.
        OSError: the page cannot be written.
    """
    given: Stack | SpikingForm | SpikingGenerator = on_spikes(net)
    if isinstance(given, SpikingGenerator):
        if images is not None or labels is not None:
            raise ValueError("a generator's page takes no images and labels; leave them out")
        kind, document = "generator", _generator(given, bits)
    else:
        kind, document = "classifier", _classifier(given, bits, in_shape, images, labels)
    text = json.dumps({"title": title, **document}, default=_packed)
    scripts = ("network", "clock", "panels", *(("drawing",) if kind == "classifier" else ()), kind)
    page = _part("page.html").substitute(
        title=escape(title),
        style=_part("page.css").template,
        body=_part(f"{kind}.html").substitute(clock=_part("clock.html").template),
        # What would end the element that holds it.
        data=text.replace("<", "\\u003c"),
        script="\n".join(_part(f"{name}.js").template for name in scripts),
    )
    write_text(expanded(path, "path"), page)


def _part(name: str) -> Template:
    return Template((files("firstspike.export") / "web" / name).read_text(encoding="utf-8"))


def _classifier(
    net: Stack | SpikingForm, bits: int | None, in_shape: Shape | None, images: Any, labels: Any
) -> dict[str, Any]:
    if images is None and labels is not None:
        raise ValueError("labels need the images that they belong to")
    pictures = None if images is None else _pictures(images)
    network, _ = whole(net, bits=bits, in_shape=in_shape or _in_shape(net, pictures))
    shape = _picture_shape(network, pictures)
    outputs = network.shapes(network.in_shape)[-1]
    if len(outputs) > 1:
        raise InputError(
            f"a page is for classifiers, and this network's output is maps of {_times(outputs)}"
        )
    names = None
    if labels is not None:
        assert pictures is not None
        names = check_labels(labels, len(pictures), outputs[0])[:MOST_IMAGES].int().numpy()
    shown = np.zeros((0, *shape), np.uint8) if pictures is None else pictures.reshape(-1, *shape)
    return {
        "shape": shape,
        "network": _network(network),
        "images": shown[:MOST_IMAGES],
        "labels": names,
        "pen": _pen(shown),
    }


def _pictures(images: Any) -> np.ndarray:
    given = as_images(images)
    if given.dim() == 4 and given.shape[1] == 1:
        given = given.squeeze(1)
    if given.dim() not in (2, 3) or not given.numel():
        raise ValueError(
            "images must be (count, height, width), (count, 1, height, width) or (count, features) and "
            f"hold at least one, found {tuple(given.shape)}"
        )
    if given.is_floating_point():
        given = (given * _WHITE).round().to(torch.uint8)
    found: np.ndarray = given.cpu().numpy()
    return found


def _in_shape(net: Stack | SpikingForm, pictures: np.ndarray | None) -> tuple[int, ...] | None:
    """What `integer` has to know of the input."""
    if not isinstance(net, Stack) or isinstance(net, IntegerNetwork) or net[0].takes[0] == "features":
        return None
    if pictures is None or pictures.ndim < 3:
        raise InputError(
            "the network takes pictures of any size; give images (count, height, width), or "
            "in_shape=(1, height, width)"
        )
    return (net[0].takes[1] or 1, *pictures.shape[1:])


def _picture_shape(network: IntegerNetwork, pictures: np.ndarray | None) -> tuple[int, int]:
    """Height and width of what is drawn."""
    shape, given = network.in_shape, None if pictures is None else pictures.shape[1:]
    side = math.isqrt(shape[0])
    if len(shape) == 3 and shape[0] != 1:
        raise InputError(f"a page is for grey pictures, and this network takes {shape[0]} channels")
    if len(shape) == 3:
        height, width = shape[1:]
    elif given is not None and len(given) == 2:
        height, width = given
    elif side * side == shape[0]:
        height = width = side
    else:
        raise InputError(
            f"a page is for pictures, and nothing says which height and width the network's {shape[0]} "
            "inputs have; give images (count, height, width)"
        )
    if given is not None and (math.prod(given) != math.prod(shape) or given[:-1] not in ((), (height,))):
        raise ValueError(f"the network takes {_times(shape)} inputs, found images of {_times(given)}")
    return height, width


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _pen(images: np.ndarray) -> dict[str, Any]:
    """How a drawing becomes like these: width of a line, size of its box, centre of mass; in pixels."""
    inked = images[images.any((1, 2))].astype(np.float64) / _WHITE
    height, width = images.shape[1:]
    if not len(inked):
        side = min(height, width)
        return {
            "line": _MNIST["line"] * side,
            "box": _MNIST["box"] * side,
            "centre": [height * _MNIST["centre"], width * _MNIST["centre"]],
        }
    ink = inked.sum((1, 2))
    across = [np.any(inked, axis) for axis in (1, 2)]
    extents = [each.shape[1] - each.argmax(1) - each[:, ::-1].argmax(1) for each in across]
    edged = np.pad(inked, ((0, 0), (1, 1), (1, 1)))
    slopes = np.hypot(np.diff(edged, axis=1)[:, :, :-1], np.diff(edged, axis=2)[:, :-1]).sum((1, 2))
    return {
        "line": _LINE * float(np.median(2 * ink / slopes)),
        "box": float(np.median(np.maximum(*extents))),
        "centre": [
            float(np.mean(inked.sum(axis) @ (np.arange(length) + 0.5) / ink))
            for axis, length in ((2, height), (1, width))
        ],
    }


def _generator(generator: SpikingGenerator, bits: int | None) -> dict[str, Any]:
    check_drawn(generator)
    network, made = whole(generator, bits=bits, in_shape=None)
    assert made is not None
    return {
        "shape": made.image_shape,
        "network": _network(network),
        "noise": made.noise_size,
        "classes": made.num_classes,
        "greys": intensities(made),
    }


def _network(network: IntegerNetwork) -> dict[str, Any]:
    """The tables, and what the page tells of the network."""
    return {
        **asdict(tables(network)),
        "bits": network.bits,
        "offsets": network.offsets,
        "shapes": network.shapes(network.in_shape),
        "kinds": [type(layer).__name__ for layer in network],
        "neurons": sorted({type(neuron).__name__ for neuron in network.neurons}),
    }


def _packed(value: np.ndarray) -> dict[str, str]:
    """An array as the page unpacks it: numbers that fit into 32 bits, the least byte first."""
    narrow = value if value.dtype.itemsize == 1 else value.astype("<i4")
    return {"type": narrow.dtype.name, "base64": base64.b64encode(narrow.tobytes()).decode()}
