"""The causal kernels of a device, behind one set of names: Numba on the CPU, Triton on CUDA.

Tensors in, tensors out, on the device they came from; contiguous where a kernel asks for it. An operation
has the same name, arguments and result on every device; the modules of `firstspike.kernels.cpu` describe
them.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """The operations of one device.

    Attributes:
        linear: `forward`, `weight_gradient`, `input_gradient` of `firstspike.kernels.cpu.linear`.
        levels: `forward`, `membrane_gradient`, `weight_gradient` of `firstspike.kernels.cpu.levels`.
        conv2d: `forward`, `weight_gradient`, `input_gradient` of `firstspike.kernels.cpu.conv2d`.
    """

    linear: SimpleNamespace | ModuleType
    levels: SimpleNamespace | ModuleType
    conv2d: SimpleNamespace | ModuleType


def common_device(**tensors: Tensor | None) -> torch.device:
    """Return the one device that the named tensors lie on; None stands for an argument left out.

    Raises:
        ValueError: they lie on several devices.
    """
    places = {name: values.device for name, values in tensors.items() if values is not None}
    if len(set(places.values())) > 1:
        found = ", ".join(f"{name} on {device}" for name, device in places.items())
        raise ValueError(f"expected all tensors on one device, found {found}; move them with .to(device)")
    return next(iter(places.values()))


def kernels_for(device: torch.device) -> Kernels:
    """Return the kernels that compute on `device`.

    Raises:
        ImportError: it is a CUDA device and Triton is not installed.
        ValueError: there are no kernels for that type of device.
    """
    if device.type not in _DEVICES:
        raise ValueError(
            f"causal layers compute on {' or '.join(_DEVICES)}, found device {device}; move tensors to one"
        )
    return _load(device.type)


@functools.cache
def _load(kind: str) -> Kernels:
    if kind == "cpu":
        from firstspike.kernels.cpu import conv2d, levels, linear

        return Kernels(
            linear=_on_tensors(linear, "forward", "forward_integers", "weight_gradient", "input_gradient"),
            levels=_on_tensors(levels, "forward", "membrane_gradient", "weight_gradient"),
            conv2d=_on_tensors(conv2d, "forward", "weight_gradient", "input_gradient"),
        )
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "causal layers on a CUDA device need Triton; install it with pip install 'firstspike[cuda]'"
        ) from error
    from firstspike.kernels.cuda import conv2d as conv2d_cuda
    from firstspike.kernels.cuda import levels as levels_cuda
    from firstspike.kernels.cuda import linear as linear_cuda

    return Kernels(linear=linear_cuda, levels=levels_cuda, conv2d=conv2d_cuda)


def _on_tensors(module: ModuleType, *names: str) -> SimpleNamespace:
    """Return functions of `module` that take and give tensors; memory is shared, not copied."""
    return SimpleNamespace(**{name: _on_tensor(getattr(module, name)) for name in names})


def _on_tensor(kernel: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(kernel)
    def call(*arguments: Any) -> Any:
        return _to_tensor(kernel(*(_to_array(argument) for argument in arguments)))

    return call


def _to_array(value: Any) -> Any:
    return value.detach().numpy() if isinstance(value, Tensor) else value


def _to_tensor(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_to_tensor(part) for part in value)
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
