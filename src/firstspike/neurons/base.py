"""What a neuron is: the questions that a neuron answers for itself."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from firstspike.codes import decode_latency, encode_latency
from firstspike.spikes import Spikes
from firstspike.support import check_choice, check_dataclass

_LARGEST = sys.float_info.max


class Wiring(Protocol):
    """Which input reaches which neuron; `firstspike.nn.wiring` has the dense and convolutional ones."""

    kind: ClassVar[str]

    def apply(self, values: Tensor, weight: Tensor, bias: Tensor | None, silent: float) -> Tensor: ...


class EventWiring(Wiring, Protocol):
    """One with event kernels for neurons that sum weights: dense and convolutional, not transposed."""

    def crossings(self, times: Tensor, weight: Tensor, threshold: float, steps: int) -> Tensor: ...

    def gradients(
        self,
        times: Tensor,
        weight: Tensor,
        crossing: Tensor,
        delta: Tensor,
        steps: int,
        *,
        for_times: bool,
        for_weight: bool,
    ) -> tuple[Tensor | None, Tensor | None]: ...

    def with_clock(
        self, times: Tensor, weight: Tensor, bias: Tensor, steps: int
    ) -> "tuple[EventWiring, Tensor, Tensor]": ...

    def patches(self, times: Tensor, weight: Tensor, silent: float) -> list[tuple[Tensor, Tensor]]: ...

    def from_patches(self, parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Synapses:
    """Weights and bias, and which input reaches which neuron: what a neuron is connected by.

    Calling it is linear algebra: ``connection(values)`` returns ``b + W x``, whatever the wiring.

    Attributes:
        wiring: dense or convolutional.
        weight: as the wiring shapes it.
        bias: per neuron, of maps one per map; or None.
    """

    wiring: Wiring
    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, values: Tensor, *, silent: float = 0.0, bias: int = 1) -> Tensor:
        """Return ``b + W x`` for values ``(batch, ...)`` of the inputs.

        Args:
            values: of the inputs, as the wiring takes them.
            silent: value of an input beyond a map's edge.
            bias: how often the bias is added.
        """
        added = None if self.bias is None or bias == 0 else self.bias if bias == 1 else self.bias * bias
        return self.wiring.apply(values, self.weight, added, silent)


@dataclass(frozen=True, kw_only=True)
class Events:
    """A neuron as the event engine runs it: a membrane that sums weights, and a threshold.

    Attributes:
        threshold: membrane at which it fires.
        strict: fire above the threshold only.
        delay: steps from crossing to output spike.
    """

    threshold: float
    strict: bool
    delay: int


@dataclass(frozen=True, kw_only=True)
class Quantiser:
    """A neuron that reads its inputs' values and fires at a level of its own: ``Window``'s, in numbers.

    Attributes:
        low, high: membranes that mean silent and step 0; a level is their share of the neuron's window.
        input_low, input_high: values of a silent input and of one at step 0.
    """

    low: float
    high: float
    input_low: float
    input_high: float


@dataclass(frozen=True, kw_only=True)
class Neuron(ABC):
    """A neuron model as a value that a layer carries: frozen, comparable, written to a run's configuration.

    Subclass it as a frozen, keyword-only dataclass, in this package or in your own file, and answer
    `membrane` and `fire`; the other questions have answers that fit a neuron which fires in the window of
    its inputs. Without both it cannot be made: TypeError.

    >>> from dataclasses import dataclass
    >>> import torch, firstspike as fs
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Doubling(fs.Neuron):
    ...     threshold: float = 1.0
    ...     def membrane(self, connection, spikes):
    ...         return connection(2.0 ** -spikes.times)
    ...     def fire(self, connection, spikes):
    ...         drive = self.membrane(connection, spikes).clamp(min=1e-3)
    ...         times = (self.threshold / drive).clamp(0, spikes.steps)
    ...         return fs.Spikes(fs.round_ste(times), spikes.steps)
    >>> fs.Linear(3, 2, Doubling())(fs.Spikes([[0, 1, 4]], steps=4)).shape
    torch.Size([1, 2])
    """

    # Whether a layer of it has a bias unless told otherwise.
    has_bias: ClassVar[bool] = True
    # Whether its kernels read the weights input by input: a layer then keeps an input's weights together.
    by_input: ClassVar[bool] = False

    @abstractmethod
    def membrane(self, connection: Synapses, spikes: Spikes) -> Tensor:
        """Return what the connection contributes to the membrane that decides whether and when to fire."""

    @abstractmethod
    def fire(self, connection: Synapses, spikes: Spikes) -> Spikes:
        """Return the spikes of a layer of these neurons behind `connection`."""

    def read(self, connection: Synapses, spikes: Spikes) -> tuple[Spikes, Tensor]:
        """Return spikes and membrane together."""
        return self.fire(connection, spikes), self.membrane(connection, spikes)

    def read_all(self, inputs: Sequence[tuple[Synapses, Spikes]]) -> tuple[Spikes, Tensor]:
        """Return spikes and membrane of a layer with several connections, whose membranes add up.

        Raises:
            ValueError: the neuron takes one connection only.
        """
        _one_connection(self, inputs)
        return self.read(*inputs[0])

    def scale(self) -> float:
        """Return the factor of initial weights, uniform in ``+- scale / sqrt(fan-in)`` about their mean."""
        return 1.0

    def drive(self) -> float:
        """Return what a neuron's initial weights add up to on average; their mean is that by the fan-in."""
        return 0.0

    def any_window(self) -> bool:
        """Return whether weights that were learnt in one window hold in windows of other lengths."""
        return False

    def check(self, connection: Synapses) -> None:
        """Raise ValueError if the neuron does not work behind this connection."""

    def check_all(self, connections: Sequence[Synapses]) -> None:
        """Raise ValueError if the neuron does not work behind these together; see `read_all`."""
        _one_connection(self, connections)

    def follow(self, before: "Neuron") -> None:
        """Raise ValueError if the neuron cannot read the spikes of the layer `before`."""

    def check_steps(self, steps: int) -> None:
        """Raise ValueError if the neuron cannot read an input window of `steps`."""

    def out_steps(self, steps: int) -> int:
        """Return the length of the window in which the neuron fires, for an input window of `steps`."""
        return steps

    def waits(self, steps: int) -> int:
        """Return the first step of the neuron's window, counted from that of its input."""
        return 0

    def earliest(self) -> int:
        """Return the first step of its window at which the neuron is asked to fire."""
        return 0

    def ends(self, steps: int) -> int:
        """Return the step of its window after which the neuron does not fire any more."""
        return self.out_steps(steps)

    @property
    def bias_is_current(self) -> bool:
        """Whether a bias is added at every step, instead of once."""
        return False

    def additions(self, steps: int, *, biased: bool) -> int:
        """Return the additions per sample that its membrane needs without any spike."""
        return 0

    def simulate(self, connection: Synapses, spikes: Spikes) -> Spikes:
        """Return the spikes of a walk through the steps in plain PyTorch: the neuron's meaning.

        Slow on purpose; `fire` must give the same times. Tests and reports compare the two.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step-by-step simulation")

    def simulate_all(self, inputs: Sequence[tuple[Synapses, Spikes]]) -> Spikes:
        """Return the spikes of such a walk with several connections, as `read_all` takes them."""
        _one_connection(self, inputs)
        return self.simulate(*inputs[0])

    def events(self) -> Events | None:
        """Return how the event engine runs the neuron; None if it cannot."""
        return None

    def quantiser(self) -> Quantiser | None:
        """Return how the membrane at the input window's end becomes a level; None if it does not."""
        return None

    def encode(self, images: Any, steps: int) -> Spikes:
        """Return intensities as the input spikes that the neuron reads, see `encode_latency`."""
        return encode_latency(images, steps)

    def decode(self, spikes: Spikes) -> Tensor:
        """Return the intensities 0 ... 1 that the neuron's own spikes stand for, floating point."""
        return decode_latency(spikes)

    def admit(self, spikes: Spikes) -> Spikes:
        """Return input spikes as a sensor hands them over; those that come too early are held back."""
        return spikes


def _one_connection(neuron: Neuron, connections: Sequence[Any]) -> None:
    if len(connections) != 1:
        raise ValueError(f"{type(neuron).__name__} neurons take one connection, found {len(connections)}")


def check_field(neuron: Neuron, field: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError if a field of `neuron` is not one of `choices`."""
    check_choice(type(neuron).__name__, field, getattr(neuron, field), choices)


def check_neuron(value: Any) -> None:
    """Raise TypeError if `value` is no `Neuron`, or fields of its class are lost."""
    if not isinstance(value, Neuron):
        raise TypeError(
            f"neuron must be a firstspike.Neuron such as Window(), found {value!r}; the number of time "
            "steps belongs to Spikes and Stack"
        )
    check_dataclass(value)


def check_fired(neuron: Neuron, out: Any, shape: tuple[int, ...], steps: int) -> Spikes:
    """Return what `neuron` fired after a look at its form: a neuron may be a user's own.

    Args:
        neuron: whose `fire` gave it.
        out: what it gave.
        shape: expected, ``(batch, ...)``.
        steps: of its input.

    Raises:
        TypeError: no `Spikes`.
        ValueError: another shape, or a window of another length than `out_steps` says.
    """
    name = f"{type(neuron).__name__}.fire"
    if not isinstance(out, Spikes):
        raise TypeError(f"{name} must return Spikes(times, steps), found {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(
            f"{name} must return spikes {shape}, as connection(values) is shaped, found {tuple(out.shape)}"
        )
    if out.steps != neuron.out_steps(steps):
        raise ValueError(
            f"{name} must return spikes of out_steps({steps}) = {neuron.out_steps(steps)} steps, found "
            f"{out.steps}"
        )
    return out


def check_read(spikes: Spikes, *weights: Tensor) -> None:
    """Raise ValueError for what a kernel must not read: times that are none, weights that are not finite.

    Such weights would neither fire nor fail. Times come from layers, which are trusted, but a layer whose
    weights are NaN gives NaN.
    """
    if not all(_within(weight, -_LARGEST, _LARGEST) for weight in weights):
        raise ValueError("weights or biases hold NaN or infinity; did the training diverge?")
    if not _within(spikes.times, 0, spikes.steps):
        Spikes(spikes.times, spikes.steps)


def _within(values: Tensor, low: float, high: float) -> bool:
    """Return whether all values are; NaN is not. The extremes take an eighth of the time of `isfinite`."""
    if not values.numel():
        return True
    least, largest = torch.stack(torch.aminmax(values.detach())).tolist()
    return bool(least >= low and largest <= high)


def check_on_cpu(neuron: Neuron, *tensors: Tensor) -> None:
    """Raise ValueError for tensors that a neuron whose kernels are the CPU's only cannot read."""
    for tensor in tensors:
        if tensor.device.type != "cpu":
            raise ValueError(
                f"{type(neuron).__name__} neurons compute on the CPU, found a tensor on {tensor.device}; "
                "move network and spikes there"
            )


def once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Return the backward of a function that has no second derivative, which refuses ``create_graph=True``.

    Spike times are step functions whose first derivative is a rule; there is no rule for the second.
    ``torch.autograd.function.once_differentiable`` would answer 0 where weights were differentiated again.
    """

    def checked(ctx: FunctionCtx, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "spike times have a rule for their first derivative only; leave create_graph=True out"
            )
        return backward(ctx, *grads)

    return checked


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        return torch.round(values)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:
        return grads[0]


def round_ste(values: Tensor) -> Tensor:
    """Return `values` rounded to integers; the gradient passes straight through."""
    rounded: Tensor = _Round.apply(values)
    return rounded
