"""Normalisation and levels in one operation, against torch's own in float64 and the definition."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from firstspike.kernels.arrays import to_array, to_tensor
from firstspike.kernels.cpu import normed_levels as kernel
from firstspike.models.quantised import fire, quantise_and_add_up
from firstspike.nn.normed import NormedConnection

STEPS, HIGH, EPSILON, MORE = 8, 2.0, 1e-5, 0.3
DTYPES = [torch.float32, torch.bfloat16]
# Few and many features, more than are taken together, and rows that do not fill the last block.
SHAPES = [(600, 3), (37, 64), (5, 5), (301, 24), (11, 1500)]


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def drawn(shape, dtype):
    generator = torch.Generator().manual_seed(sum(shape))
    # Far from zero, where squares of sums would lose the variance.
    sums = (torch.randn(shape, generator=generator) * 0.5 + 20).to(dtype)
    given = torch.randn(shape, generator=generator).to(dtype)
    gain = torch.rand(shape[1], generator=generator) + 0.5
    bias = torch.randn(shape[1], generator=generator)
    return sums, given, gain, bias


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("threads")
def test_values_and_gradients_are_those_of_float64(shape, dtype):
    sums, given, gain, bias = drawn(shape, dtype)
    how = kernel.normal(to_array(sums), gain.numpy(), bias.numpy(), EPSILON)
    values, total = kernel.fire(to_array(sums), how, STEPS, HIGH)
    grads = kernel.gradient(to_array(sums), to_array(given), how, HIGH, MORE)

    exact = [one.to(torch.float64).requires_grad_() for one in (sums, gain, bias)]
    membrane = F.batch_norm(exact[0], None, None, *exact[1:], training=True, eps=EPSILON)
    level = membrane.detach() * STEPS / HIGH + 0.5
    expected = level.clamp(0, STEPS).floor() / STEPS
    found = to_tensor(values, dtype).to(torch.float64)
    # Nothing but what is within rounding of a step may fall on its other side.
    near = (level - level.round()).abs() < 1e-4
    assert torch.equal(found[~near], expected[~near])
    assert (found - expected).abs().max() <= 1 / STEPS
    assert total == pytest.approx(float(found.sum()), abs=1e-6 * found.numel())

    # Where a membrane is within rounding of an end of the range, either is right.
    place = membrane.detach()
    inside = (place > 0) & (place < HIGH)
    loss = membrane * (inside * (given.to(torch.float64) + MORE) / HIGH)
    loss.sum().backward()
    bound = 2**-8 if dtype == torch.bfloat16 else 1e-4
    results = to_tensor(grads[0], dtype), *(torch.from_numpy(one) for one in grads[1:])
    for one, other in zip(results, exact, strict=True):
        scale = other.grad.abs().max()
        torch.testing.assert_close(one.to(torch.float64), other.grad, rtol=0, atol=float(bound * scale))


def test_the_batch_is_described_by_mean_and_variance():
    sums, _, gain, bias = drawn((500, 7), torch.float32)
    how = kernel.normal(to_array(sums), gain.numpy(), bias.numpy(), EPSILON)
    exact = sums.numpy().astype(np.float64)
    np.testing.assert_allclose(how.mean, exact.mean(0), rtol=1e-7)
    np.testing.assert_allclose(how.variance, exact.var(0), rtol=1e-5)


def test_nothing_is_made_of_nan():
    sums, _, gain, bias = drawn((50, 3), torch.float32)
    sums[7, 1] = float("nan")
    how = kernel.normal(to_array(sums), gain.numpy(), bias.numpy(), EPSILON)
    values, total = kernel.fire(to_array(sums), how, STEPS, HIGH)
    assert np.isnan(values[:, 1]).all()
    assert not np.isnan(values[:, [0, 2]]).any()
    assert np.isnan(total)


@pytest.mark.parametrize("shape", [(4, 6), (5, 6, 3, 3)])
@pytest.mark.parametrize("gain", [True, False])
def test_a_layer_fires_as_by_its_membranes(shape, gain):
    layers = []
    for _ in range(2):
        torch.manual_seed(0)
        layers.append(NormedConnection(shape, gain=gain).train())
    generator = torch.Generator().manual_seed(1)
    sides = (7, 8) if len(shape) == 4 else ()
    received = torch.rand((16, shape[1], *sides), generator=generator)
    given = torch.randn((16, shape[0], *sides), generator=generator)
    found = []
    for layer, together in zip(layers, (True, False), strict=True):
        leaf = received.clone().requires_grad_()
        pair = fire(layer, leaf, STEPS, HIGH) if together else quantise_and_add_up(layer(leaf), STEPS, HIGH)
        ((pair[0] * given).sum() + 0.7 * pair[1]).backward()
        learnt = [p.grad for p in layer.parameters() if p.requires_grad]
        found.append([*pair, leaf.grad, *learnt, layer.norm.running_mean, layer.norm.running_var])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_one_value_of_each_feature_and_evaluation_take_the_running_statistics():
    torch.manual_seed(0)
    layer = NormedConnection((3, 4)).train()
    received = torch.rand(1, 4)
    before = layer.norm.running_mean.clone()
    values, _ = fire(layer, received, STEPS, HIGH)
    assert torch.equal(layer.norm.running_mean, before)
    assert torch.equal(values, quantise_and_add_up(layer(received), STEPS, HIGH)[0])
    layer.eval()
    many = torch.rand(5, 4)
    assert torch.equal(fire(layer, many, STEPS, HIGH)[0], quantise_and_add_up(layer(many), STEPS, HIGH)[0])
