"""The quantiser of deep window networks, in one pass, against its definition in numpy."""

import numpy as np
import pytest
import torch

from firstspike.models.quantised import _Compiled, _Plain, quantise, quantise_and_add_up

STEPS, HIGH = 8, 3.0


def membranes(shape, dtype):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 2
    # Ends, steps and half steps of the range, where rounding decides.
    marks = torch.arange(-2, 2 * STEPS + 3) * (HIGH / STEPS / 2)
    values.view(-1)[: len(marks)] = marks
    return values.to(dtype)


def definition(membrane):
    exact = membrane.to(torch.float64).numpy()
    return np.floor(np.clip(exact * STEPS / HIGH + 0.5, 0, STEPS)) / STEPS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3000,), (5, 7), (3, 5, 4, 6)])
@pytest.mark.parametrize("last", [False, True])
def test_values_are_their_definition(dtype, shape, last):
    membrane = membranes(shape, dtype)
    if last and membrane.dim() == 4:
        membrane = membrane.contiguous(memory_format=torch.channels_last)
    values = quantise(membrane, STEPS, HIGH)
    assert values.dtype == dtype
    assert values.shape == membrane.shape
    # Eighths are exact in both precisions.
    np.testing.assert_array_equal(values.to(torch.float64).numpy(), definition(membrane))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_pass_straight_through_inside_the_range_alone(dtype):
    membrane = membranes((3, 5, 4, 6), dtype).requires_grad_()
    given = torch.randn(membrane.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    quantise(membrane, STEPS, HIGH).backward(given)
    inside = (membrane > 0) & (membrane < HIGH)
    expected = torch.where(inside, given.to(torch.float64) / HIGH, 0.0)
    # One rounding to the precision of the gradient.
    bound = 2**-8 if dtype == torch.bfloat16 else 2**-23
    torch.testing.assert_close(membrane.grad.to(torch.float64), expected, rtol=bound, atol=0)


def test_the_operations_for_other_devices_say_the_same():
    membrane = membranes((3, 5, 4, 6), torch.float32)
    given = torch.randn(membrane.shape, generator=torch.Generator().manual_seed(1))
    found = []
    for function in (_Compiled, _Plain):
        leaf = membrane.clone().requires_grad_()
        values, total = function.apply(leaf, STEPS, HIGH, True)
        ((values * given).sum() + 0.5 * total).backward()
        found.append((values.detach(), total.detach(), leaf.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][2], found[1][2], rtol=2**-22, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (7, 11)])
def test_the_sum_and_its_gradient_are_those_of_the_values(dtype, shape):
    leaf = membranes(shape, dtype).requires_grad_()
    values, total = quantise_and_add_up(leaf, STEPS, HIGH)
    given = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    (3.0 * total + (values * given).sum()).backward()
    assert total.dtype == torch.float32
    expected = quantise(leaf.detach(), STEPS, HIGH).to(torch.float64)
    bound = 2**-8 if dtype == torch.bfloat16 else 2**-20
    torch.testing.assert_close(total.detach().to(torch.float64), expected.sum(), rtol=bound, atol=0)
    inside = (leaf.detach() > 0) & (leaf.detach() < HIGH)
    slope = torch.where(inside, (given.to(torch.float64) + 3) / HIGH, 0.0)
    torch.testing.assert_close(leaf.grad.to(torch.float64), slope, rtol=bound, atol=bound)


def test_nothing_is_made_of_nan():
    values = quantise(torch.tensor([float("nan"), 1.0]), STEPS, HIGH)
    assert values[0].isnan()
    assert not values[1].isnan()
