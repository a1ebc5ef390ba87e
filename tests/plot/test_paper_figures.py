import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from firstspike.plot import paper, png_bytes
from firstspike.plot._mosaic import mosaic
from firstspike.plot._style import diverging
from firstspike.plot.paper.coding_cost import (
    COUNT,
    COUNT_INVERTED,
    PAPER_SPIKES,
    TTFS_ALL,
    TTFS_SILENT,
    spread_counts,
)
from firstspike.plot.paper.refractory_period import simulate


def random_images(count, side=28):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side)).astype(np.uint8)
    images[rng.random(images.shape) < 0.5] = 0
    return images


def panel_titles(figure):
    return [axes.get_title("left") for axes in figure.axes]


@given(st.integers(0, 5), st.integers(0, 80))
def test_a_neuron_under_constant_input_spikes_at_fixed_intervals(halvings, period):
    # 1, 1/2, 1/4 ... add up without rounding: the first crossing is known.
    needed = 2**halvings
    peaks, spikes = simulate(np.full(64, 1 / needed), period)
    assert spikes == list(range(needed - 1, 64, needed + period))
    assert peaks.max() <= 1


def test_a_refractory_period_of_the_whole_window_leaves_one_spike():
    figure = paper.refractory_period(48)
    assert len(figure.axes) == 4
    assert panel_titles(figure)[-1] == "refractory period T"
    counts = [int(axes.get_title("right").split()[0]) for axes in figure.axes]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 1
    assert counts[-1] == 1
    with pytest.raises(ValueError, match="current above 0"):
        paper.refractory_period(current=0)


@pytest.mark.parametrize("num_steps", [8, 256])
def test_the_encoder_curve_is_the_formula(num_steps):
    image = random_images(1)[0]
    curve, shown, times, _ = paper.encoder(image, num_steps).axes
    xs = np.concatenate([line.get_xdata() for line in curve.lines])
    ys = np.concatenate([line.get_ydata() for line in curve.lines])
    assert sorted(xs) == list(range(256))
    assert np.array_equal(ys, (255 - xs.astype(int)) * num_steps // 255)
    assert np.array_equal(shown.images[0].get_array(), image)
    drawn = times.images[0].get_array()
    expected = (255 - image.astype(int)) * num_steps // 255
    assert np.array_equal(drawn.mask, expected == num_steps)
    assert np.array_equal(drawn.data, expected)


def test_coding_spikes_counts_as_by_hand():
    images = random_images(2_100, 8)
    spikes = paper.coding_spikes(torch.tensor(images), 256)
    assert spikes[TTFS_ALL] == 64
    assert spikes[TTFS_SILENT] == pytest.approx((images > 0).sum() / 2_100)
    assert spikes[COUNT] == pytest.approx(images.astype(int).sum() / 2_100)
    assert spikes[COUNT] + spikes[COUNT_INVERTED] == pytest.approx(255 * 64)


def test_the_papers_two_count_codes_are_complements():
    assert PAPER_SPIKES[COUNT] + PAPER_SPIKES[COUNT_INVERTED] == 255 * PAPER_SPIKES[TTFS_ALL]


@given(st.lists(st.integers(0, 64), min_size=1, max_size=10))
def test_spread_counts_keeps_the_counts_and_the_window(counts):
    pixels, steps = spread_counts(np.array(counts), 64)
    assert np.bincount(pixels, minlength=len(counts)).tolist() == counts
    assert ((steps >= 0) & (steps < 64)).all()
    assert len({(p, s) for p, s in zip(pixels, steps, strict=True)}) == sum(counts)


def test_coding_cost_draws_the_counts():
    images = random_images(3)
    figure = paper.coding_cost(images, 16)
    bars, latency, rate = figure.axes
    spikes = paper.coding_spikes(images, 16)
    assert [bar.get_width() for bar in bars.patches] == list(spikes.values())
    assert bars.get_xscale() == "log"
    assert [line.get_xdata()[0] for line in bars.lines] == list(PAPER_SPIKES.values())
    row = images[0, 14].astype(int)
    assert f"{(row > 15).sum()} spikes" in latency.get_title("left")
    assert f"{row.sum():,} spikes" in rate.get_title("left")
    assert not paper.coding_cost(images, 16, with_paper=False).axes[0].lines


def test_a_black_image_costs_nothing_but_can_be_drawn():
    figure = paper.coding_cost(np.zeros((1, 8, 8), np.uint8), 16, with_paper=False)
    assert png_bytes(figure).startswith(b"\x89PNG")
    _, latency, rate = figure.axes
    assert latency.get_title("left").endswith(" 0 spikes")
    assert rate.get_title("left").endswith(" 0 spikes")


def test_the_architecture_names_every_layer():
    image = random_images(1)[0]
    axes = paper.architecture(fake=image, real=torch.tensor(image)).axes[0]
    texts = [text.get_text() for text in axes.texts]
    for expected in ("100", "400", "784", "2", "generator", "discriminator", "fake", "real"):
        assert expected in texts
    assert [np.array_equal(drawn.get_array(), image) for drawn in axes.images] == [True, True]
    assert not paper.architecture((20, 64), (64, 10, 1)).axes[0].images
    with pytest.raises(ValueError, match="two layers"):
        paper.architecture((784,))


def test_the_output_rule_shows_the_papers_targets():
    figure = paper.output_rule(100, example_times=(30, 60))
    assert len(figure.axes) == 6
    targets = []
    for axes in figure.axes:
        diamonds = [line for line in axes.lines if line.get_marker() == "D" and len(line.get_xdata())]
        targets.append([line.get_xdata()[0] for line in diamonds])
    # (fake, real): left column first spike of the two at 30; right column both silent.
    assert targets == [[100, 30], [100, 0], [30, 100], [0, 100], [100, 30], [100, 0]]
    with pytest.raises(ValueError, match="example_times"):
        paper.output_rule(100, example_times=(30, 101))


def test_digit_costs_draws_every_number():
    rng = np.random.default_rng(0)
    steps = {"aggressive": rng.random(10), "relative": torch.rand(10)}
    spikes = {"aggressive": rng.random(10), "relative": torch.rand(10)}
    figure = paper.digit_costs(steps, spikes)
    assert len(figure.axes) == 2
    for axes, given_values in zip(figure.axes, (steps, spikes), strict=True):
        heights = [bar.get_height() for bar in axes.patches]
        assert heights == pytest.approx(np.concatenate(list(given_values.values())))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(steps)
    with pytest.raises(ValueError, match="same names"):
        paper.digit_costs(steps, {"aggressive": rng.random(10)})
    with pytest.raises(ValueError, match="for every name"):
        paper.digit_costs({"a": np.ones(10), "b": np.ones(9)}, {"a": np.ones(10), "b": np.ones(9)})


def test_filters_are_drawn_on_a_symmetric_scale_with_white_at_zero():
    generator = torch.Generator().manual_seed(0)
    weights = {
        "aggressive": torch.randn(70, 28, 28, generator=generator),
        "relative": torch.rand(9, 28, 28, generator=generator),
    }
    figure = paper.hidden_filters(weights, count=16)
    grids = [axes for axes in figure.axes if axes.get_title("left")]
    assert [axes.get_title("left") for axes in grids] == list(weights)
    for axes, given_weights, shown in zip(grids, weights.values(), (16, 9), strict=True):
        drawn = axes.images[0]
        values = given_weights[:shown].numpy()
        side = round(shown**0.5)
        assert np.array_equal(drawn.get_array().compressed(), mosaic(values, side, (2, 2)).compressed())
        low, high = drawn.get_clim()
        assert low == -high
        assert high == pytest.approx(np.quantile(np.abs(values), 0.99))
    assert diverging()(0.5)[:3] == pytest.approx((0.97, 0.97, 0.97), abs=0.01)


def test_filters_of_zero_can_be_drawn():
    figure = paper.hidden_filters({"untrained": np.zeros((4, 8, 8))})
    assert png_bytes(figure).startswith(b"\x89PNG")
    (drawn,) = (image for axes in figure.axes for image in axes.get_images())
    assert not drawn.get_array().compressed().any()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "at least one network"),
        ({"a": np.ones((3, 64))}, r"\(hidden, height, width\)"),
        ({"a": np.full((1, 2, 2), np.nan)}, "NaN"),
        ({"a": np.ones((1, 2, 2)), "b": np.ones((1, 3, 3))}, "one height and width"),
    ],
)
def test_refuses_what_are_no_filters(weights, message):
    with pytest.raises(ValueError, match=message):
        paper.hidden_filters(weights)


def test_every_figure_is_small_enough_for_a_readme():
    images = random_images(20)
    figures = [
        paper.refractory_period(),
        paper.encoder(images[0]),
        paper.coding_cost(images),
        paper.architecture(fake=images[0], real=images[1]),
        paper.output_rule(),
        paper.digit_costs({"a": np.ones(10)}, {"a": np.ones(10)}),
        paper.hidden_filters({"a": np.random.default_rng(0).normal(size=(64, 28, 28))}),
    ]
    for figure in figures:
        assert len(png_bytes(figure)) < 200_000
