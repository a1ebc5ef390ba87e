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
from firstspike.support import InputError, check_num_steps

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
                is 1 where it became brighter, 0 where darker.
            sensor: ``(height, width)``.

        Raises:
            InputError: no integers, arrays of several lengths, none, or an event off the sensor or before
                time 0.
        """
        named = {"x": x, "y": y, "polarity": polarity, "time_us": time_us}
        columns = {name: np.asarray(values) for name, values in named.items()}
        for name, values in columns.items():
            if values.ndim != 1 or values.dtype.kind not in "iub" or len(values) != len(columns["x"]):
                raise InputError(
                    f"{name} must be integers (events,), one for each x, found {values.dtype} "
                    f"{values.shape}"
                )
        order = np.argsort(columns["time_us"], kind="stable")
        ordered = {name: values[order].astype(np.int64) for name, values in columns.items()}
        return check_recording(cls(**ordered, sensor=sensor), "the recording", "mend it")


def check_recording(
    recording: Recording, source: Path | str, advice: str = "fetch the file again"
) -> Recording:
    """Return `recording` in 13 bytes per event if its events lie on the sensor and in the order of time.

    Args:
        recording: to be checked.
        source, advice: where it is from, and what to do about it, for messages.

    Raises:
        InputError: there are none, or one does not; the line names the event.
    """
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
    earlier = np.flatnonzero(np.diff(recording.time_us) < 0)
    if len(earlier) or recording.time_us[0] < 0:
        at = int(earlier[0]) + 1 if len(earlier) else 0
        raise InputError(f"{source}: event {at} comes before the one before it; {advice}")
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
        TypeError: `steps` is no integer.
        ValueError: `steps` or `duration_us` out of range, or recordings of several sensors.

    >>> x, y, polarity, time_us = [3, 0, 0], [1, 1, 1], [1, 0, 0], [40, 10, 30]
    >>> camera = Recording.of(x, y, polarity, time_us, sensor=(2, 4))
    >>> spikes = first_spikes([camera], steps=8, duration_us=80)
    >>> spikes.shape, spikes.times[0, 1, 1].tolist(), spikes.times[0, 0, 1].tolist()
    (torch.Size([1, 2, 2, 4]), [8.0, 8.0, 8.0, 4.0], [1.0, 8.0, 8.0, 8.0])
    """
    steps = check_num_steps(steps)
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
    first = np.full(
        2 * recording.sensor[0] * recording.sensor[1], steps, np.uint8 if steps < 256 else np.int32
    )
    # Backwards, so that the earliest event of a place is written last.
    first[place[::-1]] = step[::-1]
    return first.reshape(2, *recording.sensor)


def _steps(recording: Recording, steps: int, duration_us: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Step and flat place ``(polarity, y, x)`` of the events that are used."""
    if duration_us is not None and duration_us < 1:
        raise ValueError(f"duration_us must be 1 or more, found {duration_us}")
    duration = int(recording.time_us[-1]) + 1 if duration_us is None else duration_us
    step = recording.time_us * steps // duration
    height, width = recording.sensor
    place = (recording.polarity.astype(np.int64) * height + recording.y) * width + recording.x
    used = step < steps
    return step[used], place[used]
