"""The fully connected layer with the step synapse: the operations of `firstspike.kernels.if_step`.

Shape legend: B batch, I inputs, O outputs, T number of steps.
"""

from torch import Tensor

from firstspike.kernels.triton import input_gradient as _input
from firstspike.kernels.triton import weight_gradient as _weight
from firstspike.kernels.triton.forward import first_crossings
from firstspike.kernels.triton.lists import sort_spikes


def forward(
    times_BI: Tensor, weight_IO: Tensor, threshold: float, num_steps: int, want_peak: bool
) -> tuple[Tensor, Tensor]:
    """Return first crossings ``(batch, out)`` and peaks, as `firstspike.kernels.if_step.forward`."""
    lists = sort_spikes(times_BI, num_steps)
    return first_crossings(lists, weight_IO.contiguous().unsqueeze(0), threshold, num_steps, want_peak)


def weight_gradient(
    times_BI: Tensor, crossing_BO: Tensor, delta_BO: Tensor, num_steps: int, decay: float
) -> Tensor:
    """Return ``dL/dw`` ``(in, out)``, as `firstspike.kernels.if_step.weight_gradient`."""
    crossing, delta = (values.contiguous().unsqueeze(1) for values in (crossing_BO, delta_BO))
    return _weight.weight_gradient(times_BI, crossing, delta, num_steps, decay)


def input_gradient(
    times_BI: Tensor,
    weight_IO: Tensor,
    crossing_BO: Tensor,
    delta_BO: Tensor,
    num_steps: int,
    decay: float,
) -> Tensor:
    """Return ``dL/dt_i`` ``(batch, in)``, as `firstspike.kernels.if_step.input_gradient`."""
    lists = sort_spikes(times_BI, num_steps)
    weight = weight_IO.contiguous().unsqueeze(0)
    return _input.input_gradient(
        lists, weight, crossing_BO.contiguous(), delta_BO.contiguous(), num_steps, decay
    )
