"""The fully connected layer with the step synapse: the operations of `firstspike.kernels.cpu.linear`.

Shape legend: B batch, I inputs, O outputs, T number of steps.
"""

from torch import Tensor

from firstspike.kernels.cuda import input_gradient as _input
from firstspike.kernels.cuda import weight_gradient as _weight
from firstspike.kernels.cuda.forward import first_crossings
from firstspike.kernels.cuda.lists import sort_spikes


def forward(times_BI: Tensor, rows_IO: Tensor, threshold: float, num_steps: int) -> Tensor:
    """Return first crossings ``(batch, out)``, as `firstspike.kernels.cpu.linear.forward`."""
    lists = sort_spikes(times_BI, num_steps)
    return first_crossings(lists, rows_IO.contiguous().unsqueeze(0), threshold, num_steps)


def weight_gradient(times_BI: Tensor, crossing_BO: Tensor, delta_BO: Tensor, num_steps: int) -> Tensor:
    """Return ``dL/dw`` ``(in, out)``, as `firstspike.kernels.cpu.linear.weight_gradient`."""
    crossing, delta = (values.contiguous().unsqueeze(1) for values in (crossing_BO, delta_BO))
    return _weight.weight_gradient(times_BI, crossing, delta, num_steps)


def input_gradient(
    times_BI: Tensor, rows_IO: Tensor, crossing_BO: Tensor, delta_BO: Tensor, num_steps: int
) -> Tensor:
    """Return ``dL/dt_i`` ``(batch, in)``, as `firstspike.kernels.cpu.linear.input_gradient`."""
    lists = sort_spikes(times_BI, num_steps)
    rows = rows_IO.contiguous().unsqueeze(0)
    return _input.input_gradient(lists, rows, crossing_BO.contiguous(), delta_BO.contiguous())
