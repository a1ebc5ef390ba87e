"""The Yin-Yang set, against the curve that parts yin from yang and by its known properties."""

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from firstspike.codes import encode_latency
from firstspike.data import SPLITS, load
from firstspike.data.yin_yang import DOT, YANG, YIN, region


def expected_class(x, y):
    """The class by distances and the height of the curve in S form; None too near a border to tell."""
    from_middle = math.hypot(x - 0.5, y - 0.5)
    from_dot = min(math.hypot(x - 0.25, y - 0.5), math.hypot(x - 0.75, y - 0.5))
    centre, sign = (0.25, -1) if x < 0.5 else (0.75, 1)
    curve = 0.5 + sign * math.sqrt(max(0.25**2 - (x - centre) ** 2, 0))
    if min(abs(from_middle - 0.5), abs(from_dot - 0.1), abs(y - curve)) < 1e-6:
        return None
    if from_middle > 0.5:
        return -1
    if from_dot < 0.1:
        return DOT
    return YIN if y > curve else YANG


@given(st.floats(0, 1), st.floats(0, 1))
def test_regions_against_the_curve_in_s_form(x, y):
    expected = expected_class(x, y)
    assert expected is None or region(x, y) == expected


def test_regions_of_a_grid_and_their_areas():
    axis = (np.arange(1000) + 0.5) / 1000
    x, y = (values.ravel() for values in np.meshgrid(axis, axis))
    found = region(x, y)
    # Both halves are congruent; a disc of radius 0.5 and two dots of 0.1.
    dots, disc = 2 * math.pi * 0.1**2, math.pi * 0.5**2
    half = (disc - dots) / 2
    areas = [(found == label).mean() for label in (-1, YIN, YANG, DOT)]
    assert areas == pytest.approx([1 - disc, half, half, dots], abs=1e-3)
    # Half a turn about the middle exchanges yin and yang.
    turned = region(1 - x, 1 - y)
    inside = found >= 0
    assert (turned[inside] == np.array([YANG, YIN, DOT])[found[inside]]).mean() > 0.999


@pytest.mark.parametrize(
    ("x", "y", "label"),
    [
        (0.5, 0.9, YIN), (0.5, 0.1, YANG), (0.25, 0.5, DOT), (0.75, 0.5, DOT), (0.25, 0.3, YIN),
        (0.75, 0.7, YANG), (0.1, 0.4, YIN), (0.9, 0.6, YANG), (0.05, 0.05, -1), (1.0, 1.0, -1),
    ],
)  # fmt: skip
def test_places_read_off_the_papers_figure(x, y, label):
    assert region(x, y) == label


@pytest.mark.parametrize(("split", "count"), [("train", 5000), ("validation", 1000), ("test", 1000)])
def test_sizes_ranges_and_balance(split, count):
    points = load("yin-yang", split)
    assert points.images.shape == (count, 1, 5)
    assert points.images.dtype == torch.float32
    counts = points.labels.bincount()
    assert len(counts) == 3
    assert counts.max() - counts.min() <= 1
    x, y, mirrored_x, mirrored_y, constant = points.images[:, 0].unbind(1)
    assert torch.equal(mirrored_x, 1 - x)
    assert torch.equal(mirrored_y, 1 - y)
    assert (constant == 1).all()
    # The constant input is the earliest of a latency code.
    assert (encode_latency(points.images, 16).times[:, 0, 4] == 0).all()
    classes = [expected_class(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    told = [(label, c) for label, c in zip(points.labels.tolist(), classes, strict=True) if c is not None]
    assert len(told) > 0.99 * count
    assert all(label == c for label, c in told)


def test_points_are_spread_evenly_over_their_region():
    points = load("yin-yang", "train")
    x, y = points.images[:, 0, 0], points.images[:, 0, 1]
    for label, middle_y in ((YIN, 1), (YANG, -1), (DOT, 0)):
        mine = points.labels == label
        grid = (np.arange(400) + 0.5) / 400
        grid_x, grid_y = (values.ravel() for values in np.meshgrid(grid, grid))
        here = region(grid_x, grid_y) == label
        # Five standard errors of a mean of 1,666 points whose spread is at most 0.3.
        assert float(x[mine].mean()) == pytest.approx(grid_x[here].mean(), abs=0.037)
        assert float(y[mine].mean()) == pytest.approx(grid_y[here].mean(), abs=0.037)
        assert np.sign(round(grid_y[here].mean() - 0.5, 2)) == middle_y


def test_labels_come_in_no_order():
    labels = load("yin-yang", "train").labels
    same = (labels[1:] == labels[:-1]).float().mean().item()
    assert same == pytest.approx(1 / 3, abs=5 * math.sqrt(2 / 9 / 5000))


def test_the_splits_share_no_point():
    points = torch.cat([load("yin-yang", split).images[:, 0, :2] for split in SPLITS])
    assert len(points.unique(dim=0)) == 7000


def test_it_is_the_same_set_with_every_numpy():
    digest = hashlib.sha256()
    for split in SPLITS:
        points = load("yin-yang", split)
        digest.update(points.images.numpy().astype("<f4").tobytes())
        digest.update(points.labels.numpy().astype("<i8").tobytes())
    assert digest.hexdigest() == ("5fbfb944337551e5bdc96ce2162cf470ac40faf0d3847b69196a3aa7c388e215")
