"""A network as a C program that computes it in integers, event by event."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from firstspike import __version__
from firstspike.decision import FirstSpike
from firstspike.export.integers import IntegerCausal, IntegerNetwork
from firstspike.export.tables import ConnectionTable, LayerTable, Tables, check_drawn, intensities, tables
from firstspike.export.whole import whole
from firstspike.inputs import as_images
from firstspike.metrics.cost import (
    spikes_per_layer,
    spikes_to_decision,
    steps_to_decision,
    synaptic_operations,
)
from firstspike.models.conv_gan import ConvGenerator, on_spikes
from firstspike.models.gan import SpikingGenerator
from firstspike.models.spiking_form import SpikingForm
from firstspike.nn import Stack
from firstspike.nn.geometry import Shape
from firstspike.support import atomic_folder, expanded

_TEMPLATES = files("firstspike.export") / "c_program"
_VECTORS = 100
_PER_LINE = 20
# Weights of so few bits share a byte.
_HALF_BYTE = 4
_MOST = 2**32 - 1
_NARROW = 2**15 - 1


@dataclass(frozen=True)
class Sizes:
    """What an exported program needs.

    Attributes:
        flash: bytes of its tables, without the code.
        ram: bytes of its static memory.
        steps, operations: at most, of a sample.
    """

    flash: int
    ram: int
    steps: int
    operations: int


def c(
    net: Stack | SpikingForm | SpikingGenerator | ConvGenerator,
    folder: str | Path,
    *,
    bits: int | None = None,
    in_shape: Shape | None = None,
    vectors: Any = None,
) -> Sizes:
    """Write a network as a C99 program: ``network.h``, ``network.c``, ``main.c``, a Makefile, test vectors.

    It needs no library but C's, allocates nothing, and computes in integers of 32 bits: no
    floating-point numbers, no division, and no multiplication between a spike and the membranes it reaches.
    ``make`` builds ``network``, which reads samples as an IDX file of bytes, as MNIST's, and prints a line
    ``label step spikes operations`` for each, the label -1 for a tie or silence; a generator writes its
    pictures as such a file. ``make check`` compares it with the integer model on the test vectors.

    Args:
        net: as `firstspike.integer` takes it, or what it returned.
        folder: empty or not there yet.
        bits, in_shape: see `firstspike.integer`, where `net` is not whole yet; 8 bits by default.
        vectors: samples for the test vectors, uint8, as the network takes them: images ``(n, ...)``, or of
            a generator the noise levels, with one more input per class, 255 for the label's and 0 for
            others; random ones by default.

    Raises:
        TypeError, ValueError: see `firstspike.integer`; the last layer gives maps; vectors of another
            shape.
        InputError: `folder` holds something.
        OSError: it cannot be written.
    """
    given: Stack | SpikingForm | SpikingGenerator = on_spikes(net)
    if isinstance(given, SpikingGenerator):
        check_drawn(given)
    network, generator = whole(given, bits=bits, in_shape=in_shape)
    layout = tables(network, even=network.bits <= _HALF_BYTE)
    if generator is None and layout.layers[-1].places > 1:
        raise ValueError(
            "the last layer gives maps, of which none decides; end with a fully connected layer"
        )
    samples = _samples(network.in_shape, generator, vectors)
    program = _Program(layout, network, generator)
    texts = program.texts()
    with atomic_folder(expanded(folder, "folder")) as made:
        for name, text in texts.items():
            (made / name).write_text(text, encoding="ascii")
        (made / "main.c").write_text((_TEMPLATES / "main.c").read_text(encoding="ascii"), encoding="ascii")
        dims = 2 if generator else 3
        write_idx(
            made / f"vectors.idx{dims}-ubyte", samples.reshape(len(samples), *_sides(network, generator))
        )
        lines, pixels = expected(network, generator, samples)
        (made / "vectors.txt").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
        if pixels is not None:
            write_idx(made / "expected.idx3-ubyte", pixels)
    return program.sizes


def _sides(network: IntegerNetwork, generator: SpikingGenerator | None) -> Shape:
    """What a sample looks like in a file: one row of noise, else rows of pixels."""
    if generator:
        return (math.prod(network.in_shape),)
    if len(network.in_shape) == 1:
        side = round(network.in_shape[0] ** 0.5)
        return (side, side) if side**2 == network.in_shape[0] else (1, network.in_shape[0])
    channels, height, width = network.in_shape
    return channels * height, width


def _samples(in_shape: Shape, generator: SpikingGenerator | None, given: Any) -> np.ndarray:
    """Test vectors, uint8 ``(n, inputs)``."""
    size = int(np.prod(in_shape))
    if given is not None:
        images = as_images(given)
        if images.dtype != torch.uint8 or images.dim() < 2 or images.shape[1:].numel() != size:
            raise ValueError(
                f"vectors must be uint8 (n, ...) with {size} bytes a sample, found {images.dtype} "
                f"{tuple(images.shape)}"
            )
        if not len(images):
            raise ValueError("vectors must hold a sample at least, found none")
        return np.asarray(images.flatten(1))
    draw = np.random.default_rng(0)
    made = draw.integers(0, 256, (_VECTORS, size), np.uint8)
    if generator is None:
        # Half of the pixels black.
        return made * draw.integers(0, 2, made.shape, np.uint8)
    made[:, generator.noise_size :] = 0
    if generator.num_classes:
        made[np.arange(_VECTORS), generator.noise_size + np.arange(_VECTORS) % generator.num_classes] = 255
    return made


def expected(
    network: IntegerNetwork, generator: SpikingGenerator | None, samples: np.ndarray
) -> tuple[list[str], np.ndarray | None]:
    """Return the integer model's lines for samples, uint8 ``(n, inputs)``, and a generator's pixels."""
    images = torch.from_numpy(samples).reshape(len(samples), *network.in_shape)
    traced = network.trace(network.encode(images))
    if generator is None:
        columns = (
            FirstSpike().decide(traced[-1]).label,
            steps_to_decision(network, traced[-1]),
            spikes_to_decision(network, traced).sum(1),
            synaptic_operations(network, traced),
        )
        pixels = None
    else:
        classes = torch.from_numpy(samples[:, generator.noise_size :])
        labels = classes.argmax(1) if classes.shape[1] else torch.full((len(samples),), -1)
        columns = (
            labels,
            torch.full((len(samples),), network.offsets[-1] + network.out_steps),
            spikes_per_layer(network, traced).sum(1),
            synaptic_operations(network, traced, until_decision=False),
        )
        pixels = generator.images(traced[-1]).numpy()
    rows = torch.stack([column.long() for column in columns], 1).tolist()
    return [" ".join(map(str, row)) for row in rows], pixels


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array of bytes as an IDX file."""
    head = np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes()
    path.write_bytes(head + np.ascontiguousarray(array, np.uint8).tobytes())


class _Program:
    """The texts of a program, and what it needs."""

    def __init__(self, layout: Tables, network: IntegerNetwork, generator: SpikingGenerator | None) -> None:
        self.layout, self.network, self.generator = layout, network, generator
        self.packed = network.bits <= _HALF_BYTE
        populations: list[Tables | LayerTable] = [layout, *layout.layers]
        self.neurons = [one.places * one.channels for one in populations]
        self.phase_of = [0] * (len(layout.layers) + 1)
        # Where the layers' membranes lie in one array, and causal ones' sums in another.
        self.first = [0] * len(layout.layers)
        self.arena = {"MEMBRANES": 1, "SUMS": 1}
        for phase, members in enumerate(layout.phases):
            used = {"MEMBRANES": 0, "SUMS": 0}
            for depth in members:
                self.phase_of[depth + 1] = phase
                kind = "MEMBRANES" if layout.layers[depth].window else "SUMS"
                self.first[depth] = used[kind]
                used[kind] += self.neurons[depth + 1]
            self.arena = {kind: max(size, used[kind]) for kind, size in self.arena.items()}
        read = [n for n, one in zip(self.neurons[1:], layout.layers, strict=True) if one.window]
        self.widest = max(read, default=1)
        self.windows = [layout.steps, *(one.steps for one in layout.layers)]
        # The input's silent neurons have a step of their own.
        self.counted = [layout.steps + 1, *self.windows[1:]]
        self.types = {
            "side_t": _unsigned(max(max(one.sides) for one in populations) + 1),
            "channel_t": _unsigned(max(one.channels for one in populations)),
            "count_t": _unsigned(max(self.neurons) + 1),
            "step_t": _unsigned(layout.steps + 1),
        }
        self.narrow = _narrow(network)
        self.flash = 0
        self.data = "".join(self._data())
        self.sizes = self._sizes()

    def texts(self) -> dict[str, str]:
        """Return what stands in each generated file."""
        network, generator = self.network, self.generator
        shape = " x ".join(map(str, network.in_shape))
        inputs = f"{shape} values 0 ... 255"
        title = f"{len(network)} layers of neurons that spike at most once, weights of {network.bits} bits."
        if generator:
            height, width = generator.image_shape
            inputs = f"{generator.noise_size} levels of noise"
            if generator.num_classes:
                inputs += (
                    f", then {generator.num_classes} bytes, 255 for the label's and 0 for other classes"
                )
            about = (
                "/* Levels of noise, and the picture. */\n"
                f"#define NETWORK_NOISE {generator.noise_size}\n"
                f"#define NETWORK_HEIGHT {height}\n#define NETWORK_WIDTH {width}\n"
            )
            function = (
                "/* Turn noise into a picture, row by row. */\n"
                "network_result network_generate(const uint8_t *noise, uint8_t *pixels);"
            )
            check = (
                "./network vectors.idx2-ubyte pixels.idx3-ubyte 2>/dev/null | diff - vectors.txt\n"
                "\tcmp pixels.idx3-ubyte expected.idx3-ubyte"
            )
        else:
            about, check = "", "./network vectors.idx3-ubyte 2>/dev/null | diff - vectors.txt"
            function = (
                "/* Decide what a sample is. */\nnetwork_result network_decide(const uint8_t *sample);"
            )
        header = _filled(
            "network.h",
            title=title,
            version=__version__,
            inputs=inputs,
            input_count=self.neurons[0],
            output_count=self.neurons[-1],
            generates=int(generator is not None),
            generator=about,
            function=function,
        )
        walk = (_TEMPLATES / "walk.c").read_text(encoding="ascii")
        return {
            "network.h": header,
            "network.c": "\n".join((_INCLUDES, self._declarations(), self.data, walk)),
            "Makefile": _filled("Makefile", check=check, cleaned="pixels.idx3-ubyte" if generator else ""),
        }

    def _sizes(self) -> Sizes:
        width = {"uint8_t": 1, "uint16_t": 2, "uint32_t": 4}
        side, channel, count = (width[self.types[name]] for name in ("side_t", "channel_t", "count_t"))
        align = max(side, channel)
        event = -(-(-(-2 * side // channel) * channel + channel) // align) * align
        ram = event * sum(self.neurons) + count * sum(self.counted)
        total = 2 if self.narrow else 4
        ram += 4 * (self.arena["MEMBRANES"] + self.widest) + total * (2 * self.arena["SUMS"] + self.widest)
        operations = sum(
            int(one.rows[:, 2].sum()) * int(one.columns[:, 2].sum()) * len(one.channels) * one.run
            for layer in self.layout.layers
            for one in layer.connections
        )
        if operations > _MOST:
            raise ValueError(f"a sample could take {operations:,} operations, more than 32 bits count")
        return Sizes(self.flash, ram, self.layout.first_step + self.windows[-1], operations)

    def _declarations(self) -> str:
        layout = self.layout
        weight, bits = "uint8_t" if self.packed else "int8_t", 16 if self.narrow else 32
        definitions = {
            "WEIGHT_BITS": _HALF_BYTE if self.packed else 8,
            "LAYERS": f"{len(layout.layers)}u",
            "PHASES": f"{len(layout.phases)}u",
            "INPUT_CHANNELS": layout.channels,
            "INPUT_HEIGHT": layout.sides[0],
            "INPUT_WIDTH": layout.sides[1],
            "BLACK_IS_SILENT": int(layout.codes[0] == layout.steps),
            "FIRST_STEP": f"{layout.first_step}u",
            "LAST_STEP": f"{layout.first_step + self.windows[-1]}u",
            "MOST_OPERATIONS": f"{self.sizes.operations}u",
            "FLASH": f"{self.sizes.flash}u",
            "EVENTS": sum(self.neurons),
            "STEPS": sum(self.counted),
            **self.arena,
            "WIDEST": self.widest,
            "NEVER": f"INT{16 if self.narrow else 32}_MAX",
        }
        if self.generator:
            definitions["OUTPUT_HEIGHT"], definitions["OUTPUT_WIDTH"] = (
                f"{side}u" for side in layout.layers[-1].sides
            )
        defined = "".join(f"#define {name} {value}\n" for name, value in definitions.items())
        typed = "".join(f"typedef {kind} {name};\n" for name, kind in self.types.items())
        return f"{defined}\n{typed}typedef {weight} weight_t;\ntypedef int{bits}_t sum_t;\n\n{_STRUCTURES}"

    def _data(self) -> Iterator[str]:
        layout = self.layout
        yield self._array("step_t", "codes", layout.codes)
        for depth, layer in enumerate(layout.layers):
            for k, one in enumerate(layer.connections):
                yield from self._connection(f"{depth}_{k}", one)
            yield self._array("int32_t", f"starts_{depth}", layer.start)
            yield self._array("int32_t", f"rates_{depth}", layer.rate)
            names = ("weights", "rows", "columns", "channels", "shifts")
            rows = [
                _braced(
                    [one.source, one.run, one.target_y, one.target_x, one.weight_y, one.weight_x]
                    + [f"{name}_{depth}_{k}" for name in names]
                )
                for k, one in enumerate(layer.connections)
            ]
            yield _array("connection", f"connections_{depth}", rows)
        yield _array("layer", "layers", list(map(self._layer, range(len(layout.layers)), layout.layers)))
        events, ends = np.cumsum([0, *self.neurons]), np.cumsum([0, *self.counted])
        yield _array(
            "struct population_table",
            "populations",
            [
                f"{{{events[i]}, {ends[i]}, {steps}, {self.phase_of[i]}}}"
                for i, steps in enumerate(self.windows)
            ],
        )
        # Phase by phase.
        members = [depth for phase in layout.phases for depth in phase]
        yield _array("uint16_t", "order", members)
        yield _array("uint16_t", "phases", np.cumsum([0, *map(len, layout.phases)]).tolist())
        if self.generator:
            yield self._array("uint8_t", "intensities", intensities(self.generator))

    def _connection(self, name: str, one: ConnectionTable) -> Iterator[str]:
        weights = one.weights
        if self.packed:
            pairs = (weights.reshape(-1, 2) & 15).astype(np.uint8)
            weights = pairs[:, 0] | pairs[:, 1] << 4
        yield self._array("weight_t", f"weights_{name}", weights, 1)
        for kind, values, size in (("rows", one.rows, 12), ("columns", one.columns, 12)):
            self.flash += size * len(values)
            yield _array("reach", f"{kind}_{name}", list(map(_braced, values.tolist())))
        self.flash += 8 * len(one.channels)
        yield _array("start", f"channels_{name}", list(map(_braced, one.channels.tolist())))
        yield self._array("uint8_t", f"shifts_{name}", one.shifts)

    def _layer(self, depth: int, layer: LayerTable) -> str:
        placed = len(layer.start) > layer.channels
        numbers = (
            int(layer.window),
            int(placed),
            int(not layer.window and layer.rate.any()),
            layer.fraction,
            layer.delay,
            len(layer.connections),
            *layer.sides,
            layer.channels,
            self.neurons[depth + 1],
            self.first[depth] if layer.window else 0,
            0 if layer.window else self.first[depth],
        )
        return _braced([*numbers, *(f"{name}_{depth}" for name in ("connections", "starts", "rates"))])

    def _array(self, kind: str, name: str, values: np.ndarray, size: int | None = None) -> str:
        kind_size = {"uint8_t": 1, "uint16_t": 2, "uint32_t": 4, "int32_t": 4, "weight_t": 1}
        self.flash += len(values) * kind_size[self.types.get(kind, kind)]
        return _array(kind, name, values.tolist())


_INCLUDES = """\
#include "network.h"

#include <string.h>
"""

_STRUCTURES = """\
/* Where a row or a column of inputs begins to reach, and how many rows or columns. */
typedef struct {
    int32_t target, weight;
    uint16_t count;
} reach;

/* Where an input channel begins to reach. */
typedef struct {
    int32_t target, weight;
} start;

/* Where spikes go. */
typedef struct {
    uint32_t source, run;
    int32_t target_y, target_x, weight_y, weight_x;
    const weight_t *weights;
    const reach *rows, *columns;
    const start *channels;
    const uint8_t *shifts;
} connection;

/* Window neurons start at their offsets and grow by their rates; causal ones' levels fall by theirs. */
typedef struct {
    uint8_t window, placed, flows, fraction;
    uint32_t delay, inputs, height, width, channels, neurons, membranes, sums;
    const connection *connections;
    const int32_t *starts, *rates;
} layer;

struct population_table {
    uint32_t events, upto, steps, phase;
};
"""


def _filled(name: str, **values: Any) -> str:
    text = (_TEMPLATES / name).read_text(encoding="ascii")
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", str(value))
    return text


def _array(kind: str, name: str, values: Sequence[Any]) -> str:
    per_line = _PER_LINE if not values or isinstance(values[0], int) else 1
    lines = (
        ", ".join(map(str, values[start : start + per_line])) for start in range(0, len(values), per_line)
    )
    return f"static const {kind} {name}[] = {{\n    " + ",\n    ".join(lines) + "\n};\n"


def _narrow(network: IntegerNetwork) -> bool:
    """Whether 16 bits hold every sum of weights and every level."""
    for layer in network.integers:
        sums = [int(one.largest(held=False).max()) for one in layer.connections]
        if isinstance(layer, IntegerCausal):
            # The weights of all connections add up.
            sums = [sum(sums), layer.bound()]
        if max(sums) >= _NARROW:
            return False
    return True


def _braced(values: Sequence[Any]) -> str:
    return f"{{{', '.join(map(str, values))}}}"


def _unsigned(largest: int) -> str:
    """The smallest type that holds numbers below `largest`."""
    return "uint8_t" if largest <= 2**8 else "uint16_t" if largest <= 2**16 else "uint32_t"
