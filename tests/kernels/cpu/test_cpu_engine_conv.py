"""Convolutions in the engine against loops over every step, target and tap."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.kernels.cpu import engine
from firstspike.kernels.cpu.vectors import LANES

Shape = tuple[int, int, int]


class Conv:
    """One convolution: weight ``(out, in / groups, ky, kx)``, and what it does to one image."""

    def __init__(
        self, shape: Shape, weight: np.ndarray, groups: int, stride: tuple, padding: tuple
    ) -> None:
        self.shape, self.weight, self.groups = shape, weight, groups
        self.stride, self.padding = stride, padding
        spans = zip(shape[1:], weight.shape[2:], stride, padding, strict=True)
        height, width = ((n + 2 * p - k) // s + 1 for n, k, s, p in spans)
        self.out_shape = (len(weight), height, width)

    def sources(self, o: int, y: int, x: int) -> list[tuple[int, float]]:
        """Return each input of one target by index, with its weight."""
        fan_in, per_group = self.weight.shape[1], len(self.weight) // self.groups
        found = []
        for c, dy, dx in product(range(fan_in), *(range(k) for k in self.weight.shape[2:])):
            row, column = (
                y * self.stride[0] + dy - self.padding[0],
                x * self.stride[1] + dx - self.padding[1],
            )
            if 0 <= row < self.shape[1] and 0 <= column < self.shape[2]:
                channel = o // per_group * fan_in + c
                index = (channel * self.shape[1] + row) * self.shape[2] + column
                found.append((index, self.weight[o, c, dy, dx]))
        return sorted(found, key=lambda pair: pair[0])

    def times(self, times: np.ndarray, threshold: float, num_steps: int) -> tuple[list[int], int]:
        """Return the targets' crossings and the additions over the whole window."""
        out, additions = [], 0
        for target in product(*map(range, self.out_shape)):
            sources, V, crossing = self.sources(*target), self.weight.dtype.type(0), num_steps
            for t in sorted({int(times[i]) for i, _ in sources} - {num_steps}):
                for i, w in sources:
                    if times[i] == t:
                        V = V + w
                        additions += 1
                if threshold <= V and crossing == num_steps:
                    crossing = t
            out.append(crossing)
        return out, additions

    def entry(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Return this layer's row of the engine's table and its weights in the engine's order."""
        row = np.zeros(engine.COLUMNS, np.int64)
        outputs, fan_in, ky, kx = self.weight.shape
        for column, value in (
            (engine.IN_FEATURES, np.prod(self.shape)),
            (engine.OUT_FEATURES, np.prod(self.out_shape)),
            (engine.WEIGHTS, start),
            (engine.GROUPS, self.groups),
            (engine.KERNEL_Y, ky),
            (engine.KERNEL_X, kx),
        ):
            row[column] = value
        row[engine.IN_CHANNELS : engine.IN_WIDTH + 1] = self.shape
        row[engine.OUT_CHANNELS : engine.OUT_WIDTH + 1] = self.out_shape
        row[engine.STRIDE_Y : engine.STRIDE_X + 1] = self.stride
        row[engine.PADDING_Y : engine.PADDING_X + 1] = self.padding
        split = self.weight.reshape(self.groups, outputs // self.groups, fan_in * ky * kx)
        return row, split.transpose(0, 2, 1).flatten()


@st.composite
def convolutions(draw: st.DrawFn, rng: np.random.Generator, shape: Shape, dtype: type) -> Conv:
    padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    kernel = [draw(st.integers(1, min(3, n + 2 * p))) for n, p in zip(shape[1:], padding, strict=True)]
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if shape[0] % g == 0]))
    outputs = groups * draw(st.integers(1, 3))
    weight = rng.uniform(-0.5, 1, (outputs, shape[0] // groups, *kernel)).astype(dtype)
    if draw(st.booleans()):
        weight = (np.round(weight * 4) / 4).astype(dtype)
    return Conv(shape, weight, groups, (draw(st.integers(1, 3)), draw(st.integers(1, 3))), padding)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_two_convolutions_are_those_of_plain_loops(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shape = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6)), data.draw(st.integers(1, 5)))
    one = data.draw(convolutions(rng, shape, dtype))
    two = data.draw(convolutions(rng, one.out_shape, dtype))
    num_steps = data.draw(st.sampled_from([2, 7, 300]))
    limits = rng.choice([0.25, 0.75, 1.5], 2).astype(dtype)
    times = rng.integers(0, num_steps + 1, (3, int(np.prod(shape)))).astype(np.float32)

    table_one, rows_one = one.entry(0)
    table_two, rows_two = two.entry(len(rows_one))
    flat = np.concatenate([rows_one, rows_two, np.zeros(LANES, dtype)])
    table = np.stack([table_one, table_two])
    starts = (
        np.zeros(engine.membrane_offsets(table)[-1], dtype), np.empty(0, np.int32), np.zeros(3, np.int64)
    )  # fmt: skip
    late, all_of_them, refused = engine.decide(times, flat, limits, table, *starts, num_steps, False)
    early, until, also_refused = engine.decide(times, flat, limits, table, *starts, num_steps, True)
    assert refused == also_refused == -1
    for k, image in enumerate(times):
        hidden, first = one.times(image, limits[0], num_steps)
        output, second = two.times(np.array(hidden), limits[1], num_steps)
        assert late[k].tolist() == output
        assert all_of_them[k, engine.OPERATIONS] == first + second
        spikes = [sum(t < num_steps for t in layer) for layer in (image, hidden, output)]
        assert all_of_them[k, engine.SPIKES :].tolist() == spikes

        # The same with everything silenced that comes after the first output spike.
        step = min(output)
        cut = [np.where(np.array(layer) <= step, layer, num_steps) for layer in (image, hidden, output)]
        assert early[k].tolist() == cut[2].tolist()
        assert until[k, engine.STEP] == step
        assert until[k, engine.SPIKES :].tolist() == [int((layer < num_steps).sum()) for layer in cut]
        done = one.times(cut[0], limits[0], num_steps)[1] + two.times(cut[1], limits[1], num_steps)[1]
        assert until[k, engine.OPERATIONS] == done
