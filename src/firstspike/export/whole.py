"""How a network becomes integers: weights rounded, levels and drives found, bounds looked at."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import torch
from torch import Tensor

from firstspike.decision import FirstSpike
from firstspike.export.integers import (
    IntegerCausal,
    IntegerConnection,
    IntegerLayer,
    IntegerNetwork,
    IntegerWindow,
    per_map,
)
from firstspike.export.rounding import (
    Granularity,
    Grid,
    bias_flows,
    check_grid,
    layer_steps,
    round_to,
    settle,
)
from firstspike.models.conv_gan import ConvGenerator, on_spikes
from firstspike.models.gan import SpikingGenerator
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.spiking_form import SpikingForm, spiking_form
from firstspike.models.window import WindowNetwork
from firstspike.neurons import Events, Quantiser
from firstspike.nn import AvgPool2d, EarliestPool2d, Layer, Stack
from firstspike.nn.geometry import Shape
from firstspike.nn.wiring import Convolution, Dense, Wiring

# Of the accumulators that a network needs, in C and on the page.
ACCUMULATOR_BITS = 32
_LIMIT = 2 ** (ACCUMULATOR_BITS - 1) - 1
_LARGEST_SHIFT = 24
# Parts of a window that a drive tells apart.
_FINEST = 2.0**28
_ROUNDED = 16
_INTENSITIES = torch.arange(256, dtype=torch.uint8)


@overload
def integer(
    net: Stack | SpikingForm | WindowNetwork | RasterNetwork,
    *,
    bits: int = 8,
    in_shape: Shape | None = None,
    per: Granularity = "channel",
) -> IntegerNetwork: ...


@overload
def integer(
    net: SpikingGenerator | ConvGenerator, *, bits: int = 8, per: Granularity = "channel"
) -> SpikingGenerator: ...


@torch.no_grad()
def integer(
    net: Stack | SpikingForm | WindowNetwork | RasterNetwork | SpikingGenerator | ConvGenerator,
    *,
    bits: int = 8,
    in_shape: Shape | None = None,
    per: Granularity = "channel",
) -> IntegerNetwork | SpikingGenerator:
    """Return a network of window and causal neurons in integers.

    Weights are rounded to whole multiples ``-m ... m`` of a step, ``m = 2 ** (bits - 1) - 1``, that of the
    least squared error; weights that already are such multiples of a power of two stay as they are. Biases,
    thresholds and the drive of window neurons become integers of 32 bits, whose rounding is far below
    that of the weights.

    Args:
        net: the trained network; of a generator the `stack` becomes one in integers.
        bits: of a weight, 2 ... 8.
        in_shape: shape of a sample, ``(channels, y, x)``, which a stack that begins with a convolution or
            pooling does not know; the features of a fully connected layer by default.
        per: one step for each neuron's or map's weights ("channel") or for a "layer".

    Returns:
        A `Stack` with the same windows and sizes, whose spikes are exact.

    Raises:
        TypeError: `net` is no such network.
        ValueError: neurons that have no form in integers, weights that are not finite, an accumulator
            that could need more than 32 bits, `bits` out of range, a network that does not decide by the
            first spike or takes no spikes.

    >>> import firstspike as fs
    >>> net = fs.Stack(fs.Linear(4, 8), fs.Linear(8, 2, fs.Window.output(steps=32)), steps=16)
    >>> whole = fs.integer(net, bits=4)
    >>> whole.integers[0].connections[0].weight.dtype, whole(whole.encode([[0.0, 0.3, 0.6, 1.0]])).shape
    (torch.int8, torch.Size([1, 2]))
    """
    bits = check_grid("integer", bits, per)
    if isinstance(net, IntegerNetwork):
        raise TypeError(f"the network is in integers already, of {net.bits} bits")
    net = on_spikes(net)
    if isinstance(net, SpikingGenerator):
        made = integer(net.stack, bits=bits, per=per, in_shape=net.in_shape)
        return SpikingGenerator(made, net.noise_size, net.image_shape, net.num_classes, net.prior)
    form = spiking_form(net) if isinstance(net, WindowNetwork | RasterNetwork) else net
    if isinstance(form, Stack):
        stack, encode = form, form[0].neuron.encode
        shapes = stack.shapes(in_shape)
        codes = encode(_INTENSITIES.unsqueeze(0), stack.steps).times[0]
    elif isinstance(form, SpikingForm):
        stack, shapes = form.stack, form.stack.shapes(form.in_shape)
        codes = _codes(form)
    else:
        raise TypeError(
            f"integer takes a firstspike.Stack, a deep network or a generator, found {type(net).__name__}"
        )
    grid = copy.deepcopy(stack).double()
    learnt = settle(grid, bits)
    layers: list[IntegerLayer] = []
    for depth, layer in enumerate(grid):
        where = f"layer {depth} ({type(layer).__name__})"
        for name, tensor in layer.named_parameters():
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"{where}: its {name} holds NaN or infinity")
        sources = stack.sources[depth]
        windows = [stack.windows[source] for source in sources]
        where_from = _Inputs([shapes[source] for source in sources], sources, windows)
        layers.append(_layer(layer, where_from, Grid(bits, per, learnt), where))
    dtypes = [parameter.dtype for parameter in stack.parameters()]
    grid = grid.to(dtypes[0] if dtypes else torch.float32)
    return IntegerNetwork(grid, layers, shapes[0], codes.long(), bits)


def whole(
    net: Stack | SpikingForm | WindowNetwork | RasterNetwork | SpikingGenerator,
    *,
    bits: int | None,
    in_shape: Shape | None,
) -> tuple[IntegerNetwork, SpikingGenerator | None]:
    """Return the network in integers that an exporter writes, and the generator that it belongs to.

    Args:
        net: as `integer` takes it, or what that returned.
        bits: where it is not whole yet; None for 8.
        in_shape: likewise.

    Raises:
        ValueError: other bits than those of a network that is whole already; see `integer`.
    """
    given = net.stack if isinstance(net, SpikingGenerator) else net
    if isinstance(given, IntegerNetwork):
        if bits not in (None, given.bits):
            raise ValueError(f"the network is in integers of {given.bits} bits already, not of {bits}")
        return given, net if isinstance(net, SpikingGenerator) else None
    bits = 8 if bits is None else bits
    if isinstance(net, SpikingGenerator):
        made = integer(net, bits=bits)
        assert isinstance(made.stack, IntegerNetwork)
        return made.stack, made
    return integer(net, bits=bits, in_shape=in_shape), None


def _codes(form: SpikingForm) -> Tensor:
    """The spike time of each intensity, after a look at whether the encoder is such a table."""
    if form.decoder != FirstSpike():
        raise ValueError(
            f"the network decides by {type(form.decoder).__name__}; in integers the first spike does"
        )
    if form.current_multiply_adds:
        raise ValueError("the network's first layer takes a current, which is multiplied; take spikes")
    shape = form.in_shape
    flat = _INTENSITIES.reshape(-1, *[1] * len(shape)).expand(-1, *shape)
    times = form.encode(flat.contiguous()).times.flatten(1)
    if not bool((times == times[:, :1]).all()):
        raise ValueError("the network's encoder does not treat all inputs alike")
    return times[:, 0]


@dataclass(frozen=True)
class _Inputs:
    """What a layer's connections take: shapes of a sample, populations, windows in steps."""

    shapes: Sequence[Shape]
    sources: Sequence[int]
    windows: Sequence[int]


def _layer(layer: Layer | AvgPool2d, inputs: _Inputs, grid: Grid, where: str) -> IntegerLayer:
    """The layer in integers; its own weights become what those stand for."""
    if isinstance(layer, AvgPool2d):
        return _pool(layer, inputs.shapes[0], inputs.sources[0], inputs.windows[0])
    quantiser, events = layer.neuron.quantiser(), layer.neuron.events()
    if quantiser is not None:
        return _window(layer, quantiser, inputs, grid, where)
    if events is not None:
        return _causal(layer, events, inputs, grid, where)
    raise ValueError(
        f"{where} has {type(layer.neuron).__name__} neurons, which have no form in integers; take "
        "Window or Causal ones"
    )


def _pool(layer: AvgPool2d, shape: Shape, source: int, steps: int) -> IntegerCausal:
    """Pooling counts spikes."""
    wiring = layer.synapses_for(shape).wiring
    assert isinstance(wiring, Convolution)
    ones, none = torch.ones(shape[0], dtype=torch.int64), torch.zeros(shape[0], dtype=torch.int64)
    weight = torch.ones(wiring.weight_shape, dtype=torch.int8)
    unit = ones.double() / math.prod(layer.kernel_size)
    count = 1 if isinstance(layer, EarliestPool2d) else layer.count
    events = layer.neuron.events()
    assert events is not None
    return IntegerCausal(
        connections=(IntegerConnection(wiring, source, steps, weight, unit, none),),
        level=ones * count,
        current=none,
        fraction=0,
        delay=events.delay,
        unit=unit,
    )


def _window(layer: Layer, quantiser: Quantiser, inputs: _Inputs, grid: Grid, where: str) -> IntegerWindow:
    connections, steps = (layer, *layer.shortcuts), layer.neuron.out_steps(inputs.windows[0])
    unit = (quantiser.high - quantiser.low) / steps
    # What a weight adds to the level in each step.
    shares = [(quantiser.input_high - quantiser.input_low) / window / unit for window in inputs.windows]
    wanted = layer_steps(layer, inputs.windows, grid)
    added = torch.stack([size * share for size, share in zip(wanted, shares, strict=True)])
    # Finer steps than the drive can tell apart are those of neurons that hardly receive anything.
    base = added.amin(0).clamp(min=steps / _FINEST)
    shifts = (added / base).log2().round().clamp(min=0)
    sizes = [base * 2.0**shift / share for shift, share in zip(shifts, shares, strict=True)]
    weights = [round_to(one, size, grid.bits) for one, size in zip(connections, sizes, strict=True)]
    resting = sum(
        one.synapses(
            torch.full((1, *_taken(one.wiring, shape)), quantiser.input_low, dtype=torch.float64),
            silent=quantiser.input_low,
        )[0]
        for one, shape in zip(connections, inputs.shapes, strict=True)
    )
    assert isinstance(resting, Tensor)
    rest = (resting - quantiser.low) / unit
    plain = [
        IntegerConnection(one.wiring, source, window, weight, size, shift.long())
        for one, source, window, weight, size, shift in zip(
            connections, inputs.sources, inputs.windows, weights, sizes, shifts, strict=True
        )
    ]
    # What a membrane may have to hold in units of the least weight, then in the finest parts that fit.
    largest = rest.abs().reshape(len(rest), -1).amax(1) / base + 2 * steps / base
    for one in plain:
        largest = largest + one.largest(held=True) * 2.0**one.shift
    fraction = _fraction(largest, where)
    counts = 2.0**fraction / base
    drive = counts.round().long()
    # A level at the end of the range would be off by more than a half.
    if int(drive.min()) < steps:
        raise ValueError(
            f"{where}: its weights are too large beside the range of its membranes, of which 32 bits leave "
            f"{int(drive.min())} parts to a level; take a wider range or smaller weights"
        )
    offset = (rest * per_map(counts, rest.dim())).round().long() - steps * per_map(drive, rest.dim())
    flat = offset.reshape(len(offset), -1)
    same = bool((flat == flat[:, :1]).all())
    return IntegerWindow(
        tuple(replace(one, shift=one.shift + fraction) for one in plain),
        offset=flat[:, 0] if same else offset,
        drive=drive,
        steps=steps,
        range=(quantiser.low, unit),
    )


def _causal(layer: Layer, events: Events, inputs: _Inputs, grid: Grid, where: str) -> IntegerCausal:
    connections = (layer, *layer.shortcuts)
    base, *_ = layer_steps(layer, inputs.windows, grid)
    none = torch.zeros(len(base), dtype=torch.int64)
    weights = [round_to(one, base, grid.bits) for one in connections]
    plain = [
        IntegerConnection(one.wiring, source, window, weight, base, none)
        for one, source, window, weight in zip(
            connections, inputs.sources, inputs.windows, weights, strict=True
        )
    ]
    biases = [one.bias for one in connections if one.bias is not None]
    bias = sum(biases[1:], biases[0]) if biases else torch.zeros(len(base), dtype=torch.float64)
    most = torch.stack([one.largest(held=False) for one in plain]).sum(0).double()
    flows = bias_flows(layer)
    fraction = 0
    if flows:
        added = (events.threshold + inputs.windows[0] * bias.abs()) / base
        fraction = int(_fraction(most + added, where).min())
    counts = 2.0**fraction / base
    level = (events.threshold - (0.0 if flows else bias)) * counts
    level = level.floor() + 1 if events.strict else level.ceil()
    if not flows:
        _fraction(most, where)
        # Below all sums a neuron fires at once, above all it never does.
        level = level.clamp(-float(most.max()), float(most.max()) + 1)
    return IntegerCausal(
        tuple(replace(one, shift=none + fraction) for one in plain),
        level=level.long(),
        current=(bias * counts).round().long() if flows else none,
        fraction=fraction,
        delay=events.delay,
        unit=base,
    )


def _fraction(largest: Tensor, where: str) -> Tensor:
    """How often each map's sums, float64 ``(O,)``, may be doubled so that accumulators hold them."""
    # Rounding adds a half to each of some parts.
    doubled = (_LIMIT / (largest + _ROUNDED)).log2().floor()
    if not bool((doubled >= 0).all()):
        raise ValueError(
            f"{where}: an accumulator could reach {float(largest.max()):.3g}, more than {ACCUMULATOR_BITS} "
            f"bits hold ({_LIMIT:,}); take fewer bits, steps or inputs, or smaller biases"
        )
    return doubled.clamp(max=_LARGEST_SHIFT).long()


def _taken(wiring: Wiring, shape: Shape) -> Shape:
    return (math.prod(shape),) if isinstance(wiring, Dense) else shape
