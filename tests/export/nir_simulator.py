"""A plain simulator of NIR graphs, step by step, as readers that know connections back run them."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

Fires = Callable[[Any, Any], Any]
# How a reader may compare and reset: NIR's own rule, SpikingJelly's, and one that subtracts the threshold.
READERS: dict[str, tuple[Fires, str]] = {
    "above, to zero": (operator.gt, "zero"),
    "at, to zero": (operator.ge, "zero"),
    "above, subtracting": (operator.gt, "subtract"),
    "at, subtracting": (operator.ge, "subtract"),
}


def simulate(graph: Any, raster: np.ndarray, reader: str) -> dict[str, np.ndarray]:
    """Return the spikes ``(steps, batch, ...)`` of each IF node, for those of the input.

    What comes back to a node from one that is computed after it is from the step before.
    """
    fires, reset = READERS[reader]
    before: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for start, end in graph.edges:
        before[end].append(start)
    membranes: dict[str, Any] = {}
    given: dict[str, Any] = {}
    delayed: dict[str, list[Any]] = {}
    fired: dict[str, list[np.ndarray]] = {}
    for step in raster:
        now: dict[str, Any] = {}
        for name in _order(graph, before):
            node, kind = graph.nodes[name], type(graph.nodes[name]).__name__
            total = sum(now.get(one, given.get(one, 0.0)) for one in before[name])
            if kind == "Input":
                now[name] = step.astype(np.float32)
            elif kind == "IF":
                membrane = membranes.get(name, 0.0) + node.r * total
                spikes = fires(membrane, node.v_threshold)
                left = node.v_reset if reset == "zero" else membrane - node.v_threshold
                membranes[name] = np.where(spikes, left, membrane)
                fired.setdefault(name, []).append(spikes)
                now[name] = spikes.astype(np.float32)
            elif kind == "Delay":
                line = delayed.setdefault(name, [np.zeros_like(total)] * int(node.delay.flat[0]))
                line.append(total)
                now[name] = line.pop(0)
            else:
                now[name] = _linear(kind, node, torch.from_numpy(np.asarray(total))).numpy()
        given = now
    return {name: np.stack(parts) for name, parts in fired.items()}


def first_times(spikes: np.ndarray) -> np.ndarray:
    """Return the step of each neuron's first spike, the number of steps where there is none."""
    return np.where(spikes.any(0), spikes.argmax(0), len(spikes))


def _order(graph: Any, before: dict[str, list[str]]) -> list[str]:
    """Nodes after what they take, inhibitions last."""
    order: list[str] = []
    waiting = [name for name in graph.nodes if not name.startswith("inhibition")]
    while waiting:
        name = next(n for n in waiting if all(one in order or "inhibition" in one for one in before[n]))
        order.append(name)
        waiting.remove(name)
    return order + [name for name in graph.nodes if name.startswith("inhibition")]


def _linear(kind: str, node: Any, x: torch.Tensor) -> torch.Tensor:
    if kind == "Affine":
        return F.linear(x, torch.from_numpy(node.weight), torch.from_numpy(node.bias))
    if kind == "Conv2d":
        weight, bias = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
        return F.conv2d(x, weight, bias, stride=node.stride, padding=node.padding)
    if kind == "SumPool2d":
        kernel, stride, padding = (
            tuple(map(int, getattr(node, key))) for key in ("kernel_size", "stride", "padding")
        )
        return F.avg_pool2d(x, kernel, stride, padding, divisor_override=1)
    return x.flatten(1) if kind == "Flatten" else x
