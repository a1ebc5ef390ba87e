"""Training a configuration into a folder, whatever its task."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from firstspike.data import load
from firstspike.errors import InputError
from firstspike.training.classifier import train_classifier
from firstspike.training.config import Config, GanConfig
from firstspike.training.gan import train_gan
from firstspike.training.run_folder import RunFolder


def train(
    path: Path,
    preset: str,
    config: Config,
    seed: int,
    *,
    data_dir: Path | None = None,
    resume: bool = False,
    threads: int = 2,
    show_progress: bool = True,
) -> RunFolder:
    """Train `config` into `path` and return the finished run.

    With `resume` a run that is there goes on from its last finished epoch, with the threads it was
    started with, and ends at the same weights to the bit; a finished one is returned as it is.

    Raises:
        InputError: see `RunFolder.create` and `firstspike.data.load`; or another process trains there.
        OSError: the data cannot be read or the folder cannot be written.
    """
    # Looked at before the data, which may be a download; made after them, so that none is left empty.
    found = RunFolder.find(path, preset, config, seed, resume=resume)
    if found is not None and found.finished:
        torch.set_num_threads(found.threads)
        return found
    images = load(config.dataset, "train", data_dir)
    validation = None if isinstance(config, GanConfig) else load(config.dataset, "validation", data_dir)
    path.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        torch.set_num_threads(threads)
        run = RunFolder.create(path, preset, config, seed, resume=resume)
        torch.set_num_threads(run.threads)
        # Whoever held the lock before may have finished it.
        if run.finished:
            return run
        if validation is None:
            train_gan(run, images, show_progress=show_progress)
        else:
            train_classifier(run, images, validation, show_progress=show_progress)
    return run


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from training in `path`; the system frees the lock of a process that dies."""
    file = path / ".lock"
    try:
        lock = FileLock(file, timeout=0).acquire()
    except Timeout as error:
        raise InputError(f"another process trains in {path}; wait for it or give another --out") from error
    with lock:
        try:
            yield
        finally:
            # An open file cannot be removed everywhere, and one that stays does no harm.
            with suppress(OSError):
                file.unlink()
