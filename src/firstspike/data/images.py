"""A labelled set of images, as every data set of this package is handed out."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstspike.support import InputError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with one class label each; also a data set for `torch.utils.data.DataLoader`.

    Args:
        name: the data set, such as "mnist".
        split: "train", "validation" or "test".
        images: uint8 intensities in 0 ... 255, or float32 in 0 ... 1; grey ``(count, height, width)`` or
            with channels ``(count, channels, height, width)``. `of` takes other arrays.
        labels: int64 classes ``(count,)`` in ``0 ... num_classes - 1``.
        num_classes: how many classes there are, whether or not each one occurs here.

    Raises:
        TypeError: `images` is neither uint8 nor float32, or `labels` is not int64.
        ValueError: the shapes do not fit each other, or an intensity or a label is out of range.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    num_classes: int

    def __post_init__(self) -> None:
        if self.images.dtype not in (torch.uint8, torch.float32):
            raise TypeError(f"images must be torch.uint8 or torch.float32, found {self.images.dtype}")
        if self.labels.dtype != torch.int64:
            raise TypeError(f"labels must be torch.int64, found {self.labels.dtype}")
        if self.images.ndim not in (3, 4):
            raise ValueError(
                "images must be (count, height, width) or (count, channels, height, width), found "
                f"{tuple(self.images.shape)}"
            )
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels must be ({len(self.images)},), one for each image, "
                f"found {tuple(self.labels.shape)}"
            )
        # Not >= and <=, which NaN would pass.
        if self.images.is_floating_point() and not ((self.images >= 0) & (self.images <= 1)).all():
            raise ValueError("float32 images must lie in 0 ... 1; divide by the largest intensity")
        if len(self) and (self.labels.min() < 0 or self.labels.max() >= self.num_classes):
            raise ValueError(
                f"labels must lie in 0 ... {self.num_classes - 1}, "
                f"found {self.labels.min()} ... {self.labels.max()}"
            )

    @classmethod
    def of(
        cls,
        images: Any,
        labels: Any,
        *,
        num_classes: int | None = None,
        name: str = "own",
        split: str = "train",
    ) -> "ImageSet":
        """Return the set of a user's own arrays: tensors, numpy arrays or lists.

        Args:
            images: as of `ImageSet`, or bool, or floating point of any width in 0 ... 1. Plain numbers
                ``(count, features)`` become ``(count, 1, features)``.
            labels: integers ``(count,)`` of any width.
            num_classes: one more than the largest label if None.
            name, split: as of `ImageSet`.

        Raises:
            TypeError, ValueError: as `ImageSet`.

        >>> ImageSet.of([[0.0, 0.5], [1.0, 0.25]], [0, 1]).shape
        (1, 1, 2)
        """
        pixels, classes = as_tensor(images), as_tensor(labels)
        if pixels.dtype == torch.bool:
            pixels = pixels.to(torch.uint8) * 255
        elif pixels.is_floating_point():
            pixels = pixels.to(torch.float32)
        if pixels.ndim == 2:
            pixels = pixels.unsqueeze(1)
        if classes.dtype == torch.bool or classes.is_floating_point() or classes.is_complex():
            raise TypeError(f"labels must be integers, found {classes.dtype}")
        classes = classes.to(torch.int64)
        if num_classes is None:
            num_classes = int(classes.max()) + 1 if classes.numel() else 0
        return cls(name, split, pixels, classes, num_classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of an image."""
        channels = 1 if self.images.ndim == 3 else self.images.shape[1]
        return channels, self.images.shape[-2], self.images.shape[-1]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> tuple[Tensor, Tensor]:
        """Return an image and its label, or those of a slice or of a tensor of indices."""
        return self.images[index], self.labels[index]

    def of_class(self, label: int) -> "ImageSet":
        """Return the images of one class, in the order in which they stand here.

        Raises:
            InputError: `label` is not a class of this set.
        """
        if not 0 <= label < self.num_classes:
            raise InputError(
                f"{self.name} has the classes 0 ... {self.num_classes - 1}, found {label}; name one of them"
            )
        chosen = self.labels == label
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])


def as_tensor(values: Any) -> Tensor:
    """Return an array or a list as a tensor that shares its memory where torch can; a tensor as it is.

    Raises:
        TypeError: it holds no numbers.
        ValueError: a list of unequal rows.
    """
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"images and labels must be arrays of numbers, found {array.dtype}")
    # A copy of what torch cannot share: views of a file's bytes, other byte orders, negative strides.
    shared = array.flags.writeable and array.dtype.isnative and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if shared else array.astype(array.dtype.newbyteorder("=")))
