"""A labelled set of images, as every data set of this package is handed out."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from firstspike.support import InputError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with one class label each.

    Args:
        name: the data set, such as "mnist".
        split: "train", "validation" or "test".
        images: uint8 intensities in 0 ... 255, grey ``(count, height, width)`` or with channels
            ``(count, channels, height, width)``.
        labels: int64 classes ``(count,)`` in ``0 ... num_classes - 1``.
        num_classes: how many classes there are, whether or not each one occurs here.

    Raises:
        TypeError: `images` is not uint8 or `labels` is not int64.
        ValueError: the shapes do not fit each other, or a label is out of range.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    num_classes: int

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8:
            raise TypeError(f"images must be torch.uint8, found {self.images.dtype}")
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
        if len(self) and (self.labels.min() < 0 or self.labels.max() >= self.num_classes):
            raise ValueError(
                f"labels must lie in 0 ... {self.num_classes - 1}, "
                f"found {self.labels.min()} ... {self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.images)

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
