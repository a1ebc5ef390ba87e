"""Convolution of narrow maps and the largest of squares of places, against torch's."""

import math
from functools import partial

import pytest
import torch

from firstspike.nn.largest import max_pool
from firstspike.nn.normed import connect
from firstspike.nn.wiring import Convolution


@pytest.mark.parametrize(
    ("batch", "size", "kernel"),
    [(12, 7, 3), (5, 3, 3), (1, 3, 3), (12, 9, 3), (12, 7, 5), (12, 7, 4), (12, 7, 2)],
)
def test_narrow_maps_side_by_side_convolve_as_alone(batch, size, kernel):
    # Small integers, whose sums bfloat16 holds; in float32 nothing stands side by side.
    # An even kernel gives a place less along each axis.
    given = size - 1 + kernel % 2
    values, weight, grad = (
        torch.randint(-1, 2, shape).to(torch.float32)
        for shape in ((batch, 4, size, size), (6, 4, kernel, kernel), (batch, 6, given, given))
    )
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        x, w = values.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()
        out = connect(x, w)
        found.append((out, *torch.autograd.grad(out, (x, w), grad.to(dtype))))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got.to(torch.float32), expected, rtol=2**-8, atol=0)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("channels", [2, 3, 5, 7, 8, 15])
@pytest.mark.parametrize("layer", [False, True], ids=["network", "layer"])
def test_a_kernel_of_one_place_with_a_stride_has_its_gradient(request, threads, channels, layer):
    """Of fewer maps than a vector of the processor holds, channels last in memory."""
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    given, weight = torch.rand(32, channels, 16, 16), torch.randn(8, channels, 1, 1)
    grad, found = torch.randn(32, 8, 8, 8), []
    for dtype in (torch.float64, torch.float32):
        x, w, g = (
            t.to(dtype, memory_format=torch.channels_last).requires_grad_() for t in (given, weight, grad)
        )
        if dtype == torch.float64:
            out = torch.einsum("bixy,oi->boxy", x[:, :, ::2, ::2], w[:, :, 0, 0])
        else:
            wiring = Convolution(in_channels=channels, out_channels=8, kernel_size=(1, 1), stride=(2, 2))
            out = wiring.apply(x, w, None, 0.0) if layer else connect(x, w, stride=2)
        found.append((out, *torch.autograd.grad(out, (x, w), g)))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got.to(torch.float64), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("size", "side"), [(2, 7), (3, 9), (3, 4), (17, 18)])
def test_largest_membranes_and_their_gradient_are_torchs(dtype, size, side):
    # Few different numbers, so that there are equals.
    # An offset that only float64 tells from none.
    offset = torch.rand(()).to(torch.float64) * 1e-9
    maps = (torch.randint(-2, 3, (3, 5, side, side + 1)) + offset).to(dtype).requires_grad_()
    expected, got = torch.nn.functional.max_pool2d(maps, size), max_pool(maps, size)
    assert torch.equal(got, expected)
    grad = torch.randn_like(expected)
    assert torch.equal(*(torch.autograd.grad(out, maps, grad)[0] for out in (expected, got)))


def test_a_membrane_of_nan_goes_on():
    maps = torch.tensor([[[[0.0, math.nan], [1.0, 2.0]]]], requires_grad=True)
    assert max_pool(maps, 2).isnan().all()
