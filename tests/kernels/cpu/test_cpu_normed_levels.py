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


LAYERS = {
    "full": {"shape": (4, 6)},
    "convolution": {"shape": (5, 6, 3, 3)},
    "stride": {"shape": (5, 6, 3, 3), "stride": 2},
    "transposed": {"shape": (6, 5, 4, 4), "stride": 2, "transposed": True},
    "pooled": {"shape": (5, 6, 3, 3), "pool": 2, "gain": False},
    "no gain": {"shape": (5, 6, 3, 3), "gain": False},
}


def drawn_layer(how, dtype=torch.float32):
    torch.manual_seed(0)
    return NormedConnection(**how).to(dtype).train()


def received(layer, dtype=torch.float32, count=16):
    sides = (6, 8) if layer.weight.dim() == 4 else ()
    generator = torch.Generator().manual_seed(1)
    return torch.rand((count, 6, *sides), generator=generator).to(dtype)


def apart(layer, values, steps, high, **_):
    return quantise_and_add_up(layer(values), steps, high)


@pytest.mark.parametrize("how", LAYERS.values(), ids=LAYERS)
def test_a_layer_fires_as_by_its_membranes(how):
    found = []
    for act in (fire, apart):
        layer = drawn_layer(how)
        leaf = received(layer).requires_grad_()
        values, total = act(layer, leaf, STEPS, HIGH, add_up=True)
        given = torch.randn(values.shape, generator=torch.Generator().manual_seed(2))
        ((values * given).sum() + 0.7 * total).backward()
        learnt = [p.grad for p in layer.parameters() if p.requires_grad]
        running = layer.norm.running_mean, layer.norm.running_var
        found.append([values, total, leaf.grad, *learnt, *running])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_without_a_gradient_of_the_values_the_sum_still_has_one():
    gradients = []
    for act in (fire, apart):
        layer = drawn_layer(LAYERS["convolution"])
        _, total = act(layer, received(layer), STEPS, HIGH, add_up=True)
        total.backward()
        gradients.append(layer.norm.bias.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_parameters_of_other_types(dtype):
    one, other = (drawn_layer(LAYERS["full"], dtype) for _ in range(2))
    values, _ = fire(one, received(one, dtype), STEPS, HIGH, add_up=False)
    expected, _ = apart(other, received(other, dtype), STEPS, HIGH)
    # In bfloat16 membranes are rounded when they are computed apart.
    assert (values - expected).abs().max() <= (1 / STEPS if dtype == torch.bfloat16 else 0)
    values.sum().backward()
    assert one.norm.bias.grad.dtype == dtype


CASES = ["evaluation", "norm alone", "layer alone", "one sample", "hook", "compiled"]


@pytest.mark.parametrize("case", CASES)
def test_a_layer_that_is_not_plainly_training_is_called_as_a_module(case):
    pair = [drawn_layer({"shape": (6, 6)}) for _ in range(2)]
    count, calls = 16, []
    for layer in pair:
        if case == "evaluation":
            layer.eval()
        elif case == "norm alone":
            layer.eval().norm.train()
        elif case == "layer alone":
            layer.norm.eval()
        elif case == "one sample":
            count = 1
        elif case == "hook":
            layer.norm.register_forward_hook(lambda *_: calls.append(1))
        else:
            layer.compile(backend="eager")
    given = received(pair[0], count=count)
    found = [
        act(layer, given, STEPS, HIGH, add_up=True) for act, layer in zip((fire, apart), pair, strict=True)
    ]
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(pair[0].norm.running_mean, pair[1].norm.running_mean)
    assert len(calls) == (2 if case == "hook" else 0)


def test_sums_are_computed_once_where_several_processes_train(monkeypatch):
    layer = drawn_layer(LAYERS["full"])
    monkeypatch.setattr(type(layer.norm), "normalises_by_batch", lambda *_: False)
    calls = []
    sums = layer._sums
    monkeypatch.setattr(layer, "_sums", lambda *given: calls.append(1) or sums(*given))
    fire(layer, received(layer), STEPS, HIGH, add_up=False)
    assert calls == [1]
