from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from firstspike.plot import png_bytes, sample_comparison, sample_grid
from firstspike.plot._mosaic import mosaic
from firstspike.support import InputError


def random_images(count, height=28, width=28):
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, height, width)).astype(np.uint8)


def test_a_mosaic_holds_each_image_in_its_place_and_nothing_else():
    images = random_images(5, 3, 4)
    result = mosaic(images, 2, (1, 2))
    assert result.shape == (3 * 3 + 2, 2 * 4 + 2)
    for index, image in enumerate(images):
        top, left = index // 2 * 4, index % 2 * 6
        cell = result[top : top + 3, left : left + 4]
        assert not cell.mask.any()
        assert np.array_equal(cell.data, image)
    assert (~result.mask).sum() == images.size


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_a_grid_draws_the_values_given(convert):
    images = random_images(7)
    figure = sample_grid(convert(images), columns=3)
    (axes,) = figure.axes
    drawn = axes.images[0].get_array()
    assert np.array_equal(drawn.compressed(), mosaic(images, 3, (2, 2)).compressed())
    assert axes.images[0].get_clim() == (0, 255)


@pytest.mark.parametrize("side", [8, 28, 32])
def test_every_pixel_becomes_a_square_of_whole_dots(side):
    image = np.where(random_images(1, side, side) > 127, 255, 0).astype(np.uint8)
    with Image.open(BytesIO(png_bytes(sample_grid(image)))) as png:
        page = np.asarray(png.convert("L"))
    dots = round(56 / side)
    square = np.kron(image[0], np.ones((dots, dots), np.uint8))
    assert np.array_equal(page[12 : 12 + side * dots, 12 : 12 + side * dots], square)


def test_colour_is_drawn_as_it_is_and_gaps_stay_white():
    """Thousands of colours, more than a palette holds."""
    colours = np.random.default_rng(0).integers(0, 256, (3, 3, 28, 28)).astype(np.uint8)
    with Image.open(BytesIO(png_bytes(sample_grid(colours, columns=2)))) as png:
        page = np.asarray(png.convert("RGB"))
    first = np.kron(colours[0].transpose(1, 2, 0), np.ones((2, 2, 1), np.uint8))
    assert np.array_equal(page[12:68, 12:68], first)
    assert (page[72:128, 72:128] == 255).all()


def test_labels_stand_above_their_images():
    figure = sample_grid(random_images(4), columns=2, labels=torch.tensor([3, 1, 4, 1]).tolist())
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["3", "1", "4", "1"]
    xs = [text.xy[0] for text in axes.texts]
    assert xs[0] == xs[2] < xs[1] == xs[3]


def test_a_comparison_has_a_named_strip_per_source():
    rows = {"real": random_images(10), "spiking": random_images(20), "control": random_images(3)}
    figure = sample_comparison(rows, title="digit 3")
    assert len(figure.axes) == 3
    assert [text.get_text() for text in figure.texts] == ["digit 3", "real", "spiking", "control"]
    for axes, images in zip(figure.axes, rows.values(), strict=True):
        drawn = axes.images[0].get_array()
        assert np.array_equal(drawn.compressed(), mosaic(images, 10, (2, 2)).compressed())


def test_strips_do_not_overlap_and_a_long_name_fits():
    name = "a very long name of a control that is wider than two small images"
    figure = sample_comparison({name: random_images(2), "b": random_images(2)}, title="t")
    boxes = [axes.get_position() for axes in figure.axes]
    assert boxes[0].y0 > boxes[1].y1 > boxes[1].y0 > 0
    FigureCanvasAgg(figure)
    page = figure.bbox
    for text in figure.texts:
        extent = text.get_window_extent()
        assert page.x0 <= extent.x0
        assert extent.x1 <= page.x1
        assert not any(extent.overlaps(axes.get_window_extent()) for axes in figure.axes)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((2, 4, 4)), TypeError, "uint8"),
        (np.zeros((4, 4), np.uint8), ValueError, r"\(count, height, width\)"),
        (np.zeros((0, 4, 4), np.uint8), ValueError, "count >= 1"),
        (np.zeros((2, 2, 4, 4), np.uint8), ValueError, r"\(count, 3, height, width\)"),
        (np.zeros((0, 3, 4, 4), np.uint8), ValueError, "count >= 1"),
    ],
)
def test_refuses_what_is_no_stack_of_images(images, error, message):
    with pytest.raises(error, match=message):
        sample_grid(images)


def test_refuses_what_does_not_fit():
    images = random_images(3)
    with pytest.raises(ValueError, match="labels must hold one per image, 3, found 2"):
        sample_grid(images, labels=[1, 2])
    with pytest.raises(ValueError, match="columns must be 1 or more"):
        sample_grid(images, columns=0)
    with pytest.raises(ValueError, match="at least one source"):
        sample_comparison({})
    with pytest.raises(ValueError, match="one size"):
        sample_comparison({"a": images, "b": random_images(3, 8, 8)})
    with pytest.raises(InputError, match="use more columns"):
        sample_grid(np.zeros((2_000, 28, 28), np.uint8), columns=1)
