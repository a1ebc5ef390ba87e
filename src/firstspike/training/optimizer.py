"""Modules and optimisers to a run's tensors and back."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor


def module_tensors(modules: Mapping[str, torch.nn.Module]) -> dict[str, Tensor]:
    """Return the weights of several modules as tensors named ``module/parameter``."""
    return {
        f"{name}/{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def tensors_under(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors named ``name/...``, without that prefix."""
    return {key.removeprefix(f"{name}/"): t for key, t in tensors.items() if key.startswith(f"{name}/")}


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Return the state of `optimizer` as tensors named ``prefix/parameter/quantity``."""
    return {
        f"{prefix}/{index}/{name}": value
        for index, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
        if isinstance(value, Tensor)
    }


def expected_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Return tensors of the names and shapes of `optimizer_tensors` once every parameter was stepped."""
    stepped = copy.deepcopy(optimizer)
    for group in stepped.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    stepped.step()
    return optimizer_tensors(stepped, prefix)


def of_stepped(expected: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what is expected of the parameters of which `there` holds anything; of all if of none.

    A parameter that is frozen or unused is not stepped, and has no state.
    """
    stepped = {name.rpartition("/")[0] for name in there}
    chosen = {name: tensor for name, tensor in expected.items() if name.rpartition("/")[0] in stepped}
    return chosen or dict(expected)


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Fill `optimizer` with what `optimizer_tensors` returned."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors_under(tensors, prefix).items():
        index, quantity = name.split("/")
        like = parameters[int(index)]
        # The moments take the parameter's memory layout, as the optimiser makes them itself.
        fitted = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(index), {})[quantity] = fitted
    document = optimizer.state_dict()
    document["state"] = state
    optimizer.load_state_dict(document)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group: `rate` times its ``rate_scale``, if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_scale", 1.0)


def decay_within(steps: int, decay: float) -> float:
    """Return the decay of an average over a training of `steps` steps, `decay` unless these are few.

    Lowered to ``1 - 4 / steps``, it leaves less than 2 % of the untrained weights in the average.
    """
    return min(decay, 1 - 4 / max(steps, 4))


@torch.no_grad()
def update_average(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    """Move the weights of `average` towards `model`: ``average = decay average + (1 - decay) model``.

    Buffers, which are averages already, are copied.
    """
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for own, other in zip(average.buffers(), model.buffers(), strict=True):
        own.copy_(other)
