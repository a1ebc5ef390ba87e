import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from builders import refused

from firstspike import encode_count, encode_latency
from firstspike.inputs import as_images, check_labels

BYTES = torch.arange(256, dtype=torch.uint8)


# The door for images


def test_what_images_may_come_as() -> None:
    reversed_bytes = BYTES.numpy()[::-1]
    read_only = BYTES.numpy().copy()
    read_only.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(as_images(read_only), BYTES)
        assert torch.equal(as_images(reversed_bytes), BYTES.flip(0))
    assert as_images(BYTES) is BYTES
    assert as_images([[True, False]]).tolist() == [[255, 0]]
    for dtype in (torch.float32, torch.float64):
        assert as_images(torch.tensor([0.0, 0.3, 1.0], dtype=dtype)).dtype == dtype
    assert as_images(np.array([0.5], ">f4")).tolist() == [0.5]
    assert as_images(torch.zeros(0, 3)).shape == (0, 3)


def test_rounding_is_no_overshoot() -> None:
    images = torch.tensor([-1e-7, 1.0000001])
    assert as_images(images).tolist() == [0, 1]
    assert encode_latency(images, 16).times.tolist() == [16, 0]
    assert encode_latency(images * 255, 16, max_intensity=255).times.tolist() == [16, 0]


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        ([0.5, math.nan], ValueError, ("NaN",)),
        ([0.5, 1.1], ValueError, ("0 ... 1", "1.1", "max_intensity")),
        ([0.5, -0.1], ValueError, ("-0.1",)),
        ([0.5, math.inf], ValueError, ("inf",)),
        (torch.tensor([0.0, 1.000002]), ValueError, ("1.000002",)),
        # Bytes as floats.
        (BYTES.float(), ValueError, ("0 ... 1", "255.0", "max_intensity")),
        (BYTES.long(), TypeError, ("int64", "uint8", "max_intensity")),
        (torch.tensor([0.5]).half(), TypeError, ("float16",)),
        ([1, 0], TypeError, ("int64",)),
        ("image", TypeError, ("images",)),
        (None, TypeError, ("images",)),
        (torch.tensor([1j]), TypeError, ("complex",)),
    ],
)
def test_other_images_are_refused_by_every_door(
    images: Any, error: type[Exception], words: tuple[str, ...]
) -> None:
    for door in (as_images, encode_count, lambda images: encode_latency(images, 8)):
        with refused(error, *words):
            door(images)


# Labels


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64])
def test_labels_are_integers_of_any_kind(dtype: torch.dtype) -> None:
    labels = torch.tensor([0, 2, 1], dtype=dtype)
    for same in (labels, labels.numpy(), labels.tolist()):
        found = check_labels(same, 3, 3)
        assert (found.dtype, found.tolist()) == (torch.int64, [0, 2, 1])
    assert check_labels(torch.zeros(0, dtype=dtype), 0, 3).shape == (0,)
