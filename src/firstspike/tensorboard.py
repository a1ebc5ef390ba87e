"""A run's figures for TensorBoard, written by its own event writer; TensorFlow is not needed."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from firstspike.support import InputError, atomic_path, read_metrics

# TensorBoard knows event files by this beginning and reads them in the order of their names.
_NAME = "events.out.tfevents.{}.firstspike"


def write(run: str | Path) -> Path:
    """Write a run's figures as events into its folder ``tensorboard`` and return that folder.

    Each number of ``metrics.jsonl`` becomes a scalar of its name, at the step of its epoch. Only epochs
    that are not there yet are written, as one more file, so it may be called again while the run goes on,
    as ``firstspike train --tensorboard`` does. ``tensorboard --logdir RUN`` shows them.

    Args:
        run: the run folder.

    Raises:
        InputError: no epoch is finished there, its figures are damaged, or TensorBoard is not installed.
        OSError: the folder cannot be read or written.
    """
    event, summary, record_writer = needed()
    records, folder = read_metrics(run), Path(run) / "tensorboard"
    there = max((path.name for path in folder.glob(_NAME.format("*"))), default="")
    new = [record for record in records if _file(record) > there]
    if not new:
        return folder
    # As if the epochs had ended one after the other, and the last one now.
    clock = time.time() - sum(record["seconds"] for record in new)
    with atomic_path(folder / _file(new[-1])) as temporary, temporary.open("wb") as file:
        writer = record_writer.RecordWriter(file)
        writer.write(event.Event(wall_time=clock, file_version="brain.Event:2").SerializeToString())
        for record in new:
            clock += record["seconds"]
            values = [
                summary.Summary.Value(tag=name, simple_value=value) for name, value in _scalars(record)
            ]
            written = event.Event(
                wall_time=clock, step=record["epoch"], summary=summary.Summary(value=values)
            )
            writer.write(written.SerializeToString())
    return folder


def needed() -> tuple[Any, Any, Any]:
    """Return TensorBoard's modules for events, summaries and records.

    Raises:
        InputError: it is not installed.
    """
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer import record_writer
    except ImportError as error:
        raise InputError(
            f"TensorBoard is missing ({error}); pip install 'firstspike[tensorboard]'"
        ) from error
    return event_pb2, summary_pb2, record_writer


def _file(last: dict[str, Any]) -> str:
    return _NAME.format(f"{last['epoch']:010d}")


def _scalars(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if name != "epoch" and isinstance(value, int | float):
            yield name, value
