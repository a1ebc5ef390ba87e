"""Training a configuration into a folder, whatever its task."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from firstspike.data import ImageSet, dataset, load
from firstspike.support import InputError
from firstspike.training.config import Config, GanConfig
from firstspike.training.deep_config import OneStepConfig, SupervisedConfig
from firstspike.training.diagnose import Diary
from firstspike.training.gan import build_gan, train_gan
from firstspike.training.one_step import OneStepTask
from firstspike.training.processes import asked_for, first, joined, own_device, wait_for_all
from firstspike.training.run_folder import RunFolder
from firstspike.training.seeding import seeded
from firstspike.training.supervised import train_supervised
from firstspike.training.tasks import task_for
from firstspike.training.threads import threads_for

# Of images that a GAN can draw and the feature network can judge.
_SMALLEST_SIDE = 4


def train(
    path: Path,
    preset: str,
    config: Config,
    seed: int,
    *,
    data_dir: Path | None = None,
    resume: bool = False,
    threads: int | None = None,
    device: str = "cpu",
    compiled: bool = False,
    show_progress: bool = True,
    diagnose: Callable[[str], None] | None = None,
) -> RunFolder:
    """Train `config` into `path` and return the finished run.

    `threads` are processor threads; without, the work of a step decides, see `threads.threads_for`.
    With `resume` a run that is there goes on from its last finished epoch, with the threads it was
    started with, and ends at the same weights to the bit; a finished one is returned as it is. Under
    ``torchrun`` the processes train one run together; only the first one writes. `diagnose` is told the
    state of every layer before the first epoch and after each, see `firstspike.training.diagnose`.

    Raises:
        InputError: a GAN or a one-step network with `diagnose`; `device` or `compiled` for a shallow
            network; another process trains there; or see `processes.asked_for`, `RunFolder.create` and
            `firstspike.data.load`.
        OSError: the data cannot be read or the folder cannot be written.
    """
    if asked_for() > 1 and isinstance(config, GanConfig):
        raise InputError(f"{preset} is a GAN, which trains in one process; start it without torchrun")
    if diagnose is not None and isinstance(config, GanConfig | OneStepConfig):
        raise InputError(
            f"--diagnose reads the spike times of classifiers; {preset} has none; leave it out"
        )
    if (device != "cpu" or compiled) and not isinstance(config, SupervisedConfig):
        raise InputError(
            f"preset {preset} trains on the CPU, by kernels compiled already; leave --device and --compile "
            "out"
        )
    channels, *sides = dataset(config.dataset).shape
    if isinstance(config, GanConfig) and (channels > 1 or min(sides) < _SMALLEST_SIDE):
        raise InputError(
            f"{preset} draws grey images of {_SMALLEST_SIDE} x {_SMALLEST_SIDE} pixels or more, and "
            f"{config.dataset} has none; give another --dataset"
        )
    # Looked at before the data, which may be a download; made after them, so that none is left empty.
    found = RunFolder.find(path, preset, config, seed, resume=resume)
    if found is not None and found.finished:
        torch.set_num_threads(found.threads)
        return found
    images = load(config.dataset, "train", data_dir)
    validation = None if isinstance(config, GanConfig) else load(config.dataset, "validation", data_dir)
    path.mkdir(parents=True, exist_ok=True)
    device = own_device(device)
    with joined(device), _alone(path) if first() else nullcontext():
        if found is None:
            torch.set_num_threads(threads or threads_for(*_work(config, images)))
        run = _start(path, preset, config, seed, resume)
        torch.set_num_threads(run.threads)
        # Whoever held the lock before may have finished it.
        if run.finished:
            return run
        if isinstance(config, GanConfig):
            train_gan(run, images, show_progress=show_progress)
        else:
            assert validation is not None
            task = task_for(config)
            watch = None
            if diagnose is not None and not isinstance(task, OneStepTask):
                watch = Diary(run.path, task, validation, diagnose)
            train_supervised(
                run,
                task,
                images,
                validation,
                device=device,
                compiled=compiled,
                show_progress=show_progress,
                watch=watch,
            )
    return run


def _work(config: Config, images: ImageSet) -> tuple[list[torch.nn.Module], Tensor, int]:
    """What `threads_for` asks about a training: networks, images and how many of them make a batch."""
    networks: list[torch.nn.Module]
    with seeded(0):
        if isinstance(config, GanConfig):
            height, width = images.images.shape[1:]
            networks = [*build_gan(config, (height, width), images.num_classes)]
        else:
            networks = [task_for(config).build(images)]
    return networks, images.images, config.batch_size


def _start(path: Path, preset: str, config: Config, seed: int, resume: bool) -> RunFolder:
    """The run that all processes train; the first one makes it, the others wait for it."""
    if first():
        run = RunFolder.create(path, preset, config, seed, resume=resume)
        wait_for_all()
        return run
    wait_for_all()
    return RunFolder.open(path)


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
