"""The causal neuron's kernel at the edges of its blocks, vectors, keys and sorting passes."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from builders import conv, dense, fires, refused
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from firstspike.kernels.cpu import linear, order
from firstspike.kernels.cpu.vectors import LANES, blocks
from firstspike.neurons import Causal


@pytest.fixture(autouse=True)
def _thread_count_put_back() -> Iterator[None]:
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def draw(batch: int, n_in: int, n_out: int, num_steps: int, active: float) -> tuple[Tensor, Tensor]:
    """Return times and dyadic weights."""
    generator = torch.Generator().manual_seed(n_in * 1000 + n_out + num_steps)
    times = torch.randint(0, num_steps, (batch, n_in), generator=generator).to(torch.float32)
    fires = torch.rand(batch, n_in, generator=generator) < active
    weight = torch.randint(-16, 20, (n_out, n_in), generator=generator).to(torch.float32) / 64
    return torch.where(fires, times, float(num_steps)), weight


def first_crossings(times: Tensor, weight: Tensor, num_steps: int) -> Tensor:
    """Return the first crossing of 1 of the cumulative sums over the inputs in the order of time."""
    order = np.argsort(times.numpy(), axis=1, kind="stable")
    out = np.full((len(times), len(weight)), float(num_steps), np.float32)
    for b, inputs in enumerate(order):
        steps = times.numpy()[b, inputs]
        inputs, steps = inputs[steps < num_steps], steps[steps < num_steps]
        membrane = np.cumsum(weight.numpy()[:, inputs].astype(np.float64), 1)
        last_of_step = np.append(steps[1:] != steps[:-1], True)[: len(steps)]
        for j, path in enumerate(membrane):
            crossed = np.flatnonzero((path >= 1) & last_of_step)
            if len(crossed):
                out[b, j] = steps[crossed[0]]
    return torch.from_numpy(out)


@pytest.mark.parametrize("n_out", [1, 15, 16, 17, 33, 64, 65, 207, 208, 209, 401])
@pytest.mark.parametrize("n_in", [1, 15, 16, 17, 50])
def test_any_number_of_neurons(n_in: int, n_out: int) -> None:
    times, weight = draw(35, n_in, n_out, 12, 0.7)
    expected = first_crossings(times, weight, 12)
    assert torch.equal(fires(dense(weight, Causal()), times, 12), expected)
    assert torch.equal(fires(dense(weight.double(), Causal()), times, 12), expected)


@pytest.mark.parametrize("num_steps", [2, 255, 256, 257, 512, 513, 4096, 65_535])
def test_any_number_of_steps(num_steps: int) -> None:
    times, weight = draw(5, 60, 20, num_steps, 0.8)
    found = fires(dense(weight, Causal()), times, num_steps)
    assert torch.equal(found, first_crossings(times, weight, num_steps))
    assert (found < num_steps).any()


@pytest.mark.parametrize("n_in", [65_536, 65_537])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_sides_of_the_largest_number_of_inputs_of_short_keys(n_in: int, dtype: torch.dtype) -> None:
    times, weight = draw(2, n_in, 17, 9, 0.001)
    weight = weight.to(dtype)
    times[:, -1] = 3
    times.requires_grad_()
    layer = dense(weight, Causal())
    out = fires(layer, times, 9)
    assert torch.equal(out.detach(), first_crossings(times.detach(), weight, 9))
    grad_times, grad_weight = torch.autograd.grad(out.sum(), (times, layer.weight))
    seen = (times.detach()[:, None] <= out.detach()[:, :, None]) & (times.detach()[:, None] < 9)
    torch.testing.assert_close(grad_weight, -seen.sum(0).to(dtype))
    torch.testing.assert_close(grad_times, (seen * weight).sum(1).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_out", [5, 16, 40, 209])
def test_weight_gradients_are_the_same_bits_for_any_thread_count(n_out: int) -> None:
    times, weight = draw(70, 33, n_out, 20, 0.5)
    layer = dense(weight, Causal(norm="l1"))
    delta = torch.randn(70, n_out, generator=torch.Generator().manual_seed(0))
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(torch.autograd.grad(fires(layer, times, 20), layer.weight, delta)[0])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_a_broken_weight_is_found_though_no_spike_reads_it(broken: float) -> None:
    rows = np.ones((6, 4), np.float32)
    rows[5, 2] = broken
    with pytest.raises(ValueError, match="finite"):
        linear.forward(np.full((3, 6), 8, np.float32), rows, 1.0, 8)


@pytest.mark.parametrize("time", [float("nan"), 3.5, -1.0, 9.0, 1e30])
@pytest.mark.parametrize("place", [0, 16, 18])
def test_a_broken_time_is_found_wherever_it_stands(time: float, place: int) -> None:
    times = np.zeros((3, 19), np.float32)
    times[1, place] = time
    with pytest.raises(ValueError, match=r"0 \.\.\. 8"):
        linear.forward(times, np.ones((19, 2), np.float32), 1.0, 8)


def test_blocks_never_pass_the_end_of_a_row() -> None:
    for columns in range(LANES, 500):
        for dtype in (np.float32, np.float64):
            assert 1 <= len(blocks(np.empty((2, columns), dtype))) * LANES <= columns


class _Times(Dataset[Tensor]):
    """Times of a layer and of a convolution, computed where the loader asks for them."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        torch.set_num_threads(2)
        return both_layers(index)


def both_layers(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    times = torch.randint(0, 11, (3, 2, 6, 6), generator=generator).to(torch.float32)
    weight = torch.randint(-8, 16, (5, 2, 3, 3), generator=generator).to(torch.float32) / 16
    maps = fires(conv(weight, Causal()), times, 10)
    rows = torch.randint(-8, 16, (7, 80), generator=generator).to(torch.float32) / 16
    return fires(dense(rows, Causal()), maps.flatten(1), 10).detach()


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
# Python warns of any fork of a process with threads; whether it works is what is tested.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_of_a_loader_compute_what_their_parent_does(start: str) -> None:
    torch.set_num_threads(2)
    expected = [both_layers(k) for k in range(4)]
    loader = DataLoader(
        _Times(), batch_size=None, num_workers=2, multiprocessing_context=start, timeout=120
    )
    for found, right in zip(loader, expected, strict=True):
        assert torch.equal(found, right)


@pytest.mark.parametrize("n_out", [1, 31, 32, 33, 65, 417])
@pytest.mark.parametrize("n_in", [1, 17, 90])
def test_integers_of_any_number_of_neurons(n_in: int, n_out: int) -> None:
    """Against cumulative sums: sums of 16 bits, a level for each neuron, also one that it starts above."""
    random = np.random.default_rng(n_in * 1000 + n_out)
    times = random.integers(0, 12, (35, n_in)).astype(np.float32)
    times[random.random(times.shape) > 0.7] = 12
    weight = random.integers(-127, 128, (n_in, n_out)).astype(np.int8)
    level = random.integers(-100, 300, n_out).astype(np.int16)
    expected = np.full((35, n_out), 12.0, np.float32)
    for step in reversed(range(12)):
        membrane = (times <= step).astype(np.int64) @ weight.astype(np.int64)
        expected[membrane >= level] = step
    assert np.array_equal(linear.forward_integers(times, weight, level, 12), expected)


@pytest.mark.parametrize("size", range(1, 14))
def test_integers_are_the_same_for_every_block(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    random = np.random.default_rng(0)
    times = random.integers(0, 20, (9, 60)).astype(np.float32)
    weight = random.integers(-20, 25, (60, 500)).astype(np.int8)
    level = random.integers(20, 90, 500).astype(np.int16)
    expected = linear.forward_integers(times, weight, level, 20)
    monkeypatch.setattr(linear, "blocks", lambda rows: (0,) * size)
    assert np.array_equal(linear.forward_integers(times, weight, level, 20), expected)


def test_integers_refuse_what_is_no_step() -> None:
    weight, level = np.ones((3, 40), np.int8), np.ones(40, np.int16)
    for time in (-1.0, 0.5, 13.0, np.nan):
        with refused(ValueError, "integer steps 0 ... 12"):
            linear.forward_integers(np.full((1, 3), time, np.float32), weight, level, 12)


@pytest.mark.parametrize("kind", [np.uint32, np.uint64])
@pytest.mark.parametrize("size", [*range(1, 40), 784])
def test_spikes_are_found_by_input(size: int, kind: type) -> None:
    random = np.random.default_rng(size)
    times = random.integers(0, 300, size).astype(np.float32)
    times[times > 256] = 256
    first = size // 5
    keys = np.empty(size - first, kind)
    found = order.find_spikes(times, first, size, np.float32(256), keys)
    half = 4 * np.dtype(kind).itemsize
    inputs = first + np.flatnonzero(times[first:] < 256)
    assert keys[:found].tolist() == [(int(times[i]) << half) + i for i in inputs.tolist()]
    for wrong in (-1.0, 0.5, 256.5, 257.0, np.nan, np.inf, -np.inf):
        at = random.integers(first, size)
        broken = times.copy()
        broken[at] = wrong
        assert order.find_spikes(broken, first, size, np.float32(256), keys) == -1
