"""The fully connected layer, for every neuron model."""

import torch
from torch import Tensor

from firstspike.functional import (
    causal_linear,
    causal_membrane,
    phased_linear,
    phased_membrane,
    window_fire,
    window_membrane,
)
from firstspike.neurons import Causal, Neuron, Phased, Window
from firstspike.nn.geometry import Shape, check_features
from firstspike.nn.start import check_bias, with_bias
from firstspike.spikes import check_num_steps


class Linear(torch.nn.Module):
    """Spike times in, spike times out, through one fully connected layer of single-spike neurons.

    The neuron model is a field: `Causal` fires on the clock of its inputs, `Window` in the window
    after it, `Phased` in its phase of one clock.

    Args:
        in_features, out_features: sizes.
        num_steps: length of the input window in steps.
        neuron: `Causal`, `Window` or `Phased`.
        bias: learn a bias; of causal neurons with the step synapse it is the membrane before the first
            input, and a neuron whose start reaches the threshold fires at step 0.
        constant: the bias of causal neurons is a constant current, added at every step instead.
        dropout: during training each input is cut off with this probability and the other weights are
            scaled by ``1 / (1 - dropout)``, so that the mean drive stays if silence stands for the
            value 0. A cut input is silent to this layer only.
        generator: source of the initial weights; torch's global one by default.

    Weights start uniform in ``+- 1/sqrt(in_features)``, scaled by the threshold for causal neurons.
    They are kept with contiguous columns, because an input spike reads one.

    Raises:
        ValueError: a bias with the ramp synapse, a size below 1, a dropout outside [0, 1).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_steps: int,
        neuron: Neuron,
        *,
        bias: bool = False,
        constant: bool = False,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"sizes must be 1 or more, found {in_features} and {out_features}")
        check_bias(bias, constant, neuron)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), found {dropout}")
        self.in_features, self.out_features = in_features, out_features
        self.num_steps = check_num_steps(num_steps)
        self.neuron = neuron
        self.bias_steps = num_steps if constant else 1
        self.dropout = dropout
        bound = in_features**-0.5
        if isinstance(neuron, Causal):
            bound *= neuron.threshold
        columns = torch.empty(in_features, out_features).uniform_(-bound, bound, generator=generator)
        self.weight = torch.nn.Parameter(columns.t())
        self.bias = (
            torch.nn.Parameter(torch.empty(out_features).uniform_(-bound, bound, generator=generator))
            if bias
            else None
        )

    @property
    def out_steps(self) -> int:
        """Length in steps of the window in which this layer fires."""
        return self.neuron.out_steps_for(self.num_steps)

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of a sample's output for inputs of `shape`; ValueError if they do not fit."""
        check_features(shape, self.in_features)
        return (self.out_features,)

    def fan_out(self, shape: Shape) -> Tensor:
        """Return how many neurons hear each input: all, float32, one number for every place of `shape`."""
        self.out_shape(shape)
        return torch.tensor(float(self.out_features))

    def forward(self, times: Tensor) -> Tensor:
        """Return spike times ``(batch, out_features)`` for times ``(batch, in_features)``."""
        weight, times = self._drop(times)
        if isinstance(self.neuron, Window):
            return window_fire(self._membrane(times, weight), self.out_steps, self.neuron)
        return self._fire(times, weight)

    def membrane(self, times: Tensor) -> Tensor:
        """Return the membrane ``(batch, out_features)`` that decides whether and when to fire.

        Window and phased: the potential ``u`` at the end of the inputs. Causal: the membrane at the last
        step, without reset.
        """
        weight, times = self._drop(times)
        return self._membrane(times, weight)

    def read(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return spike times and membrane together, each ``(batch, out_features)``."""
        weight, times = self._drop(times)
        membrane = self._membrane(times, weight)
        if isinstance(self.neuron, Window):
            return window_fire(membrane, self.out_steps, self.neuron), membrane
        return self._fire(times, weight), membrane

    def _fire(self, times: Tensor, weight: Tensor) -> Tensor:
        if isinstance(self.neuron, Phased):
            return phased_linear(times, weight, self.bias, self.num_steps, self.neuron)
        assert isinstance(self.neuron, Causal)
        if self.bias is not None:
            times, weight = with_bias(times, weight, self.bias, self.num_steps, self.bias_steps)
        return causal_linear(times, weight, self.num_steps, self.neuron)

    def _membrane(self, times: Tensor, weight: Tensor) -> Tensor:
        if isinstance(self.neuron, Window):
            return window_membrane(times, weight, self.bias, self.num_steps, self.neuron)
        if isinstance(self.neuron, Phased):
            return phased_membrane(times, weight, self.bias, self.num_steps, self.neuron)
        membrane = causal_membrane(times, weight, self.num_steps, self.neuron)
        return membrane if self.bias is None else membrane + self.bias * self.bias_steps

    def _drop(self, times: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training or self.dropout == 0:
            return self.weight, times
        kept = torch.rand(times.shape, device=times.device) >= self.dropout
        return self.weight / (1 - self.dropout), torch.where(kept, times, float(self.num_steps))

    def extra_repr(self) -> str:
        """Return the sizes and the neuron, for printing."""
        return f"{self.in_features}, {self.out_features}, num_steps={self.num_steps}, {self.neuron}"
