import multiprocessing
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import numpy as np
import pytest
import torch
from builders import dense, fires
from hypothesis import given, settings
from hypothesis import strategies as st
from spike_cases import draw_times, draw_weight
from torch import Tensor

from firstspike.kernels.cpu import linear, ramp
from firstspike.kernels.cpu.threads import part_of, parts, run_plainly
from firstspike.neurons import Causal, Neuron, Phased, Ramp

T = 16
NEURONS: list[Neuron] = [Causal(), Ramp()]


@pytest.fixture(autouse=True)
def _thread_count_put_back() -> Iterator[None]:
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def layer_call(neuron: Neuron, batch: int = 11, seed: int = 0, dyadic: bool = True) -> list[Tensor]:
    """Return times and both gradients of one seeded call."""
    rng = np.random.default_rng(seed)
    times = torch.from_numpy(draw_times(rng, (batch, 13), T, "half silent")).requires_grad_()
    weight = draw_weight(rng, (5, 13), "mixed") if dyadic else rng.normal(0, 1, (5, 13))
    layer = dense(torch.from_numpy(weight).to(torch.float32), neuron)
    out = fires(layer, times, T)
    delta = torch.from_numpy(rng.integers(-8, 9, tuple(out.shape)) / 8).to(torch.float32)
    return [out.detach(), *torch.autograd.grad(out, (times, layer.weight), delta)]


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("batch", [0, 1, 2, 3, 11])
def test_times_and_input_gradients_do_not_depend_on_the_thread_count(neuron: Neuron, batch: int) -> None:
    torch.set_num_threads(1)
    times, grad_times, grad_weight = layer_call(neuron, batch, dyadic=False)
    for count in (2, 3):
        torch.set_num_threads(count)
        found = layer_call(neuron, batch, dyadic=False)
        assert torch.equal(found[0], times)
        assert torch.equal(found[1], grad_times)
        # Sums over samples are split differently, so only rounding may differ.
        torch.testing.assert_close(found[2], grad_weight, rtol=1e-5, atol=1e-5)


def test_sums_without_rounding_do_not_depend_on_the_thread_count_at_all() -> None:
    torch.set_num_threads(1)
    expected = layer_call(Causal())
    torch.set_num_threads(2)
    for one, two in zip(expected, layer_call(Causal()), strict=True):
        assert torch.equal(one, two)


def phased_call(batch: int) -> list[Tensor]:
    """Return times and all gradients of one seeded call with phased neurons."""
    rng = np.random.default_rng(1)
    times = torch.from_numpy(draw_times(rng, (batch, 13), T, "half silent")).requires_grad_()
    weight = torch.from_numpy(rng.normal(0, 0.2, (5, 13))).to(torch.float32)
    layer = dense(weight, Phased(source=(0, 12), target=(4, 16), high=1.0), torch.zeros(5))
    out = fires(layer, times, T)
    delta = torch.from_numpy(rng.normal(size=tuple(out.shape))).to(torch.float32)
    return [out.detach(), *torch.autograd.grad(out, (times, layer.weight, layer.bias), delta)]


@pytest.mark.parametrize("batch", [0, 1, 2, 11])
def test_phased_neurons_do_not_depend_on_the_thread_count(batch: int) -> None:
    torch.set_num_threads(1)
    expected = phased_call(batch)
    torch.set_num_threads(2)
    found = phased_call(batch)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    torch.testing.assert_close(found[2:], expected[2:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("neuron", NEURONS)
def test_the_same_thread_count_gives_the_same_bits(neuron: Neuron) -> None:
    torch.set_num_threads(2)
    first = layer_call(neuron, 64, dyadic=False)
    for _ in range(5):
        for one, two in zip(first, layer_call(neuron, 64, dyadic=False), strict=True):
            assert torch.equal(one, two)


@settings(deadline=None, max_examples=60)
@given(size=st.integers(0, 40), threads=st.integers(1, 5))
def test_chunks_cover_every_sample_once(size: int, threads: int) -> None:
    torch.set_num_threads(threads)
    seen: list[tuple[int, int]] = []
    run_plainly(lambda *chunk: seen.append(chunk), size)
    assert len(seen) == parts(size) <= max(1, min(threads, size))
    assert sorted(k for start, stop in seen for k in range(start, stop)) == list(range(size))
    lengths = [stop - start for start, stop in seen]
    assert max(lengths) - min(lengths) <= 1
    found = [part_of(start, parts(size), size) for start, _ in sorted(seen)]
    assert found == list(range(parts(size)))


@pytest.mark.parametrize("failing", [0, 5])
def test_a_failure_in_any_chunk_reaches_the_caller(failing: int) -> None:
    torch.set_num_threads(2)

    def work(start: int, stop: int) -> None:
        if start == failing:
            raise RuntimeError(f"chunk from {start}")

    with pytest.raises(RuntimeError, match=f"chunk from {failing}"):
        run_plainly(work, 10)


def test_chunks_run_at_the_same_time() -> None:
    torch.set_num_threads(2)
    both = threading.Barrier(2, timeout=20)
    places: list[int] = []

    def work(start: int, stop: int) -> None:
        places.append(both.wait())

    run_plainly(work, 2)
    # One waited for the other; a broken barrier would have raised.
    assert sorted(places) == [0, 1]


@pytest.mark.parametrize("neuron", NEURONS)
def test_calls_from_several_threads_at_once_do_not_mix(neuron: Neuron) -> None:
    torch.set_num_threads(2)
    expected = [layer_call(neuron, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: layer_call(neuron, seed=seed % 8), range(64)))
    for k, result in enumerate(found):
        for one, two in zip(result, expected[k % 8], strict=True):
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)
        assert torch.equal(result[0], expected[k % 8][0])


def kernel_calls() -> list[np.ndarray]:
    """Return what both kernels and their gradients give for one seeded case."""
    rng = np.random.default_rng(3)
    times = draw_times(rng, (9, 7), T, "half silent")
    weight = draw_weight(rng, (7, 4), "mixed").astype(np.float32)
    delta = (rng.integers(-8, 9, (9, 4)) / 8).astype(np.float32)
    crossing = linear.forward(times, weight, 1.0, T)
    line, slope = ramp.forward(times, weight, 1.0, False, T)
    return [
        crossing,
        linear.weight_gradient(times, crossing, delta, T),
        linear.input_gradient(times, weight, crossing, delta, T),
        line,
        slope,
        *ramp.backward(times, weight, line, delta.astype(np.float64), T),
    ]


def send_kernel_calls(connection: Connection) -> None:
    connection.send(kernel_calls())
    connection.close()


def test_a_forked_child_computes_after_its_parent_has() -> None:
    torch.set_num_threads(2)
    expected = kernel_calls()
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=send_kernel_calls, args=(sending,), daemon=True)
    with warnings.catch_warnings():
        # From Python 3.12 on, forking a process that has threads warns; that case is the test.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    try:
        assert receiving.poll(60), "the child hangs"
        found = receiving.recv()
        child.join(20)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, two)
