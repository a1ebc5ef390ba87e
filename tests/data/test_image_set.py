import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from firstspike.data import ImageSet
from firstspike.support import InputError


def image_set(**changes) -> ImageSet:
    fields = {
        "name": "made",
        "split": "train",
        "images": torch.arange(5, dtype=torch.uint8)[:, None, None].repeat(1, 2, 3),
        "labels": torch.tensor([2, 0, 2, 1, 2]),
        "num_classes": 4,
    }
    return ImageSet(**{**fields, **changes})


def test_length_is_the_number_of_images():
    assert len(image_set()) == 5


def test_of_class_keeps_order_and_everything_else():
    twos = image_set().of_class(2)
    assert twos.images[:, 0, 0].tolist() == [0, 2, 4]
    assert twos.labels.tolist() == [2, 2, 2]
    assert (twos.name, twos.split, twos.num_classes) == ("made", "train", 4)


def test_of_class_may_be_empty():
    assert len(image_set().of_class(3)) == 0


def test_images_may_have_channels():
    twos = image_set(images=torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1).repeat(1, 3, 2, 2))
    assert twos.of_class(2).images[:, 2, 1, 1].tolist() == [0, 2, 4]


@pytest.mark.parametrize("label", [-1, 4])
def test_of_class_refuses_an_unknown_class(label):
    with pytest.raises(InputError, match=rf"classes 0 \.\.\. 3, found {label}"):
        image_set().of_class(label)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        image_set().name = "other"


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"images": torch.zeros(5, 2, 3, dtype=torch.int64)}, TypeError, "images must be torch.uint8"),
        ({"images": torch.zeros(5, 2, 3, dtype=torch.float64)}, TypeError, "images must be torch.uint8"),
        ({"images": torch.full((5, 2, 3), 1.5)}, ValueError, r"0 \.\.\. 1"),
        ({"images": torch.full((5, 2, 3), -0.1)}, ValueError, r"0 \.\.\. 1"),
        ({"images": torch.full((5, 2, 3), float("nan"))}, ValueError, r"0 \.\.\. 1"),
        ({"labels": torch.zeros(5)}, TypeError, "labels must be torch.int64"),
        ({"images": torch.zeros(5, 6, dtype=torch.uint8)}, ValueError, r"found \(5, 6\)"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, ValueError, r"\(5,\).*found \(4,\)"),
        ({"labels": torch.zeros(5, 1, dtype=torch.int64)}, ValueError, r"found \(5, 1\)"),
        ({"num_classes": 2}, ValueError, r"0 \.\.\. 1, found 0 \.\.\. 2"),
        ({"labels": torch.tensor([0, 0, -1, 0, 0])}, ValueError, r"found -1 \.\.\. 0"),
    ],
)
def test_fields_that_do_not_fit_are_refused(changes, error, match):
    with pytest.raises(error, match=match):
        image_set(**changes)


def test_it_is_a_data_set_for_torchs_loader():
    source = image_set()
    image, label = source[3]
    assert (image.tolist(), int(label)) == (source.images[3].tolist(), 1)
    batches = list(DataLoader(source, batch_size=2))
    assert torch.cat([images for images, _ in batches]).equal(source.images)
    assert torch.cat([labels for _, labels in batches]).equal(source.labels)
    assert batches[0][1].dtype == torch.int64
    shuffled = torch.cat([labels for _, labels in DataLoader(source, shuffle=True)])
    assert sorted(shuffled.tolist()) == [0, 1, 2, 2, 2]


def test_slices_and_indices_give_batches_and_iteration_ends():
    source = image_set()
    images, labels = source[1:3]
    assert images.equal(source.images[1:3])
    assert labels.tolist() == [0, 2]
    assert source[torch.tensor([4, 0])][1].tolist() == [2, 2]
    assert [int(label) for _, label in source] == [2, 0, 2, 1, 2]
    with pytest.raises(IndexError):
        source[5]


@pytest.mark.parametrize(
    "images",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.frombuffer(bytes(range(24)), np.uint8).reshape(2, 3, 4),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::-1],
        np.linspace(0, 1, 24).reshape(2, 3, 4),
        np.linspace(0, 1, 24).astype(">f4").reshape(2, 3, 4),
        np.ones((2, 3, 4, 5), np.float16),
        np.ones((2, 3, 4), bool),
        torch.ones(2, 3, 4, dtype=torch.bool),
        torch.rand(2, 3, 4, dtype=torch.float64),
        torch.zeros(2, 7),
        [[0.0, 0.5, 1.0], [1.0, 0.25, 0.0]],
    ],
)
@pytest.mark.parametrize(
    "labels", [[1, 0], np.array([1, 0], np.uint8), np.array([1, 0], ">i4"), torch.tensor([1, 0])]
)
def test_own_arrays_become_a_set(images, labels):
    made = ImageSet.of(images, labels)
    expected = np.asarray(images)
    if expected.dtype == bool:
        expected = expected * 255
    assert made.images.dtype == (torch.float32 if expected.dtype.kind == "f" else torch.uint8)
    assert np.array_equal(
        made.images.numpy().reshape(expected.shape), expected.astype(made.images.numpy().dtype)
    )
    assert made.shape[-1] == expected.shape[-1]
    assert made.labels.tolist() == [1, 0]
    assert (made.name, made.split, made.num_classes) == ("own", "train", 2)
    assert ImageSet.of(images, labels, num_classes=7, split="test").num_classes == 7


@pytest.mark.parametrize(
    ("images", "labels", "error", "match"),
    [
        (np.zeros((2, 3, 4), np.int64), [0, 1], TypeError, "uint8"),
        (np.full((2, 3, 4), 255.0), [0, 1], ValueError, r"0 \.\.\. 1"),
        (np.zeros((2, 3, 4), np.uint8), [0.0, 1.0], TypeError, "integers"),
        (np.zeros((2, 3, 4), np.uint8), [True, False], TypeError, "integers"),
        (np.zeros((2, 3, 4), np.uint8), ["a", "b"], TypeError, "numbers"),
        (np.zeros((2, 3, 4), np.uint8), [[0], [1]], ValueError, r"found \(2, 1\)"),
        (np.zeros((2, 3, 4), np.uint8), [0, -1], ValueError, "found -1"),
        (np.zeros((2, 3, 4), np.uint8), [0], ValueError, r"found \(1,\)"),
        (np.zeros(4, np.uint8), [0, 1, 2, 3], ValueError, r"found \(4,\)"),
    ],
)
def test_own_arrays_that_do_not_fit_are_refused(images, labels, error, match):
    with pytest.raises(error, match=match):
        ImageSet.of(images, labels)
