import dataclasses

import pytest
import torch

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
        ({"images": torch.zeros(5, 2, 3)}, TypeError, "images must be torch.uint8"),
        ({"labels": torch.zeros(5)}, TypeError, "labels must be torch.int64"),
        ({"images": torch.zeros(5, 6, dtype=torch.uint8)}, ValueError, r"found \(5, 6\)"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, ValueError, r"\(5,\).*found \(4,\)"),
        ({"num_classes": 2}, ValueError, r"0 \.\.\. 1, found 0 \.\.\. 2"),
        ({"labels": torch.tensor([0, 0, -1, 0, 0])}, ValueError, r"found -1 \.\.\. 0"),
    ],
)
def test_fields_that_do_not_fit_are_refused(changes, error, match):
    with pytest.raises(error, match=match):
        image_set(**changes)
