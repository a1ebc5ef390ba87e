"""Recordings of event cameras, and what networks receive of them: first events, or counts in frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from firstspike.data.images import ImageSet
from firstspike.support import InputError

# Polarities of an event: it became darker, brighter.
OFF, ON = 0, 1


@dataclass(frozen=True, eq=False)
class Recording:
    """The events of one sample in the order of time.

    Attributes:
        x, y: column and row, integers ``(events,)``; the readers give int16.
        polarity: `OFF` or `ON`; the readers give uint8.
        time_us: microseconds from the start of the recording, int64, not falling.
        sensor: ``(height, width)``.
    """

    x: np.ndarray
    y: np.ndarray
    polarity: np.ndarray
    time_us: np.ndarray
    sensor: tuple[int, int]


def check_recording(recording: Recording, path: Path) -> Recording:
    """Return `recording` in 13 bytes per event if its events lie on the sensor and in the order of time.

    Raises:
        InputError: there are none, or one does not; the line names the file and the event.
    """
    height, width = recording.sensor
    if not len(recording.x):
        raise InputError(f"{path}: expected events, found none; fetch the file again")
    for name, values, limit in (
        ("column", recording.x, width),
        ("row", recording.y, height),
        ("polarity", recording.polarity, 2),
    ):
        outside = np.flatnonzero((values < 0) | (values >= limit))
        if len(outside):
            at = int(outside[0])
            raise InputError(
                f"{path}: event {at} has {name} {values[at]}, expected 0 ... {limit - 1}; fetch it again"
            )
    earlier = np.flatnonzero(np.diff(recording.time_us) < 0)
    if len(earlier) or recording.time_us[0] < 0:
        at = int(earlier[0]) + 1 if len(earlier) else 0
        raise InputError(f"{path}: event {at} comes before the one before it; fetch the file again")
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
        times = first_spike_maps(self.recordings, 255, self.duration_us)
        return ImageSet(self.name, self.split, 255 - times, self.labels, self.num_classes)


def first_spike_maps(recordings: Sequence[Recording], steps: int, duration_us: int | None = None) -> Tensor:
    """Return the step of each pixel's first event, uint8 ``(count, 2, height, width)``, ``T`` for none.

    Args:
        recordings: of one sensor.
        steps: ``T``, at most 255; a step is ``duration / T`` long.
        duration_us: how much of each is used; None for up to its last event.

    Raises:
        ValueError: `steps` or `duration_us` out of range.
    """
    if not 1 <= steps <= 255:
        raise ValueError(f"steps must be 1 ... 255, found {steps}")
    out = [_first(recording, steps, duration_us) for recording in recordings]
    return torch.from_numpy(np.stack(out)) if out else torch.empty(0, 2, 0, 0, dtype=torch.uint8)


def frames(recordings: Sequence[Recording], steps: int, duration_us: int | None = None) -> Tensor:
    """Return event counts, int32 ``(count, T, 2, height, width)``; arguments as for `first_spike_maps`."""
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
    first = np.full(2 * recording.sensor[0] * recording.sensor[1], steps, np.uint8)
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
