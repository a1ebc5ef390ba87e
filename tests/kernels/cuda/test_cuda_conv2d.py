import numpy as np
import pytest
import torch
from spike_cases import draw_times, draw_weight
from torch import Tensor
from triton_device import needs_triton, on_every_device, triton_kernels

from firstspike.kernels.geometry import Geometry

T = 6
THRESHOLD = 2.0
# Channels in and out, kernel, stride, padding, groups; height and width of the image.
LAYERS = [
    pytest.param(Geometry(2, 3, 3, 3, 1, 1, 1, 1, 1), (4, 5), id="plain"),
    pytest.param(Geometry(1, 5, 1, 1, 1, 1, 0, 0, 1), (3, 2), id="points"),
    pytest.param(Geometry(4, 6, 2, 3, 2, 1, 1, 0, 2), (5, 4), id="groups, uneven"),
    pytest.param(Geometry(3, 3, 2, 2, 2, 2, 0, 0, 3), (5, 5), id="depthwise, border left over"),
    pytest.param(Geometry(2, 1, 2, 1, 3, 2, 1, 2, 1), (4, 3), id="stride wider than the kernel"),
]
pytestmark = [needs_triton, on_every_device, pytest.mark.parametrize(("layer", "image"), LAYERS)]


def case(layer: Geometry, image: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return times ``(batch, in, y, x)`` and dyadic weights ``(out, in / groups, y, x)``."""
    rng = np.random.default_rng([*layer, *image])
    times = draw_times(rng, (3, layer.in_channels * image[0] * image[1]), T, "half silent")
    kernel = (layer.in_channels // layer.groups, layer.kernel_y, layer.kernel_x)
    weight = draw_weight(rng, (layer.out_channels, int(np.prod(kernel))), "mixed") + 2
    return (
        torch.from_numpy(times).reshape(3, layer.in_channels, *image),
        torch.from_numpy(weight).to(torch.float32).reshape(-1, *kernel),
    )


def rows_of(weight: Tensor, groups: int) -> Tensor:
    """Return weights ``(out, in / groups, y, x)`` as ``(groups, rows, out / groups)``."""
    return weight.reshape(groups, weight.shape[0] // groups, -1).transpose(1, 2).contiguous()


def naive_crossings(times: Tensor, weight: Tensor, layer: Geometry) -> Tensor:
    """Return the first step at which torch's convolution of all spikes so far reaches the threshold."""
    crossing = None
    for t in reversed(range(T)):
        membrane = torch.nn.functional.conv2d(
            (times <= t).double(),
            weight.double(),
            stride=(layer.stride_y, layer.stride_x),
            padding=(layer.padding_y, layer.padding_x),
            groups=layer.groups,
        )
        crossing = torch.full_like(membrane, T) if crossing is None else crossing
        crossing[membrane >= THRESHOLD] = t
    return crossing.float()


def naive_gradients(
    times: Tensor, weight: Tensor, crossing: Tensor, delta: Tensor, layer: Geometry
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of weights and times by a loop over all pairs that a synapse joins."""
    grad_weight, grad_times = np.zeros(weight.shape), np.zeros(times.shape)
    per_group = layer.out_channels // layer.groups
    fired, value = crossing.numpy(), delta.numpy()
    for b, o, y, x in np.ndindex(*fired.shape):
        for c, ky, kx in np.ndindex(*weight.shape[1:]):
            i = o // per_group * weight.shape[1] + c
            at = y * layer.stride_y + ky - layer.padding_y, x * layer.stride_x + kx - layer.padding_x
            if not (0 <= at[0] < times.shape[2] and 0 <= at[1] < times.shape[3]):
                continue
            time = float(times[b, i, *at])
            if time < T and time <= fired[b, o, y, x]:
                grad_weight[o, c, ky, kx] -= value[b, o, y, x]
                grad_times[b, i, *at] += value[b, o, y, x] * float(weight[o, c, ky, kx])
    return grad_weight, grad_times


def test_times_are_those_of_torchs_convolution(
    layer: Geometry, image: tuple[int, int], device: str
) -> None:
    times, weight = case(layer, image)
    expected = naive_crossings(times, weight, layer)
    rows = rows_of(weight, layer.groups).to(device)
    forward = triton_kernels().conv2d.forward
    crossing = forward(times.to(device), rows, layer, THRESHOLD, T)
    assert torch.equal(crossing.cpu(), expected)
    assert expected.unique().numel() > 2


def test_gradients_are_those_of_naive_loops(layer: Geometry, image: tuple[int, int], device: str) -> None:
    times, weight = case(layer, image)
    crossing = naive_crossings(times, weight, layer)
    delta = torch.from_numpy(np.random.default_rng(1).integers(-8, 9, tuple(crossing.shape)) / 8).float()
    expected_weight, expected_times = naive_gradients(times, weight, crossing, delta, layer)
    given = [values.to(device) for values in (times, crossing, delta)]
    conv2d = triton_kernels().conv2d
    grad_rows = conv2d.weight_gradient(*given, layer, T)
    rows = rows_of(weight, layer.groups)
    assert grad_rows.shape == rows.shape
    np.testing.assert_array_equal(
        grad_rows.cpu().numpy(), rows_of(torch.from_numpy(expected_weight), layer.groups).numpy()
    )
    grad_times = conv2d.input_gradient(given[0], rows.to(device), *given[1:], layer, T)
    np.testing.assert_array_equal(grad_times.cpu().numpy(), expected_times)


def test_empty_batch(layer: Geometry, image: tuple[int, int], device: str) -> None:
    times, weight = case(layer, image)
    rows = rows_of(weight, layer.groups).to(device)
    conv2d = triton_kernels().conv2d
    none = times[:0].to(device)
    crossing = conv2d.forward(none, rows, layer, THRESHOLD, T)
    assert crossing.shape == naive_crossings(times, weight, layer)[:0].shape
    assert not conv2d.weight_gradient(none, crossing, crossing, layer, T).any()
    assert conv2d.input_gradient(none, rows, crossing, crossing, layer, T).shape == none.shape
