"""Tiny-ImageNet's folder, by small ones made here."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from firstspike.data import load
from firstspike.data.tiny_imagenet import load_tiny_imagenet
from firstspike.support import InputError

CLASSES = ("n02", "n01", "n03")
load_small = partial(load_tiny_imagenet, num_classes=len(CLASSES))


def colour(number, k):
    return (40 * number + 10, 5 * k, 200)


def write(file, value, size=(64, 64), mode="RGB"):
    file.parent.mkdir(parents=True, exist_ok=True)
    # One colour everywhere comes through JPEG within a level or two.
    Image.new(mode, size, value).save(file, "JPEG", quality=95)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    root.mkdir()
    (root / "wnids.txt").write_text("\n".join(CLASSES) + "\n")
    for number, name in enumerate(CLASSES):
        for k in range(10):
            write(root / "train" / name / "images" / f"{name}_{k}.JPEG", colour(number, k))
    lines = []
    for k, name in enumerate(("n03", "n02")):
        write(root / "val" / "images" / f"val_{k}.JPEG", colour(CLASSES.index(name), k))
        lines.append(f"val_{k}.JPEG\t{name}\t0\t0\t62\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


def test_training_images_are_split_and_carry_their_class(folder):
    train, validation = (load_small(split, folder.parent) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (27, 3)
    assert train.images.shape == (27, 3, 64, 64)
    both = torch.cat([train.images, validation.images]).float().mean((2, 3))
    labels = torch.cat([train.labels, validation.labels])
    seen = set()
    for (red, green, blue), label in zip(both.tolist(), labels.tolist(), strict=True):
        assert red == pytest.approx(colour(label, 0)[0], abs=3)
        assert blue == pytest.approx(200, abs=3)
        seen.add((label, round(green / 5)))
    assert len(seen) == 30
    again = load_small("train", folder)
    assert torch.equal(again.images, train.images)


def test_the_official_validation_set_is_the_test_split(folder):
    test = load_small("test", folder)
    assert test.labels.tolist() == [2, 0]
    assert test.images[0].float().mean((1, 2))[0] == pytest.approx(90, abs=3)


def test_grey_pictures_get_three_equal_channels(folder):
    write(folder / "val" / "images" / "val_0.JPEG", 77, mode="L")
    image = load_small("test", folder).images[0]
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])
    assert np.abs(image.numpy().astype(int) - 77).max() <= 1


@pytest.mark.parametrize(
    ("damage", "split", "message"),
    [
        (lambda root: (root / "wnids.txt").unlink(), "train", "unpack"),
        (lambda root: (root / "wnids.txt").write_bytes(b"\xff\xfe\xfa"), "train", "no text"),
        (lambda root: (root / "wnids.txt").write_text("n02\nn09\nn01\n"), "train", "no images"),
        (lambda root: (root / "wnids.txt").write_text("n01\nn02\nn01\n"), "train", "different classes"),
        (lambda root: (root / "wnids.txt").write_text("\n"), "test", "found 0 lines"),
        (lambda root: (root / "val" / "val_annotations.txt").write_text(""), "test", "is empty"),
        (lambda root: (root / "val" / "val_annotations.txt").unlink(), "test", "missing"),
        (lambda root: (root / "val" / "val_annotations.txt").write_text("a\tn99\n"), "test", "'n99'"),
        (lambda root: (root / "val" / "images" / "val_1.JPEG").unlink(), "test", "missing"),
        (lambda root: (root / "val" / "images" / "val_1.JPEG").write_bytes(b"no"), "test", "damaged"),
        (
            lambda root: write(root / "val" / "images" / "val_1.JPEG", (1, 2, 3), (32, 64)),
            "test",
            "32 x 64",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(folder, damage, split, message):
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_small(split, folder)
    assert "\n" not in str(caught.value)


def test_a_truncated_picture_is_refused(folder):
    file = folder / "val" / "images" / "val_1.JPEG"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file, "JPEG")
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(InputError, match="damaged"):
        load_small("test", folder)


def test_a_picture_of_another_format_is_refused(folder):
    Image.new("RGB", (64, 64)).save(folder / "val" / "images" / "val_1.JPEG", "PNG")
    with pytest.raises(InputError, match="damaged"):
        load_small("test", folder)


def test_another_number_of_classes_is_not_the_set(folder):
    with pytest.raises(InputError, match="expected 200 different classes, found 3"):
        load("tiny-imagenet", "test", folder)


def test_what_macos_leaves_beside_the_pictures_is_passed_over(folder):
    (folder / "train" / "n01" / "images" / "._n01_0.JPEG").write_bytes(b"no picture")
    assert len(load_small("train", folder)) == 27
