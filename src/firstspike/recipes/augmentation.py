"""How a recipe changes its training images at random, as a value."""

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from firstspike.data.augment import (
    Border,
    check_border,
    cut_out,
    distort,
    flip_alternately,
    flip_horizontally,
)
from firstspike.recipes.fields import Checked, NotNegative, Range, ShareBelowOne


@dataclass(frozen=True, kw_only=True)
class Augmentation(Checked):
    """Random changes of training images: `firstspike.data.augment`'s.

    Attributes:
        shift_px, rotation_deg, scale, shear, elastic_px: the arguments of `distort`.
        border: what a shift comes upon outside the image; "reflect" is for a shift alone.
        flip: flip images horizontally: each with probability 1/2, or "alternating": half of them in even
            epochs, the others in odd ones, so that two epochs show each image once each way.
        cutout_px: side of a black square at a random place; 0 for none.
    """

    shift_px: NotNegative = 0.0
    rotation_deg: NotNegative = 0.0
    scale: ShareBelowOne = 0.0
    shear: NotNegative = 0.0
    elastic_px: NotNegative = 0.0
    border: Border = "black"
    flip: bool | Literal["alternating"] = False
    cutout_px: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_border(self.border, self.rotation_deg, self.scale, self.shear, self.elastic_px)

    def __call__(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Return images uint8 ``(batch, ..., height, width)``, changed at random.

        Args:
            images: the batch.
            index: int64 ``(batch,)``, their places in the training set.
            epoch: from 0.
        """
        images = distort(
            images,
            shift_px=self.shift_px,
            rotation_deg=self.rotation_deg,
            scale=self.scale,
            shear=self.shear,
            elastic_px=self.elastic_px,
            border=self.border,
        )
        if self.flip == "alternating":
            images = flip_alternately(images, index, epoch)
        elif self.flip:
            images = flip_horizontally(images)
        return cut_out(images, self.cutout_px) if self.cutout_px else images
