"""Recordings of event cameras, and what networks receive of them: first events, or counts in frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstspike.data.images import ImageSet
from firstspike.spikes import Spikes
from firstspike.support import InputError, check_integer, check_num_steps

# Polarities of an event: it became darker, brighter.
OFF, ON = 0, 1


@dataclass(frozen=True, eq=False)
class Recording:
    """The events of one sample in the order of time; `of` takes arrays of yours.

    Attributes:
        x, y: column and row, integers ``(events,)``; the readers give int16.
        polarity: `OFF` or `ON`; the readers give uint8.
        time_us: microseconds from the start of the recording, int64, not falling.
        sensor: ``(height, width)``.

    >>> Recording.of(x=[3, 0], y=[1, 1], polarity=[1, 0], time_us=[40, 10], sensor=(2, 4)).time_us
    array([10, 40])
    """

    x: np.ndarray
    y: np.ndarray
    polarity: np.ndarray
    time_us: np.ndarray
    sensor: tuple[int, int]

    @classmethod
    def of(cls, x: Any, y: Any, polarity: Any, time_us: Any, sensor: tuple[int, int]) -> "Recording":
        """Return the recording of a camera's events, in any order.

        Args:
            x, y, polarity, time_us: integers or bools ``(events,)``, arrays, tensors or lists. A polarity
                is 1 where it became brighter, 0 where darker. Times count from the start of the recording:
                take that of the clock away first.
            sensor: ``(height, width)``.

        Raises:
            InputError: no integers, arrays of several lengths, none, or an event off the sensor or before
                time 0.
        """
        named = {"x": x, "y": y, "polarity": polarity, "time_us": time_us}
        columns = {name: _integers(name, values) for name, values in named.items()}
        if len({len(values) for values in columns.values()}) > 1:
            lengths = ", ".join(f"{len(values)} {name}" for name, values in columns.items())
            raise InputError(f"an event has one of each: x, y, polarity and time_us; found {lengths}")
        made = cls(**columns, sensor=_sensor(sensor))
        _check_places(made, "the recording", "mend it")
        if made.time_us.min() < 0:
            at = int(made.time_us.argmin())
            raise InputError(f"event {at} is at {made.time_us[at]} us; times count from the start, 0")
        order = np.argsort(made.time_us, kind="stable")
        return _narrow(cls(**{name: values[order] for name, values in columns.items()}, sensor=made.sensor))


def _integers(name: str, values: Any) -> np.ndarray:
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{name} must be integers (events,): {error}") from error
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iub"):
        raise InputError(f"{name} must be integers (events,), found {found.dtype} {found.shape}")
    return found.astype(np.int64)


def _sensor(sensor: Any) -> tuple[int, int]:
    sides = np.asarray(sensor)
    # Rows and columns are kept as int16.
    if sides.shape != (2,) or sides.dtype.kind not in "iu" or sides.min() < 1 or sides.max() >= 2**15:
        raise InputError(f"sensor must be (height, width), integers in 1 ... 32,767, found {sensor!r}")
    height, width = map(int, sides)
    return height, width


def check_recording(recording: Recording, path: Path) -> Recording:
    """Return `recording` in 13 bytes per event if its events lie on the sensor and in the order of time.

    Raises:
        InputError: there are none, or one does not; the line names the file and the event.
    """
    _check_places(recording, path, "fetch the file again")
    earlier = np.flatnonzero(np.diff(recording.time_us) < 0)
    if len(earlier) or recording.time_us[0] < 0:
        at = int(earlier[0]) + 1 if len(earlier) else 0
        raise InputError(f"{path}: event {at} comes before the one before it; fetch the file again")
    return _narrow(recording)


def _check_places(recording: Recording, source: Path | str, advice: str) -> None:
    """Raise InputError for no events, or one that is not on the sensor."""
    height, width = recording.sensor
    if not len(recording.x):
        raise InputError(f"{source}: expected events, found none; {advice}")
    for name, values, limit in (
        ("column", recording.x, width),
        ("row", recording.y, height),
        ("polarity", recording.polarity, 2),
    ):
        outside = np.flatnonzero((values < 0) | (values >= limit))
        if len(outside):
            at = int(outside[0])
            raise InputError(
                f"{source}: event {at} has {name} {values[at]}, expected 0 ... {limit - 1}; {advice}"
            )


def _narrow(recording: Recording) -> Recording:
    # Copies: a column of the file's table would keep all of the table in memory.
    return Recording(
        recording.x.astype(np.int16),
        recording.y.astype(np.int16),
        recording.polarity.astype(np.uint8),
        np.array(recording.time_us, np.int64),
        recording.sensor,
    )


@dataclass(frozen=True, eq=False)
class EventSet:
    """Recordings with one class label each.

    Attributes:
        name, split: as of `ImageSet`.
        recordings: of one sensor.
        labels: int64 ``(count,)``.
        num_classes: how many classes there are.
        duration_us: how much of each recording is used, from its start; None for all of it.
    """

    name: str
    split: str
    recordings: tuple[Recording, ...]
    labels: Tensor
    num_classes: int
    duration_us: int | None = None

    def __len__(self) -> int:
        return len(self.recordings)

    def first_spikes(self) -> ImageSet:
        """Return the first event of each pixel and polarity as an intensity: the earlier, the brighter.

        So a latency code gives its time back, to a step where ``T`` does not divide 255: 255 is the start
        of what is used, 1 its end, and 0 no event. Channels are the polarities ``(OFF, ON)``.
        """
        times = _first_steps(self.recordings, 255, self.duration_us)
        return ImageSet(self.name, self.split, 255 - times, self.labels, self.num_classes)


def first_spikes(recordings: Sequence[Recording], steps: int, duration_us: int | None = None) -> Spikes:
    """Return the first event of each pixel and polarity as its spike, ``(count, 2, height, width)``.

    Channels are the polarities ``(OFF, ON)``; later events are dropped.

    Args:
        recordings: of one sensor.
        steps: ``T``; a step is ``duration / T`` long.
        duration_us: how much of each recording is used, from its start; None for up to its last event.

    Raises:
        TypeError: `steps` is no integer, or `recordings` are none.
        ValueError: `steps` or `duration_us` out of range, or recordings of several sensors.

    >>> x, y, polarity, time_us = [3, 0, 0], [1, 1, 1], [1, 0, 0], [40, 10, 30]
    >>> camera = Recording.of(x, y, polarity, time_us, sensor=(2, 4))
    >>> spikes = first_spikes([camera], steps=8, duration_us=80)
    >>> spikes.shape, spikes.times[0, 1, 1].tolist(), spikes.times[0, 0, 1].tolist()
    (torch.Size([1, 2, 2, 4]), [8.0, 8.0, 8.0, 4.0], [1.0, 8.0, 8.0, 8.0])
    """
    steps = check_num_steps(steps)
    if not isinstance(recordings, Sequence) or not all(isinstance(one, Recording) for one in recordings):
        raise TypeError("first_spikes takes a list of Recording; put a single one into a list")
    sensors = {recording.sensor for recording in recordings}
    if len(sensors) > 1:
        raise ValueError(f"recordings must be of one sensor, found {', '.join(map(str, sorted(sensors)))}")
    return Spikes.trusted(_first_steps(recordings, steps, duration_us).to(torch.float32), steps)


def _first_steps(recordings: Sequence[Recording], steps: int, duration_us: int | None) -> Tensor:
    """The same as integers, uint8 where ``T`` fits."""
    out = [_first(recording, steps, duration_us) for recording in recordings]
    return torch.from_numpy(np.stack(out)) if out else torch.empty(0, 2, 0, 0, dtype=torch.uint8)


def frames(recordings: Sequence[Recording], steps: int, duration_us: int | None = None) -> Tensor:
    """Return event counts, int32 ``(count, T, 2, height, width)``; arguments as for `first_spikes`."""
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, found {steps}")
    out = []
    for recording in recordings:
        step, place = _steps(recording, steps, duration_us)
        size = 2 * recording.sensor[0] * recording.sensor[1]
        counts = np.bincount(step * size + place, minlength=steps * size)
        out.append(counts.reshape(steps, 2, *recording.sensor).astype(np.int32))
    return torch.from_numpy(np.stack(out)) if out else torch.empty(0, steps, 2, 0, 0, dtype=torch.int32)


def _first(recording: Recording, steps: int, duration_us: int | None) -> np.ndarray:
    step, place = _steps(recording, steps, duration_us)
    dtype = np.uint8 if steps < 256 else np.int32
    first = np.full(2 * recording.sensor[0] * recording.sensor[1], steps, dtype)
    # Backwards, so that the earliest event of a place is written last.
    first[place[::-1]] = step[::-1]
    return first.reshape(2, *recording.sensor)


def _steps(recording: Recording, steps: int, duration_us: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Step and flat place ``(polarity, y, x)`` of the events that are used."""
    last = int(recording.time_us[-1])
    duration = last + 1
    if duration_us is not None:
        duration = check_integer("events", "duration_us", duration_us, low=1)
    if last * steps > np.iinfo(np.int64).max:
        raise ValueError(f"{last} us in {steps} steps are too long; let times count from the start")
    step = recording.time_us * steps // duration
    height, width = recording.sensor
    place = (recording.polarity.astype(np.int64) * height + recording.y) * width + recording.x
    used = step < steps
    return step[used], place[used]
