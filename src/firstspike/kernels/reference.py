"""Step-by-step simulators in plain PyTorch: the meaning of each neuron, and the tests' oracle.

Slow on purpose. Each walks through the steps of the window and applies the neuron's update as it is
written, so that it can be read against the papers.

Shape legend: B batch, I inputs, O outputs.
"""

import torch
from torch import Tensor

from firstspike.neurons import Causal, Phased, Window
from firstspike.spikes import times_to_raster


def simulate_causal(times_BI: Tensor, weight_OI: Tensor, num_steps: int, neuron: Causal) -> Tensor:
    """Return the spike times of non-leaky integrate-and-fire neurons, stepped one by one.

    Spiking-GAN Eqs. 1-2: the membrane sums the weights of arriving spikes (step synapse) or the
    currents they started (ramp synapse); at threshold the neuron fires, resets to 0 and is clamped
    there for ``t_ref = num_steps`` steps, so it fires at most once.

    Weights of one step are added in input order in the weights' own precision, which makes the
    result the same to the last bit as the event-driven kernel's.

    Args:
        times_BI: whole steps ``(batch, in_features)``.
        weight_OI: ``(out_features, in_features)``.
        num_steps: ``T``.
        neuron: threshold, synapse, strictness and delay.

    Returns:
        float32 ``(batch, out_features)``.
    """
    raster = times_to_raster(times_BI, num_steps).to(torch.bool)
    shape = (times_BI.shape[0], weight_OI.shape[0])
    membrane = torch.zeros(shape, dtype=weight_OI.dtype)
    current = torch.zeros(shape, dtype=weight_OI.dtype)
    refractory = torch.zeros(shape, dtype=torch.int64)
    out = torch.full(shape, float(num_steps))
    for t in range(num_steps):
        if neuron.synapse == "ramp":
            membrane = membrane + current
        arriving = raster[t]
        for i in arriving.any(0).nonzero().flatten().tolist():
            drive = torch.where(arriving[:, i : i + 1], weight_OI[:, i], 0.0)
            if neuron.synapse == "ramp":
                current = current + drive
            else:
                membrane = membrane + drive
        crosses = membrane > neuron.threshold if neuron.strict else membrane >= neuron.threshold
        fires = crosses & (refractory == 0)
        out = torch.where(fires, float(min(t + neuron.delay, num_steps)), out)
        refractory = torch.where(fires, num_steps, refractory)
        membrane = torch.where(refractory > 0, 0.0, membrane)
    return out


def simulate_causal_conv2d(
    times_BCHW: Tensor,
    weight: Tensor,
    num_steps: int,
    neuron: Causal,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> Tensor:
    """Return the spike times of a convolution of causal neurons, stepped one by one.

    Each neuron is a fully connected one on its patch of the inputs. Weights of one step are added in the
    order of (channel, ky, kx).

    Args:
        times_BCHW: whole steps ``(batch, in_channels, in_y, in_x)``.
        weight: ``(out_channels, in_channels / groups, kernel_y, kernel_x)``.
        num_steps: ``T``.
        neuron: threshold, synapse, strictness and delay.
        stride, padding: in inputs, ``(y, x)``; padded inputs are silent.
        groups: parts of the channels that do not hear each other.

    Returns:
        float32 ``(batch, out_channels, out_y, out_x)``.
    """
    (pad_y, pad_x), kernel = padding, (weight.shape[2], weight.shape[3])
    framed = torch.nn.functional.pad(
        times_BCHW.to(torch.float32), (pad_x, pad_x, pad_y, pad_y), value=float(num_steps)
    )
    sizes = [(n - k) // s + 1 for n, k, s in zip(framed.shape[2:], kernel, stride, strict=True)]
    out = []
    for times, kernels in zip(framed.chunk(groups, 1), weight.chunk(groups), strict=True):
        # (batch, channel x ky x kx, positions) to one row of inputs per neuron's position.
        patches = torch.nn.functional.unfold(times, kernel, stride=stride).transpose(1, 2)
        fired = simulate_causal(patches.flatten(0, 1), kernels.flatten(1), num_steps, neuron)
        out.append(fired.unflatten(0, (len(framed), -1)).transpose(1, 2).unflatten(2, sizes))
    return torch.cat(out, 1)


def simulate_phased(
    times_BI: Tensor, currents_OI: Tensor, threshold_O: Tensor, num_steps: int, neuron: Phased
) -> Tensor:
    """Return the spike times of phased neurons, stepped one by one.

    Args:
        times_BI: whole steps ``(batch, in_features)``.
        currents_OI: current that an input spike starts ``(out_features, in_features)``.
        threshold_O: ``(out_features,)``; the drive is one unit per step.
        num_steps: ``T``.
        neuron: its phases.

    Returns:
        float32 ``(batch, out_features)``.
    """
    raster = times_to_raster(times_BI, num_steps).to(currents_OI.dtype)
    membrane = torch.zeros(times_BI.shape[0], currents_OI.shape[0], dtype=currents_OI.dtype)
    current = torch.zeros_like(membrane)
    out = torch.full(membrane.shape, float(num_steps))
    fired = torch.zeros_like(out, dtype=torch.bool)
    for t in range(neuron.target[1]):
        if t > 0:
            membrane = membrane + 1 + current
        fires = (membrane >= threshold_O) & ~fired
        out = torch.where(fires, float(t), out)
        fired = fired | fires
        heard = t < neuron.source[1]
        current = current + raster[t] @ currents_OI.T if heard else torch.zeros_like(current)
    return out


def simulate_window(
    times_BI: Tensor, weight_OI: Tensor, bias_O: Tensor | None, num_steps: int, neuron: Window
) -> Tensor:
    """Return the spike times of window neurons, stepped through both of their windows.

    In the input window an input spike starts a constant current that lasts to the window's end. In
    the neuron's own window a constant drive of one unit per step carries the membrane to threshold.

    Args:
        times_BI: local steps ``(batch, in_features)`` of the input window.
        weight_OI: ``(out_features, in_features)``.
        bias_O: ``(out_features,)`` or None.
        num_steps: length of the input window.
        neuron: ranges and the length of the output window.

    Returns:
        float32 ``(batch, out_features)``, local steps of the output window.
    """
    raster = times_to_raster(times_BI, num_steps).to(weight_OI.dtype)
    out_steps = neuron.out_steps_for(num_steps)
    span = neuron.input_high - neuron.input_low
    unit = (neuron.high - neuron.low) / out_steps
    resting = neuron.input_low * weight_OI.sum(1) - neuron.low
    if bias_O is not None:
        resting = resting + bias_O
    membrane = (resting / unit).expand(times_BI.shape[0], -1).clone()
    current = torch.zeros_like(membrane)
    for t in range(num_steps):
        current = current + raster[t] @ weight_OI.T * (span / num_steps / unit)
        membrane = membrane + current
    out = torch.full(membrane.shape, float(out_steps))
    fired = torch.zeros_like(out, dtype=torch.bool)
    for t in range(out_steps):
        fires = (membrane + t >= out_steps) & ~fired
        out = torch.where(fires, float(t), out)
        fired = fired | fires
    return out
