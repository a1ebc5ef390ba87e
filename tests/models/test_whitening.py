"""Whitening against its definition, by numpy, and in the networks that start with it."""

import numpy as np
import pytest
import torch
from builders import refused, seeded
from numpy.lib.stride_tricks import sliding_window_view

from firstspike.decision import Votes
from firstspike.models.layout import Conv, Whiten, built, layout_shapes, parse_layout
from firstspike.models.patches.network import OneStepNetwork
from firstspike.models.patches.settings import PatchCarry
from firstspike.models.raster.network import RasterNetwork
from firstspike.models.raster.settings import RasterNeuron, RasterWeights
from firstspike.models.start import whiten
from firstspike.models.whitening import whitening_filters
from firstspike.models.window import PARTS, AnnNetwork, WindowNetwork
from firstspike.support import InputError


def smooth_images(count, channels, side=10):
    """Images in 0 ... 1 whose neighbours, and whose colours, go together."""
    source = np.random.default_rng(0)
    noise = source.random((count, channels, side + 2, side + 2))
    smooth = sliding_window_view(noise, (3, 3), (2, 3)).mean((-1, -2))
    mixed = 0.7 * smooth.mean(1, keepdims=True) + 0.3 * noise[..., 1:-1, 1:-1]
    return torch.from_numpy(mixed).to(torch.float32)


def patches_of(images, kernel):
    """Every patch as a row, by numpy."""
    windows = sliding_window_view(images.numpy().astype(np.float64), (kernel, kernel), (2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * kernel**2)


@pytest.mark.parametrize(("channels", "kernel"), [(3, 2), (1, 2), (1, 3), (2, 3)])
def test_filtered_patches_are_uncorrelated_and_have_variance_1(channels, kernel):
    # More images than are looked at in one go.
    images = smooth_images(600, channels)
    size = channels * kernel**2
    rows = patches_of(images, kernel)
    variances = np.linalg.eigvalsh(np.cov(rows.T))
    # The images are no white noise, and no direction is nearly empty.
    assert variances[-1] > 4 * variances[0] > 4 * 3e-3
    filters = whitening_filters(images, kernel)
    assert filters.shape == (2 * size, channels, kernel, kernel)
    assert filters.dtype == torch.float32
    filtered = rows @ filters[:size].reshape(size, -1).numpy().T.astype(np.float64)
    # The constant beside an eigenvalue of 3e-3 or more takes off at most 1 %.
    np.testing.assert_allclose(np.cov(filtered.T), np.eye(size), atol=0.01)
    assert filters[size:].equal(-filters[:size])
    # By falling variance, so by rising length; the largest entry is positive.
    lengths = filters[:size].flatten(1).norm(dim=1)
    np.testing.assert_allclose(lengths.numpy() ** -2, variances[::-1] + 3e-5, rtol=1e-4)
    for row in filters[:size].flatten(1):
        assert float(row[row.abs().argmax()]) > 0


def test_a_direction_that_holds_nothing_is_not_blown_up():
    grey = smooth_images(50, 1)
    filters = whitening_filters(torch.cat([grey, grey, grey], 1), 2)
    filtered = patches_of(torch.cat([grey, grey, grey], 1), 2) @ filters.flatten(1).numpy().T
    variances = np.sort(filtered[:, :12].var(0))
    # Four numbers in a patch differ, whatever the colour.
    assert variances[:8].max() < 1e-6
    assert variances[8:].min() > 0.95


def images(channels=2, side=9):
    return torch.randint(0, 256, (40, channels, side, side), generator=seeded(0)).to(torch.uint8)


def networks(layout, shape=(2, 9, 9)):
    common = {"in_steps": 16, "clip": 2.0}
    return {
        "window": WindowNetwork(layout, shape, 4, steps=8, out_steps=16, **common),
        "ann": AnnNetwork(layout, shape, 4, levels=0, **common),
        "onestep": OneStepNetwork(layout, shape, 4, PatchCarry()),
        "raster": RasterNetwork(
            layout, shape, 4, 5,
            neuron=RasterNeuron(), weights=RasterWeights(norm="batch"), decoder=Votes(neurons_per_class=1),
        ),
    }  # fmt: skip


KINDS = ("window", "ann", "onestep", "raster")


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_takes_the_filters_and_does_not_train_them(kind):
    network = networks("W2-6C3")[kind]
    drawn = {name: p.clone() for name, p in network.named_parameters()}
    whiten(network, images())
    name, weight = next(iter(network.named_parameters()))
    assert weight.equal(whitening_filters(images() / 255, 2))
    assert not weight.requires_grad
    assert all(p.equal(drawn[other]) for other, p in network.named_parameters() if other != name)
    trained = [p for other, p in network.named_parameters() if other.endswith("weight") and p.dim() > 1]
    assert [p.requires_grad for p in trained] == [False, *[True] * (len(trained) - 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_without_whitening_stays_as_it_is(kind):
    network = networks("6C3-6C3")[kind]
    before = {name: p.clone() for name, p in network.state_dict().items()}
    whiten(network, images())
    assert all(p.equal(before[name]) for name, p in network.state_dict().items())


def test_the_maps_that_it_gives():
    assert Whiten(2).conv((3, 8, 9)) == Conv(24, 2, fixed=True)
    parts = built(parse_layout("W2-8C3-E2", PARTS), (3, 8, 9))
    # An even kernel has no padding: a map of 7 x 8, of which pooling leaves a row over.
    assert layout_shapes(parts, (3, 8, 9)) == [(3, 8, 9), (24, 7, 8), (8, 7, 8), (8, 3, 4)]
    assert Whiten(2).multiply_adds((3, 8, 9)) == 24 * 3 * 4 * 7 * 8
    # An odd one has; products with padding are none.
    assert Whiten(3).out_shape((1, 6, 6)) == (18, 6, 6)
    assert Whiten(3).multiply_adds((1, 6, 6)) == 18 * 16 * 16


@pytest.mark.parametrize("layout", ["W10", "W11-6C3"])
def test_patches_larger_than_the_image_are_refused(layout):
    with refused(InputError, layout[1:3], "does not fit an image of 9 x 9"):
        networks(layout)


def test_weight_normalisation_would_change_the_filters():
    with refused(InputError, "'W2-6C3'", 'norm="batch"'):
        RasterNetwork(
            "W2-6C3", (2, 9, 9), 4, 5,
            neuron=RasterNeuron(), weights=RasterWeights(norm="weight"), decoder=Votes(),
        )  # fmt: skip
