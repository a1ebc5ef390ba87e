"""One reader of NIR files, run by the Python of ``make nir-env``: what it fires.

    python benchmarks/nir_reader.py READER NET.nir INPUT.nir OUT.npz

Every reader is used as its documentation says, on graph and spikes as they lie in the files; a step is the
unit of time. OUT.npz holds ``times``, the first spikes of the last layer ``(batch, neurons)``, ``T`` for
none, and ``most``, the most spikes of one of its neurons; of readers that are torch modules and go step by
step also those of every layer: ``times_0``, ``most_0`` and so on.
"""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor

BATCH = 250
Spikes = dict[str, np.ndarray]


def stepwise(net: torch.nn.Module, raster: Tensor) -> Spikes:
    """Return the rasters of all layers of a module that takes a step and a state and returns both."""
    fired: dict[str, list[np.ndarray]] = {}

    def note(key: str, _: Any, __: Any, out: Any) -> None:
        fired.setdefault(key, []).append(out[0].numpy())

    for name, module in net.named_children():
        if name.startswith("neurons_"):
            module.register_forward_hook(partial(note, name.removeprefix("neurons")))
    steps, state = [], None
    with torch.no_grad():
        for step in raster:
            out, state = net(step, state)
            steps.append(out.numpy())
    return {"": np.stack(steps), **{key: np.stack(one) for key, one in fired.items()}}


def spikingjelly(graph: nir.NIRGraph) -> Callable[[Tensor], Spikes]:
    """SpikingJelly's ``import_from_nir``."""
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return lambda raster: stepwise(import_from_nir(graph, dt=1.0), raster)


def norse(graph: nir.NIRGraph) -> Callable[[Tensor], Spikes]:
    """Norse's ``from_nir``."""
    import norse.torch

    return lambda raster: stepwise(norse.torch.from_nir(graph), raster)


def snntorch(graph: nir.NIRGraph) -> Callable[[Tensor], Spikes]:
    """snnTorch's ``import_from_nir``."""
    from snntorch.import_nir import import_from_nir

    return lambda raster: stepwise(import_from_nir(graph), raster)


def sinabs(graph: nir.NIRGraph) -> Callable[[Tensor], Spikes]:
    """sinabs's ``from_nir``, which takes whole sequences, samples and steps in one axis."""
    from sinabs.nir import from_nir

    def run(raster: Tensor) -> Spikes:
        steps, batch = raster.shape[:2]
        with torch.no_grad():
            out = from_nir(graph, num_timesteps=steps)(raster.transpose(0, 1).flatten(0, 1))
        out = out[0] if isinstance(out, tuple) else out
        return {"": out.unflatten(0, (batch, steps)).transpose(0, 1).numpy()}

    return run


def spyx(graph: nir.NIRGraph) -> Callable[[Tensor], Spikes]:
    """spyx's ``from_nir``, which runs the network at once."""
    import jax.numpy as jnp
    from spyx.nir import from_nir

    return lambda raster: {"": np.asarray(from_nir(graph, jnp.asarray(raster.numpy()))[1])}


def rasters(path: str) -> Iterator[Tensor]:
    """Yield input spikes ``(steps, batch, neurons)``, batch by batch."""
    (node,) = nir.read_data(path).nodes.values()
    events = node.observables["spikes"]
    for start in range(0, len(events.idx), BATCH):
        part = slice(start, start + BATCH)
        some = nir.EventData(events.idx[part], events.time[part], events.n_neurons, events.t_max)
        yield torch.from_numpy(some.to_time_gridded(1.0).data).transpose(0, 1).float()


def main() -> None:
    """Read, run, write."""
    reader, net, spikes, out = sys.argv[1:]
    warnings.simplefilter("ignore")
    logging.disable()
    readers = {one.__name__: one for one in (spikingjelly, norse, snntorch, sinabs, spyx)}
    found: dict[str, list[Any]] = {}
    for raster in rasters(spikes):
        # Read anew: some readers change the graph.
        for key, fired in readers[reader](nir.read(net))(raster).items():
            first = np.where(fired.any(0), (fired > 0).argmax(0), len(raster))
            found.setdefault(f"times{key}", []).append(first)
            found.setdefault(f"most{key}", []).append(fired.sum(0).max(keepdims=True).reshape(-1))
    np.savez(out, **{key: np.concatenate(parts) for key, parts in found.items()})


if __name__ == "__main__":
    main()
