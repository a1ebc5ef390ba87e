"""The energy of every operation that a one-step network takes."""

from firstspike.metrics.cost import ADD_PJ, MULTIPLY_ADD_PJ
from firstspike.models.patches.operations import Operations

# 45 nm, 0.9 V: M. Horowitz, "Computing's energy problem", ISSCC 2014.
MULTIPLY_PJ = 3.7
# A sine, exponential or the like as an odd polynomial of degree 9 in five multiply-adds; our own figure.
FUNCTION_PJ = 5 * MULTIPLY_ADD_PJ


def inputs_pj(operations: Operations) -> float:
    """Return the energy of what inputs cause, which is what papers count."""
    return operations.additions * ADD_PJ + operations.multiply_adds * MULTIPLY_ADD_PJ


def energy_pj(operations: Operations) -> float:
    """Return the energy of every operation."""
    return (
        inputs_pj(operations)
        + operations.neuron_additions * ADD_PJ
        + operations.neuron_multiplies * MULTIPLY_PJ
        + operations.neuron_multiply_adds * MULTIPLY_ADD_PJ
        + operations.neuron_functions * FUNCTION_PJ
    )
