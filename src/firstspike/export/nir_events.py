"""Spike times as NIR's event data: the first spikes of a population, in a file that other tools read."""

from pathlib import Path

import numpy as np
import torch

from firstspike.export.nir_files import damaged, nir_package, read_tree, write_whole
from firstspike.spikes import Spikes, check_spikes
from firstspike.support import MAX_NUM_STEPS, InputError, check_number, expanded, one_line

# Spike times that a small file may ask for: 1 GB.
_MAX_TIMES = 2**28


def nir_events(spikes: Spikes, path: str | Path, *, node: str = "input", dt: float = 1.0) -> None:
    """Write spike times as NIR event data; `firstspike.from_nir_events` reads them back.

    A sample's events are in the order of time; where it has fewer than others, its places hold the index
    -1 and the time infinity, as NIR has it. Silent neurons have no event.

    Args:
        spikes: ``(batch, ...)``; a sample's neurons are numbered in one row, channels first.
        path: of the file.
        node: of the network's graph that the spikes belong to.
        dt: of a time step, in the unit of time of whoever reads.

    Raises:
        TypeError: no `Spikes`.
        ValueError: `dt` is not above 0.
        InputError: the package nir is missing.
        OSError: the file cannot be written.
    """
    times = check_spikes(spikes).detach().flatten().times.double().cpu().numpy()
    dt, package = check_number("nir_events", "dt", dt, low=0, above=True), nir_package()
    order = np.argsort(times, axis=1, kind="stable")
    counts = (times < spikes.steps).sum(1)
    idx = order[:, : counts.max(initial=0)]
    fired = np.arange(idx.shape[1]) < counts[:, None]
    when = np.where(fired, np.take_along_axis(times, idx, 1) * dt, np.inf)
    events = package.EventData(np.where(fired, idx, -1), when, times.shape[1], spikes.steps * dt)
    data = package.NIRGraphData({node: package.NIRNodeData({"spikes": events})})
    write_whole(expanded(path, "path"), package.write_data, data)


def from_nir_events(path: str | Path, *, dt: float = 1.0) -> Spikes:
    """Return the spike times in a file of NIR event data, float32 ``(samples, neurons)``.

    Args:
        path: of the file, which holds the events of one node.
        dt: of a time step, in the file's unit of time; a time within a step counts as its beginning.

    Raises:
        InputError: the file cannot be read or is damaged, holds several populations or something else than
            events, a neuron that spikes more than once, a time out of range, or a length that is no whole
            number of steps; or the package nir is missing.
        ValueError: `dt` is not above 0.
    """
    dt, path = check_number("from_nir_events", "dt", dt, low=0, above=True), expanded(path, "path")
    tree = read_tree(path)
    try:
        populations = {
            f"{node}/{name}": population
            for node, data in tree["nodes"].items()
            for name, population in data["observables"].items()
        }
        kinds = [population["@__type__"] for population in populations.values()]
        if kinds != ["EventData"]:
            raise InputError(
                f"{path.name} holds {', '.join(kinds) or 'nothing'}; give a file with the EventData of "
                "one node"
            )
        (events,) = populations.values()
        neurons, length = int(events["@n_neurons"]), float(events["@t_max"]) / dt
        idx, when = np.asarray(events["idx"]), np.asarray(events["time"], np.float64)
        if idx.ndim != 2 or idx.shape != when.shape or idx.dtype.kind not in "iu" or neurons < 1:
            raise damaged(path, "indices and times must be (samples, events)")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, one_line(str(error)) or type(error).__name__) from error
    return _spikes(idx, when, neurons, length, dt, path.name)


def _spikes(idx: np.ndarray, when: np.ndarray, neurons: int, length: float, dt: float, name: str) -> Spikes:
    steps = round(length) if abs(length) <= MAX_NUM_STEPS else 0
    if steps < 2 or abs(length - steps) > 1e-6 * steps:
        raise InputError(
            f"{name} lasts {length:g} steps of {dt:g}; give the dt that makes them whole, "
            f"2 ... {MAX_NUM_STEPS}"
        )
    if len(idx) * neurons > _MAX_TIMES:
        raise InputError(f"{name} holds {len(idx)} samples of {neurons} neurons; give fewer at once")
    fired = idx >= 0
    # Rounding, also to float32, puts a whole step's multiple just below it.
    exact = np.where(fired, when, 0.0) / dt
    step = np.floor(exact + 1e-6 * (1 + np.abs(exact)))
    if (idx < -1).any() or (idx >= neurons).any() or not ((step >= 0) & (step < steps)).all():
        raise InputError(
            f"{name} has an event of no neuron in 0 ... {neurons - 1} or outside of its {steps} steps"
        )
    sample, place = np.nonzero(fired)
    flat = sample * neurons + idx[sample, place].astype(np.int64)
    if np.unique(flat).size < flat.size:
        raise InputError(f"{name} has a neuron that spikes more than once in a sample; at most one is read")
    times = np.full(len(idx) * neurons, steps, np.float32)
    times[flat] = step[sample, place]
    return Spikes(torch.from_numpy(times.reshape(-1, neurons)), steps)
