"""Trained ReLU networks as networks of window neurons, one spike per neuron.

A window neuron with ``T`` levels is a clipped ReLU that is quantised, so a trained ReLU network becomes a
spiking one by choosing the range of every activation. A reader makes a `graph.Graph` of it, which is folded
into layers (`fold`), looked at on images (`calibrate`) and built (`build`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from firstspike.inputs import as_images
from firstspike.models.convert import make
from firstspike.models.convert.build import Builder
from firstspike.models.convert.calibrate import Ranges, calibrate
from firstspike.models.convert.fold import fold
from firstspike.models.convert.graph import Graph, MaxPool, Relay, Scale
from firstspike.models.convert.read_onnx import read_onnx
from firstspike.models.convert.read_torch import read_torch
from firstspike.nn import Stack
from firstspike.support import MAX_NUM_STEPS, InputError, check_num_steps, check_number

# Levels of the output's window for one of a layer's, and at least, unless asked otherwise: fewer tie.
_OUTPUT_LEVELS, _LEAST_OUTPUT = 32, 512


def from_torch(
    model: torch.nn.Module,
    calibration: Any,
    *,
    steps: int = 16,
    output_steps: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    ranges: Ranges = "error",
    corrected: bool = True,
) -> Stack:
    """Return a trained ReLU network as a network of window neurons that spike at most once.

    What torch.export can trace is converted where it has a meaning with single spikes: linear layers;
    convolutions, also transposed, of any stride, padding, dilation and groups; batch normalisation;
    ReLU, ReLU6, clamp; max and average pooling; flattening, slices, concatenations, sums. Dropout and a
    last softmax are left out. Everything else is refused by its name.

    The result is exact: it fires as the plain network of its weights whose activations are rounded to
    ``steps`` levels. Weights are multiples of a power of two, so that sums are exact in float32 in any
    order, up to about 128 steps; beyond, weights keep nine bits and a sum may be rounded.

    Args:
        model: trained; it is left as it is and converted in evaluation mode.
        calibration: two images or more as `model` takes them, ``(count, ...)``, uint8 or floats in 0 ... 1;
            some hundreds of the training set.
        steps: levels, the length ``T`` of the windows of the input and of every layer.
        output_steps: length of the output's window, whose first spike decides; None for 32 `steps`,
            512 at least.
        mean, std: what `model`'s inputs are normalised by, if that is done outside of it: a number, or one
            for each channel. They go into the first layer.
        ranges: of the activations, of each channel apart: "error" for the least squared error,
            "maximum", or the share of values that lie below, such as 0.999.
        corrected: move weights and biases so that membranes on `calibration` come near those of `model`.

    Raises:
        InputError: the model cannot be traced, has an operation without a meaning, or an activation that is
            dead on `calibration`.
        TypeError, ValueError: another type of images, out of range, a single one; an argument out of range.

    >>> relu = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> images = torch.rand(100, 4, generator=torch.Generator().manual_seed(0))
    >>> net = from_torch(relu, images, steps=16)
    >>> net.encode(images).times.shape, net.windows
    (torch.Size([100, 4]), [16, 16, 512])
    """
    return convert(
        partial(read_torch, model),
        calibration,
        steps=steps,
        output_steps=output_steps,
        mean=mean,
        std=std,
        ranges=ranges,
        corrected=corrected,
    )


def from_onnx(
    path: str | Path,
    calibration: Any,
    *,
    steps: int = 16,
    output_steps: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    ranges: Ranges = "error",
    corrected: bool = True,
) -> Stack:
    """Return the trained ReLU network of an ONNX file as a network of window neurons.

    It takes what `from_torch` takes, from any framework that writes ONNX of opset 7 or newer, in one file.
    The file is only read. Images are ``(count, channels, y, x)``, here and for the result, also where the
    file takes ``(count, y, x, channels)``, as those of Keras do.

    Args:
        path: of the file.
        calibration: as for `from_torch`.
        steps, output_steps, mean, std, ranges, corrected: see `from_torch`.

    Raises:
        InputError: the file cannot be read or is none of ONNX, has more than one input or output, is made
            for images of another shape, or has what `from_torch` refuses.
        ImportError: without the package onnx.
        TypeError, ValueError: see `from_torch`.
    """
    return convert(
        lambda examples: (read_onnx(path, tuple(examples.shape[1:])), None),
        calibration,
        steps=steps,
        output_steps=output_steps,
        mean=mean,
        std=std,
        ranges=ranges,
        corrected=corrected,
    )


@contextmanager
def _plain_torch() -> Iterator[None]:
    """Work in float32, outside of inference mode and without a trace in the random state."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_default_dtype(default)


@_plain_torch()
def convert(
    read: Callable[[Tensor], tuple[Graph, Tensor | None]],
    calibration: Any,
    *,
    steps: int,
    output_steps: int | None,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    ranges: Ranges,
    corrected: bool,
) -> Stack:
    """Return the network that a reader reads; torch's random state and its defaults are left alone.

    Args:
        read: takes the first images, normalised; gives the graph, and what the network itself makes of the
            first of them, if that is known: the graph must make the same of them.
        calibration, steps, output_steps, mean, std, ranges, corrected: see `from_torch`.

    Raises:
        InputError, TypeError, ValueError: see `from_torch`.
    """
    images = _images(calibration)
    steps = check_num_steps(steps)
    output_steps = check_num_steps(
        min(max(_OUTPUT_LEVELS * steps, _LEAST_OUTPUT), MAX_NUM_STEPS)
        if output_steps is None
        else output_steps,
        name="output_steps",
    )
    if ranges not in ("error", "maximum"):
        if isinstance(ranges, str):
            raise ValueError(f'ranges must be "error", "maximum" or a share in 0.5 ... 1, found {ranges!r}')
        ranges = check_number("convert", "ranges", ranges, low=0.5, high=1)
    normalise = _normalisation(images.shape[1], mean, std)
    graph, outputs = read(images[:2] if normalise is None else normalise(images[:2]))
    if bool((images == images[:1]).all()):
        raise ValueError("calibration images are all the same; give some of the training set")
    if normalise is not None:
        graph.replace(graph.input, make.node("the normalisation", normalise, graph.input))
    if graph.output.shape[1:] and not any(side > 1 for side in graph.output.shape[1:]):
        # Maps of one place are features.
        flat = make.arrange(
            "the output", graph.output, make.whole(graph.output.shape), graph.output.shape[:1]
        )
        graph.replace(graph.output, flat)
    if graph.output.op is None or isinstance(graph.output.op, MaxPool):
        # The output's neurons have a window and a range of their own.
        graph.output = make.node("the output", Relay(), graph.output)
    connections = fold(graph)
    seen = calibrate(graph, images, steps, ranges)
    if outputs is not None:
        _check_read(graph, graph(images[: len(outputs)]), outputs)
    return Builder(
        graph,
        connections,
        seen,
        images,
        steps=steps,
        output_steps=output_steps,
        corrected=corrected,
    ).build()


def _images(calibration: Any) -> Tensor:
    try:
        images = as_images(calibration)
    except ValueError as error:
        below_0 = bool((torch.as_tensor(calibration) < 0).any())
        hint = "; or give them before their normalisation, and its mean and std" if below_0 else ""
        raise ValueError(f"calibration: {error}{hint}") from error
    if images.dim() < 2 or len(images) < 2:
        raise ValueError(
            f"calibration must be two images or more (count, ...), found {tuple(images.shape)}; some "
            "hundreds of the training set are best"
        )
    # A copy: a tensor made in inference mode cannot be used outside of it.
    return images.float() / 255 if images.dtype == torch.uint8 else images.float().clone()


def _check_read(graph: Graph, found: Tensor, expected: Tensor) -> None:
    """Refuse a network that was read but computes something else."""
    found = torch.softmax(found, 1) if graph.last == "softmax" else found
    found = torch.log_softmax(found, 1) if graph.last == "log_softmax" else found
    expected = expected.reshape(found.shape)
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
        raise InputError(
            f"{graph.name} was read as a network that computes something else; write what is random, or "
            "changed in place, by operations that return their result"
        )


def _normalisation(
    channels: int, mean: float | Sequence[float] | None, std: float | Sequence[float] | None
) -> Scale | None:
    """Return what turns images in 0 ... 1 into a network's inputs, None for nothing."""
    if mean is None and std is None:
        return None
    spread = []
    for name, given, neutral in (("mean", mean, 0.0), ("std", std, 1.0)):
        value = torch.as_tensor(neutral if given is None else given, dtype=torch.float64)
        if not bool(torch.isfinite(value).all()) or (name == "std" and not bool((value > 0).all())):
            raise ValueError(f"{name} must be finite, std above 0, found {value.tolist()}")
        if value.numel() not in (1, channels):
            raise ValueError(
                f"{name} must be one number or {channels}, one a channel, found {value.tolist()}"
            )
        spread.append(value.flatten().expand(channels))
    return Scale(gain=(1 / spread[1]).float(), shift=(-spread[0] / spread[1]).float())
