import sys

import numpy as np
import pytest
import torch
from neurons.oracles import naive_gradients, naive_times
from spike_cases import draw_times, draw_weight
from triton_device import interpreted, needs_triton

from firstspike.kernels import dispatch
from firstspike.kernels.dispatch import common_device, kernels_for
from firstspike.neurons import Causal

T = 7
CPU = torch.device("cpu")
OPERATIONS = {
    "linear": ["forward", "weight_gradient", "input_gradient"],
    "levels": ["forward", "membrane_gradient", "weight_gradient"],
    "conv2d": ["forward", "weight_gradient", "input_gradient"],
}


def test_the_cpus_kernels_take_and_give_tensors() -> None:
    rng = np.random.default_rng(0)
    times = torch.from_numpy(draw_times(rng, (9, 21), T, "half silent"))
    weight = torch.from_numpy(draw_weight(rng, (21, 5), "mixed")).float()
    linear = kernels_for(CPU).linear
    crossing = linear.forward(times, weight, 1.0, T)
    assert torch.equal(crossing, naive_times(times, weight.t(), T, Causal()))
    delta = torch.from_numpy(rng.integers(-8, 9, (9, 5)) / 8).float()
    expected = naive_gradients(times, weight.t(), crossing, delta, T)
    np.testing.assert_array_equal(linear.weight_gradient(times, crossing, delta, T).t(), expected[0])
    np.testing.assert_array_equal(linear.input_gradient(times, weight, crossing, delta, T), expected[1])


@pytest.mark.parametrize("kind", ["cpu", pytest.param("cuda", marks=interpreted)])
@pytest.mark.parametrize("grad", [torch.ones(1, 2, 2), torch.ones(2, 2, 1).permute(2, 1, 0)])
def test_the_membrane_gradient_by_hand_and_its_argument_stays(grad: torch.Tensor, kind: str) -> None:
    given = grad.clone(memory_format=torch.preserve_format)
    peak = torch.tensor([[[0.0, 1.0], [2.0, 1.0]]])
    levels = kernels_for(torch.device(kind)).levels
    found = levels.membrane_gradient(given, peak, torch.ones(1, 2), 1.0)
    # The second neuron's maximum was reached at the first level, which gets the gradient of both.
    assert found.flatten().tolist() == [0.25, 2.0, 0.25, 0.0]
    assert torch.equal(given, grad)


@pytest.mark.parametrize("kind", ["cpu", pytest.param("cuda", marks=needs_triton)])
def test_every_device_has_the_same_operations(kind: str) -> None:
    kernels = kernels_for(torch.device(kind))
    for family, names in OPERATIONS.items():
        assert all(callable(getattr(getattr(kernels, family), name)) for name in names)


def test_cuda_without_triton_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    dispatch._load.cache_clear()
    with pytest.raises(ImportError, match=r"need Triton; install it with pip install 'firstspike\[cuda\]'"):
        kernels_for(torch.device("cuda"))


def test_a_device_without_kernels_is_refused() -> None:
    with pytest.raises(ValueError, match="compute on cpu or cuda, found device meta"):
        kernels_for(torch.device("meta"))


def test_tensors_on_several_devices_are_refused() -> None:
    here, there = torch.empty(1), torch.empty(1, device="meta")
    assert common_device(times=here, bias=None, weight=here) == CPU
    with pytest.raises(ValueError, match="one device, found times on cpu, weight on meta; move them"):
        common_device(times=here, weight=there)
