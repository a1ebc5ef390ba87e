"""What a one-step network computes, as numbers of operations, and what the neurons' carry costs."""

import math
from dataclasses import astuple, dataclass

from firstspike.models.patches.grid import PatchGrid, cover
from firstspike.models.patches.settings import PatchCarry


@dataclass(frozen=True)
class Operations:
    """Numbers of operations.

    Attributes:
        additions: caused by spikes at their targets.
        multiply_adds: caused at their targets by numbers that are no spikes: the image, an LSTM's states,
            fractional spikes, mean spikes at the head. A 0 causes nothing.
        neuron_additions, neuron_multiplies, neuron_multiply_adds, neuron_functions: of every neuron,
            whether or not anything spikes: the shift that normalisation leaves, the carried membrane and
            its merging, an LSTM's gates. A function is a sine, a cosine or one of the exponential's family.
        dense_multiply_adds: of the ANN of the same layout; products with padding are not counted.
    """

    additions: float = 0.0
    multiply_adds: float = 0.0
    neuron_additions: float = 0.0
    neuron_multiplies: float = 0.0
    neuron_multiply_adds: float = 0.0
    neuron_functions: float = 0.0
    dense_multiply_adds: float = 0.0

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def times(self, factor: float) -> "Operations":
        """Return so many times as much of everything."""
        return Operations(*(value * factor for value in astuple(self)))


def merge_operations(grid: PatchGrid) -> Operations:
    """Return what the mean over overlapping patches takes for one map."""
    return Operations(
        neuron_additions=float(grid.visits - math.prod(grid.shape)),
        neuron_multiplies=float((cover(grid) > 1).sum()),
    )


def carry_operations(neuron: PatchCarry, *, before: bool, patches: bool) -> Operations:
    """Return the operations of one neuron in one patch for the membrane that it carries.

    Args:
        neuron: what is carried.
        before: the previous layer has membranes of the same shape.
        patches: there are several patches.
    """
    patch = patches and neuron.carried in ("both", "patch")
    layer = before and neuron.carried in ("both", "layer")
    if not (patch or layer):
        return Operations()
    # The reset of what is left, and the projection's weight and sum with the current.
    common = Operations(neuron_additions=1, neuron_multiply_adds=1)
    if neuron.projection in ("sine_patch", "sine_layer"):
        if not (patch if neuron.projection == "sine_patch" else layer):
            # Only the cosine's argument is carried; the sine of 0 makes the projection 0.
            return Operations()
        both = patch and layer
        return common + Operations(neuron_multiplies=3 if both else 1, neuron_functions=2 if both else 1)
    functions = 1.0 if neuron.projection in ("sigmoid", "tanh") else 0.0
    return common + Operations(neuron_additions=1.0 if patch and layer else 0.0, neuron_functions=functions)
