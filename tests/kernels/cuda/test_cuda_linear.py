import numpy as np
import pytest
import torch
from builders import dense
from neurons.oracles import naive_gradients, naive_times
from spike_cases import PATTERNS, draw_times, draw_weight
from torch import Tensor
from triton_device import needs_triton, on_every_device, triton_kernels

from firstspike.neurons import Causal
from firstspike.spikes import Spikes

pytestmark = [needs_triton, on_every_device]
T = 7


def case(
    shape: tuple[int, int, int], pattern: str = "half silent", num_steps: int = T
) -> tuple[Tensor, Tensor]:
    """Return seeded times ``(batch, in)`` and dyadic weights ``(in, out)``."""
    batch, n_in, n_out = shape
    rng = np.random.default_rng(shape)
    times = torch.from_numpy(draw_times(rng, (batch, n_in), num_steps, pattern))
    weight = torch.from_numpy(draw_weight(rng, (n_in, n_out), "mixed")).to(torch.float32)
    return times, weight


def forward(times: Tensor, weight: Tensor, threshold: float, num_steps: int, device: str) -> Tensor:
    """Return the crossings on the CPU."""
    crossing = triton_kernels().linear.forward(times.to(device), weight.to(device), threshold, num_steps)
    assert crossing.dtype == torch.float32
    return crossing.cpu()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_times_are_the_naive_ones(pattern: str, device: str) -> None:
    times, weight = case((9, 21, 5), pattern)
    expected = naive_times(times, weight.t(), T, Causal(threshold=2.0))
    assert torch.equal(forward(times, weight, 2.0, T, device), expected)


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2), (1, 1, 1), (1, 40, 1), (17, 3, 67)])
def test_odd_sizes(shape: tuple[int, int, int], device: str) -> None:
    times, weight = case(shape, "spread")
    expected = naive_times(times, weight.t(), T, Causal(threshold=1.0))
    assert torch.equal(forward(times, weight, 1.0, T, device), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("magnitude", [1e-30, 1.0, 3e37])
def test_rounding_is_the_simulators_to_the_last_bit(
    dtype: torch.dtype, magnitude: float, device: str
) -> None:
    rng = np.random.default_rng(5)
    times = torch.from_numpy(draw_times(rng, (6, 30), T, "half silent"))
    scales = rng.choice([1.0, 1e-8, 1e-3], (30, 8))
    weight = torch.from_numpy(rng.uniform(-1, 1, (30, 8)) * scales * magnitude).to(dtype)
    # A threshold that the first neuron's membrane reaches exactly on the first sample.
    order = torch.sort(times[0], stable=True).indices[: int((times[0] < T).sum())]
    threshold = float(np.cumsum(weight[order, 0].numpy()).max())
    assert threshold > 0
    expected = dense(weight.t(), Causal(threshold=threshold)).simulate(Spikes(times, T)).times
    assert torch.equal(forward(times, weight, threshold, T, device), expected)


@pytest.mark.parametrize("num_steps", [2, 256, 40_000, 65_535])
def test_short_and_long_windows(num_steps: int, device: str) -> None:
    times, weight = case((3, 33, 4), "half silent", num_steps)
    expected = naive_times(times, weight.t(), num_steps, Causal(threshold=3.0))
    found = forward(times, weight, 3.0, num_steps, device)
    assert torch.equal(found, expected)
    assert found.unique().numel() > 2 or num_steps == 2


@pytest.mark.parametrize("shape", [(0, 3, 2), (1, 1, 1), (6, 5, 3), (3, 2, 67)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_those_of_naive_loops(
    shape: tuple[int, int, int], dtype: torch.dtype, device: str
) -> None:
    times, weight = case(shape)
    crossing = naive_times(times, weight.t(), T, Causal(threshold=1.0))
    delta = torch.from_numpy(np.random.default_rng(1).integers(-8, 9, tuple(crossing.shape)) / 8)
    expected = naive_gradients(times, weight.t(), crossing, delta, T)
    given = [values.to(device) for values in (times, weight.to(dtype), crossing, delta.to(dtype))]
    linear = triton_kernels().linear
    grad_weight = linear.weight_gradient(given[0], *given[2:], T)
    grad_times = linear.input_gradient(*given, T)
    assert grad_weight.dtype == grad_times.dtype == dtype
    # Dyadic numbers: every sum is exact.
    np.testing.assert_array_equal(grad_weight.t().cpu().numpy(), expected[0])
    np.testing.assert_array_equal(grad_times.cpu().numpy(), expected[1])


def test_parts_and_shared_programs_change_nothing(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from firstspike.kernels.cuda import lists, weight_gradient

    times, weight = case((9, 13, 3))
    crossing = naive_times(times, weight.t(), T, Causal(threshold=1.0))
    delta = torch.from_numpy(np.random.default_rng(2).integers(-8, 9, tuple(crossing.shape)) / 8)
    expected, _ = naive_gradients(times, weight.t(), crossing, delta, T)
    # One program takes all tiles, and the last of three parts has one sample.
    monkeypatch.setattr(lists, "_PROGRAMS", 1)
    monkeypatch.setattr(lists, "_TILE", 8)
    monkeypatch.setattr(weight_gradient, "_PART", 4)
    assert torch.equal(forward(times, weight, 1.0, T, device), crossing)
    given = [values.to(device) for values in (times, crossing, delta.to(torch.float32))]
    grad = triton_kernels().linear.weight_gradient(*given, T)
    np.testing.assert_array_equal(grad.t().cpu().numpy(), expected)


def test_tensors_need_not_be_contiguous(device: str) -> None:
    times, weight = case((8, 12, 6))
    expected = naive_times(times, weight.t(), T, Causal(threshold=1.0))
    strided = torch.stack([times, times + 1], 2)[..., 0]
    assert torch.equal(forward(strided, weight.t().contiguous().t(), 1.0, T, device), expected)
    delta = torch.ones(6, 8).t()
    linear = triton_kernels().linear
    plain = linear.weight_gradient(*(v.to(device) for v in (times, expected, delta.contiguous())), T)
    found = linear.weight_gradient(*(v.to(device) for v in (strided, expected, delta)), T)
    assert torch.equal(found, plain)


def test_the_same_call_gives_the_same_bits(device: str) -> None:
    source = torch.Generator().manual_seed(0)
    times = torch.randint(0, T + 1, (12, 20), generator=source).float().to(device)
    weight = torch.randn(20, 5, generator=source).to(device)
    delta = torch.randn(12, 5, generator=source).to(device)
    linear = triton_kernels().linear
    runs = []
    for _ in range(2):
        crossing = linear.forward(times, weight, 1.0, T)
        grad = linear.weight_gradient(times, crossing, delta, T)
        runs.append((crossing, grad, linear.input_gradient(times, weight, crossing, delta, T)))
    for one, two in zip(*runs, strict=True):
        assert torch.equal(one, two)
