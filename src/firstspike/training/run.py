"""Training a recipe into a folder."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from firstspike import tensorboard
from firstspike.data import ImageSet, Source
from firstspike.data.own_data import described
from firstspike.recipes.base import Recipe, maps
from firstspike.support import InputError, check_integer, option
from firstspike.training.diagnose import Diary
from firstspike.training.loop import alone_in_process, train_recipe
from firstspike.training.processes import asked_for, first, joined, own_device, wait_for_all
from firstspike.training.progress import nothing_left
from firstspike.training.run_folder import RunFolder
from firstspike.training.seeding import seeded
from firstspike.training.threads import threads_for, threads_kept


@threads_kept()
def train(
    path: str | Path,
    preset: str,
    config: Recipe,
    seed: int,
    *,
    data: Source = None,
    data_dir: str | Path | None = None,
    resume: bool = False,
    threads: int | None = None,
    device: str = "cpu",
    compiled: bool = False,
    show_progress: bool = True,
    events: bool = False,
    diagnose: Callable[[str], None] | None = None,
) -> RunFolder:
    """Train `config` into `path` and return the finished run.

    With `resume` a run that is there goes on from its last finished epoch, with the threads it was
    started with, and ends at the same weights to the bit; a finished one is returned as it is. Under
    ``torchrun`` the processes train one run together; only the first one writes. `diagnose` is told the
    state of every layer before the first epoch and after each, see `firstspike.training.diagnose`. With
    `events` each epoch's figures are written for TensorBoard, see `firstspike.tensorboard.write`. Without
    `threads` the work of a step decides, see `firstspike.training.threads`.

    `data` are your own, in place of the data set that `config` names: a path, arrays or tensors of inputs
    and labels, an `ImageSet`, a map-style ``torch.utils.data.Dataset``, or a `Dataset`; see
    `firstspike.data.own`. Given to `Preset.configure` instead, they fit a preset to small images too.

    Raises:
        InputError: the network cannot be built for the data set's samples; `diagnose`, `device`, `compiled`
            or ``torchrun`` with a recipe that knows nothing of it; `events` without TensorBoard; see
            `RunFolder.create` and `firstspike.data.load`; another process trains there, or another thread
            of this one.
        TypeError: `config` is no recipe.
        ValueError: `seed` is no integer of 0 or more.
        Diverged: a loss or a weight is not finite; finished epochs are kept.
        OSError: the data cannot be read or the folder cannot be written.
    """
    seed = check_integer("train", "seed", seed, low=0)
    path, data_dir = Path(path), None if data_dir is None else Path(data_dir)
    if not isinstance(config, Recipe):
        raise TypeError(
            f"train takes a recipe, as Preset.configure returns it, found {type(config).__name__}"
        )
    if data is not None:
        config = config.on(described(data))
    if not config.trainable:
        raise InputError(f"{type(config).__name__} holds a finished network, which is not trained")
    if asked_for() > 1 and not config.in_processes:
        raise InputError(f"{preset} trains in one process; start it without torchrun")
    if diagnose is not None and not config.has_layers:
        raise InputError(
            f"--diagnose reads the spike times of classifiers; {preset} has none; leave it out"
        )
    if (device != "cpu" or compiled) and not config.on_gpu:
        raise InputError(
            f"preset {preset} trains on the CPU, by kernels compiled already; leave --device and --compile "
            "out"
        )
    if events:
        tensorboard.needed()
    # Looked at before the data, which may be a download; made after them, so that none is left empty.
    found = RunFolder.find(path, preset, config, seed, resume=resume)
    if found is not None and found.finished:
        if events:
            tensorboard.write(path)
        if show_progress and first():
            nothing_left(str(path))
        return found
    train_set = config.data("train", data_dir)
    validation = config.data("validation", data_dir) if config.judged else None
    device = own_device(device)
    with ExitStack() as held:
        held.enter_context(alone_in_process())
        held.enter_context(joined(device))
        if found is None:
            model = _built(preset, config, train_set)
            torch.set_num_threads(threads or threads_for(model, train_set.images, config.batch_size))
        path.mkdir(parents=True, exist_ok=True)
        if first():
            held.enter_context(alone_in(path))
        run = _start(path, preset, config, seed, resume, device)
        torch.set_num_threads(run.threads)
        # Whoever held the lock before may have finished it.
        if run.finished:
            return run
        diary = None
        if diagnose is not None and validation is not None:
            diary = Diary(run.path, run.recipe, validation, diagnose)

        def watch(epoch: int, model: torch.nn.Module) -> None:
            if diary is not None:
                diary(epoch, model)
            if events and epoch:
                tensorboard.write(path)

        train_recipe(
            run,
            train_set,
            validation,
            device=device,
            compiled=compiled,
            show_progress=show_progress,
            watch=watch,
        )
    return run


def _built(preset: str, config: Recipe, train: ImageSet) -> torch.nn.Module:
    """A first network, from which no folder is left if it cannot be made for these samples."""
    try:
        with seeded(0):
            return config.build(tuple(maps(train.images[:1]).shape[1:]), train.num_classes)
    except ValueError as error:
        raise InputError(f"{preset} on {config.dataset}: {error}") from error


def _start(path: Path, preset: str, config: Recipe, seed: int, resume: bool, device: str) -> RunFolder:
    """The run that all processes train; the first one makes it, the others wait for it."""
    if first():
        run = RunFolder.create(path, preset, config, seed, resume=resume, device=device)
        wait_for_all()
        return run
    wait_for_all()
    return replace(RunFolder.open(path), config=config)


@contextmanager
def alone_in(path: Path) -> Iterator[None]:
    """Keep other processes from training in `path`; the system frees the lock of a process that dies."""
    file = path / ".lock"
    try:
        lock = FileLock(file, timeout=0).acquire()
    except Timeout as error:
        raise InputError(
            f"another process trains in {path}; wait for it or give another {option('out')}"
        ) from error
    with lock:
        try:
            yield
        finally:
            # An open file cannot be removed everywhere, and one that stays does no harm.
            with suppress(OSError):
                file.unlink()
