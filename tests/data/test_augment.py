"""Random changes of images, checked where the right answer is known."""

import math

import numpy as np
import pytest
import torch

from firstspike.data import load
from firstspike.data.augment import cut_out, distort, flip_alternately, flip_horizontally, shift
from firstspike.recipes.augmentation import Augmentation
from firstspike.support import InputError

EVERYTHING = {"shift_px": 1.5, "rotation_deg": 10, "scale": 0.1, "shear": 0.1, "elastic_px": 1.0}


def dot(count, row, column, size=28):
    """Images with one white pixel."""
    images = torch.zeros(count, size, size, dtype=torch.uint8)
    images[:, row, column] = 255
    return images


def blob(count, size=28):
    """Images of a soft round spot in the middle, which no bilinear lookup hurts."""
    axis = torch.arange(size) - (size - 1) / 2
    spot = 255 * torch.exp(-(axis**2 + axis[:, None] ** 2) / 18)
    return spot.round().to(torch.uint8).repeat(count, 1, 1)


def centres(images):
    """Return the centre of mass of each image, rows and columns."""
    mass = images.to(torch.float64)
    axis = torch.arange(images.shape[1], dtype=torch.float64)
    total = mass.sum((1, 2))
    return (mass.sum(2) @ axis) / total, (mass.sum(1) @ axis) / total


def test_no_change_asked_for_is_no_change():
    images = torch.randint(0, 256, (5, 8, 8), dtype=torch.uint8)
    assert distort(images) is images


def test_numbers_that_are_no_intensities_are_not_rounded_away():
    points = torch.rand(5, 1, 5)
    assert distort(points) is points
    with pytest.raises(InputError, match="uint8"):
        distort(points, shift_px=1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (2, 5, 9)])
@pytest.mark.parametrize("name", EVERYTHING)
def test_shape_and_type_stay_and_the_input_is_left_alone(shape, name):
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    before = images.clone()
    for changes in ({name: EVERYTHING[name]}, EVERYTHING):
        changed = distort(images, **changes)
        assert changed.shape == shape
        assert changed.dtype == torch.uint8
    assert images.equal(before)


def test_a_shift_moves_the_pixel_whole_and_reaches_every_place_equally_often():
    torch.manual_seed(0)
    moved = distort(dot(5000, 10, 20), shift_px=2)
    places = moved.nonzero()
    assert len(places) == 5000
    assert set(moved.unique().tolist()) == {0, 255}
    counts = torch.zeros(28, 28).index_put_(
        (places[:, 1], places[:, 2]), torch.tensor(1.0), accumulate=True
    )
    assert counts.nonzero().tolist() == [[r, c] for r in range(8, 13) for c in range(18, 23)]
    # 25 places with 200 expected each: five standard deviations of a binomial.
    assert (counts[8:13, 18:23] - 200).abs().max() < 5 * math.sqrt(200)


@pytest.mark.parametrize(("limit", "reached"), [(0.9, 0), (1.5, 1), (2.5, 2)])
def test_a_shift_goes_no_further_than_its_limit(limit, reached):
    torch.manual_seed(0)
    places = distort(dot(500, 10, 10), shift_px=limit).nonzero()[:, 1:]
    assert (places - 10).unique().tolist() == list(range(-reached, reached + 1))


def test_what_comes_from_outside_is_black():
    white = torch.full((200, 8, 8), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    moved = distort(white, shift_px=1)
    rows, columns = (moved == 255).any(2).sum(1), (moved == 255).any(1).sum(1)
    assert set(rows.tolist()) == set(columns.tolist()) == {7, 8}
    # What is left is one rectangle.
    assert ((moved == 255).sum((1, 2)) == rows * columns).all()


def test_a_shift_beside_other_changes_is_as_far_as_a_pure_one():
    torch.manual_seed(0)
    moved = distort(blob(4000), shift_px=3, rotation_deg=1e-6)
    for centre in centres(moved):
        away = centre - 13.5
        assert away.abs().max() <= 3.02
        # Uniform in +- 3: mean 0, variance 3.
        assert away.mean().abs() < 0.15
        assert away.var().item() == pytest.approx(3, rel=0.1)


def test_a_rotation_turns_about_the_centre(monkeypatch):
    images = torch.randint(0, 256, (4, 9, 9), dtype=torch.uint8)
    # The largest angle for every image.
    monkeypatch.setattr(torch, "rand", lambda *shape: torch.ones(*shape))
    turned = distort(images, rotation_deg=90)
    assert turned.equal(images.rot90(1, (1, 2))) or turned.equal(images.rot90(-1, (1, 2)))
    assert distort(images, rotation_deg=180).equal(images.rot90(2, (1, 2)))


def test_scale_changes_the_size_by_at_most_its_share():
    torch.manual_seed(0)
    images = blob(2000)
    axis = (torch.arange(28) - 13.5) ** 2

    def variance(images):
        mass = images.to(torch.float32)
        return (mass.sum(1) @ axis) / mass.sum((1, 2))

    size = (variance(distort(images, scale=0.2)) / variance(images)).sqrt()
    # Coordinates are stretched by 0.8 ... 1.2, so the image by the inverse.
    assert 1 / 1.2 - 0.02 < size.min() < 0.85
    assert 1.2 < size.max() < 1 / 0.8 + 0.02


def test_the_mean_hardly_changes():
    torch.manual_seed(0)
    images = load("digits", "train").images
    changed = distort(images, shift_px=0.3, rotation_deg=8, scale=0.05)
    assert changed.float().mean().item() == pytest.approx(images.float().mean().item(), rel=0.03)
    changed = distort(blob(500), **EVERYTHING)
    assert changed.float().mean().item() == pytest.approx(blob(1).float().mean().item(), rel=0.05)


def test_each_image_is_changed_in_its_own_way():
    torch.manual_seed(0)
    for name in ("shift_px", "rotation_deg", "scale", "shear", "elastic_px"):
        changed = distort(torch.cat([dot(6, 9, 5), blob(6)]), **{name: 2 * EVERYTHING[name]})
        assert len(changed[:6].flatten(1).unique(dim=0)) > 1, name


def test_the_random_numbers_are_torchs_global_ones():
    images = blob(20)
    torch.manual_seed(3)
    one = distort(images, **EVERYTHING)
    other = distort(images, **EVERYTHING)
    torch.manual_seed(3)
    assert distort(images, **EVERYTHING).equal(one)
    assert not other.equal(one)


@pytest.mark.parametrize("changes", [{"shift_px": 2}, {"rotation_deg": 20, "shift_px": 1}, EVERYTHING])
def test_all_channels_of_an_image_are_moved_by_its_one_map(changes):
    grey = torch.randint(0, 256, (6, 12, 10), dtype=torch.uint8)
    torch.manual_seed(5)
    expected = distort(grey, **changes)
    torch.manual_seed(5)
    colour = distort(torch.stack([grey, 255 - grey, grey], 1), **changes)
    assert colour.shape == (6, 3, 12, 10)
    assert colour.dtype == torch.uint8
    assert colour[:, 0].equal(expected)
    assert colour[:, 2].equal(expected)
    assert not colour[:, 1].equal(expected)


@pytest.mark.parametrize("shape", [(400, 4, 6), (400, 3, 4, 6)])
def test_a_flip_mirrors_that_share_of_the_images(shape):
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    before = images.clone()
    assert flip_horizontally(images, 0.0).equal(images)
    assert flip_horizontally(images, 1.0).equal(torch.flip(images, [len(shape) - 1]))
    torch.manual_seed(0)
    flipped = flip_horizontally(images)
    mirrored = 0
    for image, result in zip(images, flipped, strict=True):
        if not result.equal(image):
            assert result.equal(image.flip(-1))
            mirrored += 1
    # Five standard deviations of a binomial.
    assert abs(mirrored - 200) < 50
    assert images.equal(before)
    assert flipped.dtype == torch.uint8
    torch.manual_seed(0)
    assert flip_horizontally(images).equal(flipped)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_cut_is_one_black_square_whose_middle_is_anywhere(size, channels):
    white = torch.full((3000, *channels, 5, 7), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    cut = cut_out(white, size)
    assert cut.dtype == torch.uint8
    assert cut.shape == white.shape
    assert (white == 255).all()
    found = {tuple(image.flatten().tolist()) for image in cut}
    expected = set()
    for row in range(5):
        for column in range(7):
            image = white[0].clone()
            top, left = row - size // 2, column - size // 2
            image[..., max(top, 0) : top + size, max(left, 0) : left + size] = 0
            expected.add(tuple(image.flatten().tolist()))
    assert found == expected


@pytest.mark.parametrize(
    "change",
    [
        flip_horizontally,
        lambda images: flip_alternately(images, torch.arange(3), 0),
        lambda images: cut_out(images, 2),
    ],
)
def test_numbers_of_a_table_are_no_image(change):
    with pytest.raises(InputError, match=r"uint8 images, found torch.float32; train without it"):
        change(torch.rand(3, 1, 5))


def test_a_cut_of_no_size_is_no_change():
    images = torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8)
    assert cut_out(images, 0).equal(images)


@pytest.mark.parametrize("count", [100, 257, 1500, 50_000])
def test_alternating_mirrors_show_each_image_once_each_way_in_two_epochs(count):
    # In each image one pixel, to the left, says which way round it is.
    images = torch.zeros(count, 1, 2, dtype=torch.uint8)
    images[:, :, 0] = 255
    places = torch.arange(count)
    seen = []
    for epoch in range(4):
        flipped = flip_alternately(images, places, epoch)[:, 0, 1] == 255
        assert 0.45 < flipped.float().mean().item() < 0.55
        # In another order of other batches, the same images.
        order = torch.randperm(count, generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(30):
            mirrored = flip_alternately(images[batch], batch, epoch)[:, 0, 1] == 255
            assert mirrored.equal(flipped[batch])
        seen.append(flipped)
    assert seen[0].equal(~seen[1])
    assert seen[2].equal(seen[0])
    assert seen[3].equal(seen[1])
    # Neither every other one nor the first ones: each hundred has both.
    for part in seen[0].split(100)[: count // 100]:
        assert 30 <= int(part.sum()) <= 70
        assert not part[::2].all()
        assert part[::2].any()


def test_an_image_of_several_channels_is_mirrored_as_a_whole():
    images = torch.randint(0, 256, (8, 3, 4, 5), dtype=torch.uint8)
    flipped = flip_alternately(images, torch.arange(8), 0)
    other = flip_alternately(images, torch.arange(8), 1)
    for image, one, two in zip(images, flipped, other, strict=True):
        pair = [one, two] if one.equal(image) else [two, one]
        assert pair[0].equal(image)
        assert pair[1].equal(image.flip(-1))


@pytest.mark.parametrize(
    ("shape", "limit"), [((4, 6), 2), ((3, 5, 4), 1), ((5, 5), 4), ((2, 3, 2), 7), ((1, 4), 2)]
)
def test_a_reflected_border_is_numpys(shape, limit):
    image = torch.randint(1, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    *channels, height, width = shape
    around = [(0, 0)] * len(channels) + [(limit, limit)] * 2
    padded = np.pad(image.numpy(), around, mode="reflect")
    expected = {
        padded[..., down : down + height, right : right + width].tobytes()
        for down in range(2 * limit + 1)
        for right in range(2 * limit + 1)
    }
    torch.manual_seed(0)
    images = image.expand(4000, *shape)
    moved = distort(images, shift_px=limit + 0.5, border="reflect")
    assert moved.shape == images.shape
    assert {one.numpy().tobytes() for one in moved} == expected
    # The same random numbers as beside a black border.
    torch.manual_seed(0)
    black = distort(images, shift_px=limit + 0.5)
    assert moved[black != 0].equal(black[black != 0])


@pytest.mark.parametrize("name", [name for name in EVERYTHING if name != "shift_px"])
def test_a_reflected_border_is_for_shifts_alone(name):
    images = torch.zeros(2, 4, 4, dtype=torch.uint8)
    with pytest.raises(InputError, match=r'shift alone.*border="black"'):
        distort(images, shift_px=1, border="reflect", **{name: 0.5})
    with pytest.raises(InputError, match="shift alone"):
        Augmentation(border="reflect", **{name: 0.5})
    assert Augmentation(border="reflect", shift_px=2)(images, torch.arange(2), 0).equal(images)


@pytest.mark.parametrize("border", ["black", "reflect"])
@pytest.mark.parametrize("shape", [(7, 5, 6), (7, 3, 5, 6)])
def test_a_shift_shows_a_window_of_the_padded_image_and_hands_back_its_gradient(shape, border):
    images = torch.rand(shape, requires_grad=True)
    shown = shift(images, 2, border)
    sides = [(0, 0)] * (len(shape) - 2) + [(2, 2)] * 2
    for image, found in zip(images.detach().numpy(), shown.detach().numpy(), strict=True):
        padded = np.pad(image, sides[1:], mode="constant" if border == "black" else "reflect")
        windows = [padded[..., y : y + 5, x : x + 6] for y in range(5) for x in range(5)]
        assert sum(np.array_equal(window, found) for window in windows) == 1
    given = torch.rand(shape)
    (back,) = torch.autograd.grad(shown, images, given)
    # What is moved is linear: the gradient's product with the images is the result's with what was given.
    torch.testing.assert_close((back * images).sum(), (given * shown).sum())


def test_a_shift_of_no_images_is_none():
    assert shift(torch.empty(0, 5, 6), 1).shape == (0, 5, 6)
    assert shift(torch.empty(0, 3, 5, 6), 1).shape == (0, 3, 5, 6)
