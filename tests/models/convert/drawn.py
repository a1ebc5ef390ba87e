"""Networks of drawn layers with drawn normalisations, and a plain twin of what they are converted into."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstspike import EarliestPool2d, Layer, Spikes, Stack
from firstspike.nn.wiring import Convolution, TransposedConvolution


class Joined(nn.Module):
    """Branches whose results are added or concatenated."""

    def __init__(self, *branches: nn.Module, add: bool) -> None:
        super().__init__()
        self.branches, self.add = nn.ModuleList(branches), add

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum, or the channels one after the other."""
        results = [branch(x) for branch in self.branches]
        return sum(results[1:], results[0]) if self.add else torch.cat(results, 1)


def settle(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Return the network with every weight and statistic drawn, in evaluation mode."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                size = module.num_features
                module.running_mean.copy_(torch.randn(size, generator=generator) * 0.2)
                module.running_var.copy_(torch.rand(size, generator=generator) + 0.3)
                module.weight.copy_(torch.rand(size, generator=generator) + 0.5)
                module.bias.copy_(torch.randn(size, generator=generator) * 0.2 + 0.1)
            elif isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
                fan_in = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) / fan_in**0.5)
                if module.bias is not None:
                    module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.1)
    return network.eval()


def twin(stack: Stack, spikes: Spikes) -> list[Tensor]:
    """Return the levels of the input and of every layer, computed as a plain quantised network.

    A value is an integer of levels, a layer a sum of torch's own operations in double precision, an
    activation a clamp and a floor: there are no spikes and no times in it.
    """
    levels = [(spikes.steps - spikes.times).double()]
    for layer, sources in zip(stack, stack.sources, strict=True):
        inputs = [levels[source] for source in sources]
        if isinstance(layer, EarliestPool2d):
            levels.append(F.max_pool2d(inputs[0], layer.kernel_size, layer.stride, layer.padding))
            continue
        assert isinstance(layer, Layer)
        total = sum(
            _applied(one, values) for one, values in zip((layer, *layer.shortcuts), inputs, strict=True)
        )
        assert isinstance(total, Tensor)
        assert layer.bias is not None
        bias = layer.bias.double()
        places = total.dim() - 1 - bias.dim()
        total = total + bias.reshape(*bias.shape, *([1] * places))
        levels.append(torch.floor(total.clamp(0, layer.neuron.out_steps(stack.steps))))
    return levels


def _applied(connection, values: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    wiring, weight = connection.wiring, connection.weight.double()
    if isinstance(wiring, Convolution):
        return F.conv2d(values, weight, None, wiring.stride, wiring.padding, 1, wiring.groups)
    if isinstance(wiring, TransposedConvolution):
        return F.conv_transpose2d(values, weight, None, wiring.stride, wiring.padding, 0, wiring.groups)
    return F.linear(values.flatten(1), weight)
