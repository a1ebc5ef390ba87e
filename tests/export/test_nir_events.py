"""Spike times as NIR's event data, out and in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import draw_spikes, refused
from hypothesis import given, settings
from hypothesis import strategies as st

import firstspike as fs
from firstspike import InputError, Spikes

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")


def events_in(path: Path) -> Any:
    return nir.read_data(path).nodes["input"].observables["spikes"]


def test_events_are_in_the_order_of_time(tmp_path: Path) -> None:
    fs.export.nir_events(Spikes([[3, 8, 0, 3], [8, 8, 8, 1]], steps=8), tmp_path / "x.nir", dt=0.5)
    events = events_in(tmp_path / "x.nir")
    assert events.idx.tolist() == [[2, 0, 3], [3, -1, -1]]
    assert events.time.tolist() == [[0.0, 1.5, 1.5], [0.5, np.inf, np.inf]]
    assert (events.n_neurons, events.t_max) == (4, 4.0)


def test_their_raster_is_ours(tmp_path: Path) -> None:
    spikes = draw_spikes(7, 2, 3, steps=9)
    fs.export.nir_events(spikes, tmp_path / "x.nir")
    gridded = events_in(tmp_path / "x.nir").to_time_gridded(1.0).data
    assert np.array_equal(gridded.swapaxes(0, 1), spikes.flatten().raster().numpy())


@settings(deadline=None, max_examples=8)
@given(
    samples=st.integers(0, 3),
    neurons=st.integers(1, 5),
    steps=st.integers(2, 300),
    dt=st.sampled_from([1.0, 1e-4, 0.1, 3.0]),
)
def test_spikes_come_back(
    samples: int, neurons: int, steps: int, dt: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("events") / "x.nir"
    spikes = draw_spikes(samples, neurons, steps=steps, seed=steps)
    fs.export.nir_events(spikes, path, dt=dt)
    back = fs.from_nir_events(path, dt=dt)
    assert back.steps == steps
    assert torch.equal(back.times, spikes.times)


def test_times_in_single_precision_keep_their_steps(tmp_path: Path) -> None:
    steps = np.arange(60_000)
    times = (steps * 1e-4).astype(np.float32)[None]
    write(tmp_path / "x.nir", event_data([steps], times, neurons=60_000, t_max=6.0))
    assert np.array_equal(fs.from_nir_events(tmp_path / "x.nir", dt=1e-4).times.numpy()[0], steps)


def test_all_silent_neurons_come_back(tmp_path: Path) -> None:
    fs.export.nir_events(Spikes([[4, 4], [4, 4]], steps=4), tmp_path / "x.nir")
    assert fs.from_nir_events(tmp_path / "x.nir").times.tolist() == [[4, 4], [4, 4]]


def write(path: Path, events: Any, **further: Any) -> None:
    nodes = {"input": nir.NIRNodeData({"spikes": events}), **further}
    nir.write_data(path, nir.NIRGraphData(nodes))


def event_data(idx: Any, time: Any, neurons: int = 3, t_max: float = 8.0) -> Any:
    return nir.EventData(np.array(idx), np.array(time), neurons, t_max)


def test_a_time_within_a_step_counts_as_its_beginning(tmp_path: Path) -> None:
    data = nir.TimeGriddedData(np.eye(4, dtype=bool)[None], dt=0.1).to_event(4, time_shift=0.05)
    write(tmp_path / "x.nir", data)
    assert fs.from_nir_events(tmp_path / "x.nir", dt=0.1).times.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (event_data([[0, 0]], [[1.0, 2.0]]), ["spikes more than once"]),
        (event_data([[3]], [[1.0]]), ["no neuron in 0 ... 2"]),
        (event_data([[-2]], [[1.0]]), ["no neuron in 0 ... 2"]),
        (event_data([[0]], [[8.0]]), ["outside of its 8 steps"]),
        (event_data([[0]], [[-1.0]]), ["outside of its 8 steps"]),
        (event_data([[0]], [[np.nan]]), ["outside of its 8 steps"]),
        (event_data([[0]], [[1.0]], t_max=8.5), ["8.5 steps of 1", "give the dt"]),
        (event_data([[0]], [[1.0]], t_max=np.inf), ["inf steps", "give the dt"]),
        (event_data([0], [1.0]), ["is damaged", "(samples, events)"]),
        (event_data([[0.5]], [[1.0]]), ["is damaged", "(samples, events)"]),
        (event_data([[0]], [[1.0]], neurons=0), ["is damaged"]),
        (event_data(np.zeros((4, 0), int), np.zeros((4, 0)), neurons=2**30), ["4 samples of 1073741824"]),
        (nir.TimeGriddedData(np.zeros((1, 8, 3), bool), 1.0), ["holds TimeGriddedData", "EventData"]),
    ],
)
def test_what_are_no_first_spikes_is_refused(events: Any, words: list[str], tmp_path: Path) -> None:
    write(tmp_path / "x.nir", events)
    with refused(InputError, "x.nir", *words):
        fs.from_nir_events(tmp_path / "x.nir")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.nir"
    one = event_data([[0]], [[1.0]])
    write(path, one, other=nir.NIRNodeData({"spikes": one}))
    with refused(InputError, "x.nir holds EventData, EventData"):
        fs.from_nir_events(path)
    nir.write(path, nir.Linear(np.ones((2, 2))))
    with refused(InputError, "x.nir is damaged or no NIR file"):
        fs.from_nir_events(path)
    path.write_bytes(b"no HDF5 at all" * 100)
    with refused(InputError, "x.nir is damaged or no NIR file"):
        fs.from_nir_events(path)
    with refused(ValueError, "dt"):
        fs.from_nir_events(path, dt=0.0)
    with refused(TypeError, "expected Spikes"):
        fs.export.nir_events(torch.zeros(2, 3), tmp_path / "y.nir")  # type: ignore[arg-type]
    assert not (tmp_path / "y.nir").exists()
