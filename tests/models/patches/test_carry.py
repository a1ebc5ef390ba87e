"""The walk over patches against the paper's equations, one neuron at a time, and its gradients."""

import itertools
import math

import pytest
import torch
from scipy.integrate import dblquad

from firstspike.models.patches.carry import _Spike, carry_patches, project, walk_patches
from firstspike.models.patches.grid import patch_grid
from firstspike.models.patches.settings import PatchCarry, over_activation
from firstspike.models.surrogates import KINDS

PROJECTIONS = ("sine_patch", "sine_layer", "linear", "sigmoid", "tanh", "relu")
CARRIED = ("both", "patch", "layer", "none")


def naive(current, before, neuron, grid):
    """Spikes and left-over membranes by loops over patches, places, maps and samples."""
    angle = neuron.theta * math.pi / 2
    logistic = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    omega = {
        "sine_patch": lambda g, h: 2 * math.sin(angle * g) * math.cos(angle * h),
        "sine_layer": lambda g, h: 2 * math.sin(angle * h) * math.cos(angle * g),
        "linear": lambda g, h: g + h,
        "sigmoid": lambda g, h: logistic(g + h),
        "tanh": lambda g, h: math.tanh(g + h),
        "relu": lambda g, h: max(g + h, 0.0),
    }[neuron.projection]
    fired, left_over = torch.zeros_like(current), torch.zeros_like(current)
    count = torch.zeros(current.shape[2:])
    reached = {"patch": neuron.carried in ("both", "patch"), "layer": neuron.carried in ("both", "layer")}
    reached["layer"] = reached["layer"] and before is not None
    for sample, channel in itertools.product(range(current.shape[0]), range(current.shape[1])):
        for row, column in itertools.product(range(grid.sides[0]), range(grid.sides[1])):
            left = 0.0
            for top, first in grid.corners:
                where = sample, channel, top + row, first + column
                g = left if reached["patch"] else 0.0
                h = float(before[where]) if reached["layer"] else 0.0
                carried = neuron.alpha * omega(g, h) if any(reached.values()) else 0.0
                membrane = carried + float(current[where])
                spike = float(membrane >= neuron.threshold)
                left = membrane - neuron.threshold * spike
                fired[where] += spike
                left_over[where] += left
                if sample == channel == 0:
                    count[where[2:]] += 1
    mean = fired / count
    spikes = mean if neuron.fractional else (mean > neuron.region_threshold).to(mean)
    return spikes, left_over / count


def inputs(shape=(2, 3, 6, 7), seed=0):
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=source) * scale for scale in (1.5, 1.0)]


def smooth(neuron):
    """The surrogate's own integral, so that its derivative is what stands in for the threshold's."""
    return lambda distance: 0.5 + torch.atan(math.pi * distance / neuron.width) / math.pi


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("carried", CARRIED)
@pytest.mark.parametrize(("count", "dilated"), [(1, False), (2, False), (2, True), (3, True)])
@pytest.mark.parametrize("with_before", [True, False])
def test_equals_the_loops(projection, carried, count, dilated, with_before):
    fractional = count == 3
    neuron = PatchCarry(
        grid=count, projection=projection, carried=carried, fractional=fractional, theta=0.7, alpha=0.6
    )
    grid = patch_grid((6, 7), count, dilated=dilated)
    current, before = inputs()
    before = before if with_before else None
    spikes, left = carry_patches(current, before, neuron, grid)
    wide = [None if x is None else x.double() for x in (current, before)]
    expected, expected_left = naive(*wide, neuron, grid)
    torch.testing.assert_close(spikes.double(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(left.double(), expected_left, rtol=0, atol=1e-5)
    again, again_left = walk_patches(*wide, neuron, grid, lambda d: (d >= 0).to(d))
    torch.testing.assert_close(again, expected)
    torch.testing.assert_close(again_left, expected_left)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("carried", CARRIED)
def test_gradient_of_the_recurrence_by_finite_differences(projection, carried):
    neuron = PatchCarry(projection=projection, carried=carried, fractional=True, surrogate="arctan")
    grid = patch_grid((5, 4), 2, dilated=True)
    current, before = (x.double().requires_grad_() for x in inputs((1, 2, 5, 4)))
    assert torch.autograd.gradcheck(
        lambda a, b: walk_patches(a, b, neuron, grid, smooth(neuron)), (current, before), atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("carried", CARRIED)
@pytest.mark.parametrize("with_before", [True, False])
def test_compiled_gradient_is_that_of_the_recurrence(kind, projection, carried, with_before):
    neuron = PatchCarry(projection=projection, carried=carried, surrogate=kind, width=1.3)
    grid = patch_grid((6, 7), 2, dilated=True)
    own = [x.requires_grad_() for x in inputs()][: 1 + with_before]
    wide = [x.detach().double().requires_grad_() for x in own]
    out = carry_patches(own[0], own[1] if with_before else None, neuron, grid)
    spike = lambda distance: _Spike.apply(distance, neuron)  # noqa: E731
    expected = walk_patches(wide[0], wide[1] if with_before else None, neuron, grid, spike)
    weights = inputs(seed=4)
    found = torch.autograd.grad(out, own, weights)
    wanted = torch.autograd.grad(expected, wide, [w.double() for w in weights], allow_unused=True)
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(
            one.double(), torch.zeros_like(one).double() if two is None else two, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("threads", [1, 2])
def test_bfloat16_rounds_the_same_walk(threads):
    before_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        neuron, grid = PatchCarry(), patch_grid((6, 7), 2, dilated=True)
        half = [x.to(torch.bfloat16).requires_grad_() for x in inputs()]
        full = [x.detach().float().requires_grad_() for x in half]
        spikes, left = carry_patches(*half, neuron, grid)
        expected, expected_left = carry_patches(*full, neuron, grid)
        assert torch.equal(spikes.float(), expected)
        assert torch.equal(left, expected_left.to(torch.bfloat16))
        (spikes.float() * 0.5 + left.float()).sum().backward()
        (expected * 0.5 + expected_left).sum().backward()
        for one, two in zip(half, full, strict=True):
            torch.testing.assert_close(one.grad.float(), two.grad, rtol=1e-2, atol=1e-2)
    finally:
        torch.set_num_threads(before_threads)


def test_channels_last_memory_gives_the_same():
    neuron, grid = PatchCarry(), patch_grid((6, 7), 2, dilated=False)
    current, before = inputs()
    spread = [x.contiguous(memory_format=torch.channels_last) for x in (current, before)]
    for one, two in zip(
        carry_patches(current, before, neuron, grid), carry_patches(*spread, neuron, grid), strict=True
    ):
        assert torch.equal(one, two)


def test_spikes_are_0_or_1_and_fractions_only_where_asked():
    grid = patch_grid((8, 8), 2, dilated=True)
    current = torch.randn(4, 5, 8, 8, generator=torch.Generator().manual_seed(1))
    spikes, _ = carry_patches(current, None, PatchCarry(), grid)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    fractions, _ = carry_patches(current, None, PatchCarry(fractional=True), grid)
    # Two patches or four overlap.
    assert set(fractions.unique().tolist()) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert len(fractions.unique()) > 2
    assert torch.equal(spikes, (fractions > 0.1).float())


def test_a_single_patch_makes_the_printed_projection_vanish():
    neuron, grid = PatchCarry(grid=1), patch_grid((6, 7), 1, dilated=False)
    current, before = inputs()
    spikes, left = carry_patches(current, before, neuron, grid)
    plain, plain_left = carry_patches(current, None, PatchCarry(grid=1, carried="none"), grid)
    assert torch.equal(spikes, plain)
    assert torch.equal(left, plain_left)


@pytest.mark.parametrize("large", [1.0, 30.0, 1000.0])
def test_sines_of_large_membranes(large):
    neuron = PatchCarry(grid=1, projection="sine_layer", alpha=1.0, threshold=1e6)
    grid = patch_grid((4, 4), 1, dilated=False)
    before = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(2)) * large
    _, left = carry_patches(torch.zeros_like(before), before, neuron, grid)
    expected = project(torch.zeros(()).double(), before.double(), neuron)
    torch.testing.assert_close(left.double(), expected, rtol=0, atol=1e-6 * max(large, 2))


@pytest.mark.parametrize(
    ("theta", "figure"), [(0.1, 0.058), (0.3, 0.162), (0.5, 0.228), (0.7, 0.243), (0.9, 0.204)]
)
def test_over_activation_is_the_integral_and_the_papers_figure(theta, figure):
    neuron = PatchCarry(theta=theta)
    numeric, _ = dblquad(
        lambda y, x: float(project(torch.tensor(x).double(), torch.tensor(y).double(), neuron)),
        0.5,
        1,
        0.5,
        1,
    )
    assert over_activation(theta) == pytest.approx(numeric, rel=1e-6)
    assert round(over_activation(theta), 3) == figure


def test_wrong_input_is_one_clear_line():
    grid, current = patch_grid((6, 7), 2, dilated=False), torch.zeros(1, 2, 6, 7)
    with pytest.raises(ValueError, match="expected currents"):
        carry_patches(torch.zeros(1, 2, 7, 6), None, PatchCarry(), grid)
    with pytest.raises(ValueError, match="do not fit"):
        carry_patches(current, torch.zeros(1, 3, 6, 7), PatchCarry(), grid)
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        carry_patches(current.double(), None, PatchCarry(), grid)
    for theta in (0.0, 2.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="theta"):
            PatchCarry(theta=theta)
        with pytest.raises(ValueError, match="theta"):
            over_activation(theta)
    wrong = {"grid": 0, "threshold": 0, "width": -1, "alpha": math.inf, "region_threshold": 1}
    wrong_grid = {"grid": 2.0}
    for field, value in [*wrong.items(), *wrong_grid.items()]:
        with pytest.raises(ValueError, match=field):
            PatchCarry(**{field: value})
    with pytest.raises(ValueError, match="projection"):
        PatchCarry(projection="cosine")
