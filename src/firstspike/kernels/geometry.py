"""The sizes of a convolution, as the kernels of every device take them."""

from typing import NamedTuple


class Geometry(NamedTuple):
    """The sizes of a convolution, in neurons."""

    in_channels: int
    out_channels: int
    kernel_y: int
    kernel_x: int
    stride_y: int
    stride_x: int
    padding_y: int
    padding_x: int
    groups: int

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the output map; below 1 where the kernel does not fit."""
        return (
            (height + 2 * self.padding_y - self.kernel_y) // self.stride_y + 1,
            (width + 2 * self.padding_x - self.kernel_x) // self.stride_x + 1,
        )

    @property
    def rows(self) -> int:
        """Weights that one output neuron has."""
        return self.in_channels // self.groups * self.kernel_y * self.kernel_x
